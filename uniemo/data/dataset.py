"""The one dataset class: a table of records, a transform, and randomness that depends on (seed, epoch, sample) only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, DistributedSampler

from uniemo.data.array_file import portable, restored
from uniemo.data.batch import EmotionSample
from uniemo.data.images import ImageCache, UnreadableImageError
from uniemo.data.latent_cache import CachedLatents
from uniemo.data.packed import PackedLists, PackedOptional, PackedStrings
from uniemo.data.skipped import SkippedFiles
from uniemo.data.transforms import PairedTransform
from uniemo.distributed import get_rank, get_world_size
from uniemo.errors import UniEmoError

_Read = TypeVar("_Read")


@dataclass(frozen=True, eq=False)
class Records:
    """The labels of a list of images; each dataset's file makes these from what lies on disk.

    Lists of names and of tuples may be given plain; they are kept packed (:mod:`uniemo.data.packed`), so that loader
    workers share them however long they are.

    Attributes:
        root: folder that file names are relative to.
        files: N image files.
        emotion: (N,) int64 class indices.
        scene: (N,) int64 class indices, -1 for none.
        objects: N tuples of object class indices, empty for none.
        num_objects: size of the object vocabulary.
        sample_id: (N,) int64, unique in the split.
        masks: N mask files or None where an image has none; None when the tree has no masks.
        generated: whether a model drew the images.
        stamp: (N, 2) int64 size in bytes and time of change in ns of each image; None where nobody looked.
    """

    root: Path
    files: Sequence[str]
    emotion: NDArray[np.int64]
    scene: NDArray[np.int64]
    objects: Sequence[tuple[int, ...]]
    num_objects: int
    sample_id: NDArray[np.int64]
    masks: Sequence[str | None] | None = None
    generated: bool = False
    stamp: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Pack what was given as lists."""
        object.__setattr__(self, "files", PackedStrings.pack(self.files))
        object.__setattr__(self, "objects", PackedLists.pack(self.objects))
        if self.masks is not None:
            object.__setattr__(self, "masks", PackedOptional.pack(self.masks))

    def __len__(self) -> int:
        """Return N."""
        return len(self.files)

    def __getstate__(self) -> dict[str, Any]:
        """Send labels that are mapped from an index file by their place in it."""
        return portable(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the labels again."""
        self.__dict__.update(restored(state))

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> Records:
        """Return the records at ``indices``, sample ids unchanged; the names are shared, not copied."""
        rows = np.asarray(indices, dtype=np.int64)
        return Records(
            root=self.root,
            files=PackedStrings.pack(self.files).take(rows),
            emotion=self.emotion[rows],
            scene=self.scene[rows],
            objects=PackedLists.pack(self.objects).take(rows),
            num_objects=self.num_objects,
            sample_id=self.sample_id[rows],
            masks=None if self.masks is None else PackedOptional.pack(self.masks).take(rows),
            generated=self.generated,
            stamp=None if self.stamp is None else self.stamp[rows],
        )

    def fingerprint(self) -> str:
        """Return hex digits that change with any file name, label, file size or time of change.

        Raises:
            FileNotFoundError: an image does not exist.
        """
        stamp = self.stamp
        if stamp is None:
            looks = ((self.root / name).stat() for name in self.files)
            stamp = np.array([(look.st_size, look.st_mtime_ns) for look in looks], dtype=np.int64).reshape(-1, 2)
        digest = hashlib.sha256("\0".join(self.files).encode(errors="surrogateescape"))
        for array in (self.emotion, stamp):
            digest.update(np.ascontiguousarray(array, dtype=np.int64).data)
        return digest.hexdigest()


class EmotionDataset(Dataset[EmotionSample]):
    """Images of a list of records.

    Args:
        records: files and labels.
        transform: makes the views.
        seed: with epoch and sample id it decides crop and flip.
        images: shared store of decoded pictures; None makes one of its own.
        with_masks: read the masks where the tree has them.
        on_error: what to do about an image that cannot be read: ``raise`` stops with its path; ``skip`` gives None in
            its place, now and whenever it is asked for again, and puts it on the list of skipped files. An unreadable
            mask counts as one that the tree lacks.
        skipped: that list; None makes one.

    Attributes:
        latents: where samples find the VAE's posterior of their view; None gives them the view's pixels.

    Raises:
        UniEmoError: an unknown ``on_error``.
    """

    def __init__(
        self,
        records: Records,
        transform: PairedTransform,
        seed: int = 0,
        images: ImageCache | None = None,
        with_masks: bool = False,
        on_error: Literal["raise", "skip"] = "raise",
        skipped: SkippedFiles | None = None,
    ) -> None:
        if on_error not in ("raise", "skip"):
            raise UniEmoError(f"on_error must be raise or skip; got {on_error!r}")
        self.records = records
        self.transform = transform
        self.seed = seed
        self.images = images if images is not None else ImageCache(len(records))
        self.with_masks = with_masks and records.masks is not None
        self.on_error = on_error
        self.skipped = skipped if skipped is not None else SkippedFiles()
        self.latents: CachedLatents | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.records)

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
        path = records.root / records.files[index]
        mask = None
        if self.with_masks and records.masks is not None and (name := records.masks[index]) is not None:
            mask = self._readable(records.root / name, lambda path: self.images.read(path, mask=True))
        sample_id = int(records.sample_id[index])

        def views(path: Path) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
            image = self.images.open(path) if self.transform.train else self.images.read(path)
            rng = np.random.default_rng((self.seed, epoch, sample_id))
            if self.latents is None:
                return *self.transform(image, rng, mask), None
            box, flip = self.transform.geometry(image.width, image.height, rng)
            return self.transform.view(image, box, flip), None, None, self.latents.read(index, flip)

        made = self._readable(path, views)
        if made is None:
            return None
        view, target, hole, latents = made
        if self.with_masks and hole is None:
            hole = torch.zeros_like(view[:1])
        objects = np.zeros(records.num_objects, dtype=bool)
        objects[list(records.objects[index])] = True
        return EmotionSample(
            image=view,
            target=target,
            emotion=int(records.emotion[index]),
            scene=int(records.scene[index]),
            objects=torch.from_numpy(objects),
            generated=records.generated,
            sample_id=sample_id,
            name=records.files[index],
            mask=hole,
            latents=latents,
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

        return self._readable(self.records.root / self.records.files[index], view)

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
