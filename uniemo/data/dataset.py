"""The dataset of a manifest's images; crops and flips depend on (seed, epoch, sample) only."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
import warnings
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from uniemo.cache import size_and_change
from uniemo.data.batch import EmotionSample
from uniemo.data.images import ImageCache, UnreadableImageError
from uniemo.data.manifest import Manifest
from uniemo.data.transforms import PairedTransform
from uniemo.errors import UniEmoError, naming

if TYPE_CHECKING:
    from uniemo.data.latent_cache import CachedLatents

_Read = TypeVar("_Read")


class SkippedFiles:
    """The images that were met and could not be read, known to all processes of a run.

    Each is a line in a JSON Lines file (``file``, ``reason``, ``bytes`` and ``changed``) that every loader worker and
    every rank appends to and reads again when it has grown. A file that was mended since (another size or time of
    change) is no longer on the list, so that a list may be taken along when training goes on.

    Args:
        path: the JSON Lines file, made when the first image fails; None takes one in the folder for temporary files.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        temporary = Path(tempfile.gettempdir()) / f"uniemo-skipped-{uuid.uuid4().hex}.jsonl"
        self.path = temporary if path is None else Path(path)
        self._found: dict[str, tuple[str, tuple[int, int]]] = {}
        self._read = 0  # bytes of the file that _found knows

    def __contains__(self, file: str | Path) -> bool:
        """Return whether the file as it lies there has failed before."""
        self._refresh()
        known = self._found.get(str(file))
        return known is not None and known[1] == _look(file)

    def __len__(self) -> int:
        """Return how many images failed."""
        self._refresh()
        return len(self._found)

    def files(self) -> list[tuple[str, str]]:
        """Return (file, reason) of each image that failed, in the order in which they were met."""
        self._refresh()
        return [(file, reason) for file, (reason, _) in self._found.items()]

    def add(self, file: str | Path, reason: str) -> None:
        """Put a file, or ``<shard>#<row>``, on the list and say so."""
        size, changed = _look(file)
        row = {"file": str(file), "reason": reason, "bytes": size, "changed": changed}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(row).encode() + b"\n"
        with naming(self.path), open(self.path, "ab", buffering=0) as store:
            store.write(line)  # at once, so that lines of several processes do not mix
        warnings.warn(f"left out {file} ({reason}); the list is {self.path}", stacklevel=2)

    def summary(self) -> str:
        """Return the count and the place of the list in a line; empty when nothing failed."""
        count = len(self)
        noun = "image was" if count == 1 else "images were"
        return f"{count} unreadable {noun} left out: {self.path}" if count else ""

    def _refresh(self) -> None:
        """Read what was appended since the last look."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            return
        if size <= self._read:
            return
        with open(self.path, "rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # the last line may still be on its way
        self._read += len(whole)
        for line in whole.splitlines():
            row = json.loads(line)
            self._found[row["file"]] = (row["reason"], (row["bytes"], row["changed"]))


def _look(file: str | Path) -> tuple[int, int]:
    """Return size and time of change of a file, or of the shard that a row is in; (-1, -1) where nothing is."""
    found = size_and_change(file)
    return found if found != (-1, -1) else size_and_change(str(file).rpartition("#")[0])


class EmotionDataset(Dataset[EmotionSample]):
    """The images of a manifest.

    Args:
        records: files and labels.
        transform: makes the views.
        seed: with epoch and sample id it decides crop and flip.
        images: shared store of decoded images; None makes one of its own.
        with_masks: read the masks where the tree has them.
        on_error: for an image that cannot be read, ``raise`` stops with its path; ``skip`` gives None in its place, now
            and whenever it is asked for again, and adds it to the list of skipped files. An unreadable mask then counts
            as one that the tree lacks.
        skipped: that list; None makes one.
        distributions: give samples the distribution of their votes, one-hot where there are none.

    Attributes:
        latents: where samples find the VAE's posterior of their view; None gives them the view's pixels.

    Raises:
        UniEmoError: an unknown ``on_error``.
    """

    def __init__(
        self,
        records: Manifest,
        transform: PairedTransform,
        seed: int = 0,
        images: ImageCache | None = None,
        with_masks: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        skipped: SkippedFiles | None = None,
        distributions: bool = False,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise UniEmoError(f"on_error must be raise or skip; got {on_error!r}")
        self.records = records
        self.transform = transform
        self.seed = seed
        self.images = images if images is not None else ImageCache(len(records))
        self.with_masks = with_masks and records.has_masks()
        self.on_error = on_error
        self.skipped = skipped if skipped is not None else SkippedFiles()
        self.distributions = distributions
        self.latents: CachedLatents | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.records)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> EmotionDataset:
        """Return the images at ``indices``; all else is shared."""
        part = copy(self)
        part.records = self.records.take(indices)
        return part

    def __getitem__(self, key: int) -> EmotionSample | None:  # type: ignore[override]  # None never leaves a loader
        """Return the sample of ``key = epoch * len(self) + index`` (a plain index is epoch 0)."""
        epoch, index = divmod(int(key), len(self.records))
        return self.sample(index, epoch)

    def sample(self, index: int, epoch: int) -> EmotionSample | None:
        """Return image ``index`` as it looks in ``epoch``; the same arguments give the same sample.

        Returns:
            None for an image that cannot be read, where ``on_error`` is ``skip``.

        Raises:
            UnreadableImageError: such an image, where ``on_error`` is ``raise``.
            LatentsGoneError: its latents are no longer in the cache.
        """
        records = self.records
        mask = None
        if self.with_masks and (mask_path := records.mask(index)) is not None:
            mask = self._readable(mask_path, lambda path: self.images.read(path, mask=True))
        sample_id = int(records.sample_id[index])

        def views(path: Path) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
            image = self.images.open(path) if self.transform.train else self.images.read(path)
            rng = np.random.default_rng((self.seed, epoch, sample_id))
            if self.latents is None:
                return *self.transform(image, rng, mask), None
            box, flip = self.transform.geometry(image.width, image.height, rng)
            return self.transform.view(image, box, flip), None, None, self.latents.read(index, flip)

        made = self._readable(records.path(index), views)
        if made is None:
            return None
        view, target, mask_view, latents = made
        if self.with_masks and mask_view is None:
            mask_view = torch.zeros_like(view[:1])
        objects = np.zeros(len(records.vocabulary.objects), dtype=bool)
        objects[records.objects(index)] = True
        affect = None if records.vocabulary.affect is None else torch.tensor(records.affect(index))
        return EmotionSample(
            image=view,
            target=target,
            emotion=int(records.emotion[index]),
            scene=int(records.scene[index]),
            objects=torch.from_numpy(objects),
            generated=records.info.generated,
            sample_id=sample_id,
            name=records.name(index),
            mask=mask_view,
            latents=latents,
            distribution=torch.tensor(records.distribution(index)) if self.distributions else None,
            affect=None if affect is None else affect[:2],
            affect_sd=None if affect is None else affect[2:],
        )

    def parts(self) -> list[tuple[EmotionDataset, NDArray[np.int64]]]:
        """Return the datasets of one list of records that this one is made of, and which of their images it uses."""
        return [(self, np.arange(len(self)))]

    def target(self, index: int) -> Tensor | None:
        """Return the VAE's view (3, D, D) of the central square of image ``index``, as training sees it unflipped.

        Returns:
            None for an image that cannot be read, where ``on_error`` is ``skip``.

        Raises:
            UnreadableImageError: such an image, where ``on_error`` is ``raise``.
        """

        def view(path: Path) -> Tensor:
            image = self.images.open(path)
            box, _ = self.transform.geometry(image.width, image.height, np.random.default_rng(0))
            return self.transform.target(image, box, flip=False)

        return self._readable(self.records.path(index), view)

    def _readable(self, path: Path, read: Callable[[Path], _Read]) -> _Read | None:
        """Return what ``read`` makes of a file, or None where it cannot and such files are to be skipped."""
        if self.on_error == "raise":
            return read(path)
        if path in self.skipped:
            return None
        try:
            return read(path)
        except UnreadableImageError as error:
            self.skipped.add(path, error.reason)
            return None


class EpochSampler(DistributedSampler[int]):
    """Shuffle by (seed, epoch) and hand out ``epoch * num_samples + index``, so that a dataset knows the epoch.

    Lightning calls :meth:`set_epoch` before each epoch; a resumed run therefore sees what an unbroken one would have
    seen. Of R ranks, rank r gets the places r, r + R, r + 2R … of the one order: the n-th batches of all ranks together
    are the n-th batch, R times as large, of a single process. (Lightning leaves a DistributedSampler alone; any other
    sampler it shuffles once more.)

    Args:
        num_samples: N.
        seed: of the order.
        batch_size: B, images per batch of each rank. All ranks have equally many batches, and where the last one would
            leave a rank with nothing, it gets an image of the others' once more.
    """

    def __init__(self, num_samples: int, seed: int = 0, batch_size: int = 1) -> None:
        from uniemo.distributed import get_rank, get_world_size

        rank, ranks = get_rank(), get_world_size()
        super().__init__(range(num_samples), ranks, rank, seed=seed)  # type: ignore[arg-type]  # it asks for a length
        left = num_samples % (ranks * batch_size)  # images for the last batches of all ranks
        self.num_samples = num_samples
        self.total_size = num_samples + (ranks - left if 0 < left < ranks else 0)

    def __len__(self) -> int:
        """Return how many images this rank gets."""
        return len(range(self.rank, self.total_size, self.num_replicas))

    def __iter__(self) -> Iterator[int]:
        """Yield one key for each sample of this rank."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_samples)
        order = np.resize(order, self.total_size)  # goes on from the beginning where there are more
        return iter((order[self.rank :: self.num_replicas] + self.epoch * self.num_samples).tolist())


def choose_per_emotion(emotion: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Return sorted indices of at most ``limit`` seeded random samples of each emotion.

    Args:
        emotion: (N,) class indices.
        limit: most samples of one emotion.
        seed: of the choice.
    """
    chosen = []
    for label in np.unique(emotion):
        rows = np.flatnonzero(emotion == label)
        order = np.random.default_rng((seed, int(label))).permutation(len(rows))
        chosen.append(rows[order[:limit]])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)
