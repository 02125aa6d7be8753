"""The VAE's latents of training images, made once and kept on disk (``data.cached_latents``).

With one crop for each image, the central square, an image has two views in training, as it is and mirrored. The VAE is
frozen: its posterior of both is found once and kept in the cache folder, 128 KiB for an image of Stable Diffusion 1.5
at 512 pixels, under the hash of the image file's content. Whoever uses that image with that VAE finds it there; a
changed image has another hash.

::

    <cache>/latents/<VAE>-<view>/<first two hex digits>/<hash>.npy    float16 (2, 2, C, h, w)

The first axis is as it is and mirrored, the second mean and standard deviation, unscaled. What is drawn from them in
training is drawn as without the cache, so that losses agree to float16's rounding.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info
from tqdm import tqdm

from uniemo.cache import atomic_write, cache_dir
from uniemo.data.dataset import EmotionDataset, Records
from uniemo.data.hashes import whole_hashes
from uniemo.errors import UniEmoError

_HEADER = 128  # bytes that np.save writes before so short a shape
_BLOCK = 4096  # bytes; files take up whole blocks of a disk
_BATCH, _PIXELS = 64, 2**21  # most images, and pixels of them, that the VAE gets at once: 8 of 512 x 512, some 4 GB
_MANY = 2000  # files from which on reading them takes long enough for a progress bar


class LatentsGoneError(UniEmoError):
    """Latents that were there when training began and are not, or no longer whole, when a batch needs them.

    Args:
        path: their file; or the traceback that PyTorch makes a loader worker's error from, of which the last line is
            taken.
    """

    def __init__(self, path: str | Path) -> None:
        text = str(path).strip().rpartition(f"{type(self).__name__}: ")[2]
        rule = "latents must stay in the cache while a run uses them; "
        super().__init__(text if text.startswith(rule) else f"{rule}{text} is gone or damaged: start or resume again")
        self.path = path

    def __reduce__(self) -> tuple[type[LatentsGoneError], tuple[str | Path]]:
        """Let the error travel between processes."""
        return type(self), (self.path,)


@dataclass(frozen=True)
class LatentEncoder:
    """A VAE that a module lends to the data, and how the processes of a run share its work.

    Attributes:
        key: changes with the VAE's weights.
        shape: (C, h, w) of its latents.
        posterior: (B, 3, D, D) in [-1, 1] to (B, 2, C, h, w), mean and standard deviation.
        ranks: this process's number and how many there are; first among all, then among those of this machine.
        barrier: waits until all processes are here.
        progress: whether to show a bar.
    """

    key: str
    shape: tuple[int, int, int]
    posterior: Callable[[Tensor], Tensor]
    ranks: tuple[tuple[int, int], ...] = ((0, 1),)
    barrier: Callable[[], None] = lambda: None
    progress: bool = False


class LatentCache:
    """Posteriors of images in files, by the hash of the image; small sets are kept in memory too.

    Several processes may write to one folder: files appear whole, and all would write the same.

    Args:
        folder: of one VAE and one kind of view.
        shape: (C, h, w) of the latents.
        budget: bytes that may be kept in memory; workers of a loader keep nothing, memory would grow with their number.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], budget: int = 256 * 2**20) -> None:
        self.folder = folder
        self.shape = (2, 2, *shape)
        self.file_size = _HEADER + 2 * int(np.prod(self.shape))
        self.budget = budget
        self._kept: dict[str, Tensor] = {}

    def path(self, key: str) -> Path:
        """Return where an image's posteriors lie."""
        return self.folder / key[:2] / f"{key}.npy"

    def __contains__(self, key: str) -> bool:
        """Return whether an image's posteriors are there; a file of the wrong size counts as none."""
        try:
            return os.stat(self.path(key)).st_size == self.file_size
        except OSError:
            return False

    def write(self, key: str, posteriors: NDArray[np.float16]) -> None:
        """Keep an image's posteriors (2, 2, C, h, w)."""
        with atomic_write(self.path(key)) as temporary, open(temporary, "wb") as file:
            np.save(file, posteriors, allow_pickle=False)

    def read(self, key: str, flip: bool) -> Tensor:
        """Return the posterior of an image as it is or mirrored: (2, C, h, w) float32.

        Raises:
            LatentsGoneError: it is not there, or its file is damaged, which is then removed.
        """
        both = self._kept.get(key)
        if both is None:
            both = self._load(key)
            if (len(self._kept) + 1) * both.nbytes <= self.budget and get_worker_info() is None:
                self._kept[key] = both
        return both[int(flip)].float()

    def _load(self, key: str) -> Tensor:
        path = self.path(key)
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            array = np.zeros(0)
        if array.shape != self.shape or array.dtype != np.float16:
            path.unlink(missing_ok=True)  # the next start makes it anew
            raise LatentsGoneError(path)
        return torch.from_numpy(array)


class LatentShelf:
    """The cached posteriors of a list of records.

    Args:
        cache: where they are.
        content: (N, 2) hash of each image, zeros where it could not be read.
    """

    def __init__(self, cache: LatentCache, content: NDArray[np.uint64]) -> None:
        self.cache = cache
        self.content = content

    def key(self, index: int) -> str:
        """Return the hash of image ``index`` as 32 hex digits."""
        first, second = self.content[index].tolist()
        return f"{first:016x}{second:016x}"

    def read(self, index: int, flip: bool) -> Tensor:
        """Return the posterior (2, C, h, w) of image ``index``; see :meth:`LatentCache.read`."""
        return self.cache.read(self.key(index), flip)


class HasParts(Protocol):
    """A training set: images of one or several lists of records."""

    def parts(self) -> list[tuple[EmotionDataset, NDArray[np.int64]]]:
        """Return the datasets and which of their images are used."""
        ...


class LatentSupply:
    """Sees to it that the latents of a training set are in the cache, and has its samples take them from there.

    Args:
        encoder: makes what is missing.
        view: name of what the VAE sees of an image, :meth:`uniemo.data.transforms.PairedTransform.target_key`.
        num_workers: processes that decode images.
    """

    def __init__(self, encoder: LatentEncoder, view: str, num_workers: int = 0) -> None:
        self.encoder = encoder
        self.num_workers = num_workers
        self.cache = LatentCache(cache_dir() / "latents" / f"{encoder.key}-{view}", encoder.shape)
        self._shelves: dict[Records, LatentShelf] = {}

    def provide(self, dataset: HasParts) -> None:
        """Encode the images whose latents are missing, in all processes of the run at once.

        Args:
            dataset: its samples have latents from now on.

        Raises:
            UnreadableImageError: an image that cannot be read, where ``on_error`` is ``raise``.
            UniEmoError: the disk has too little room; latents that are not finite.
        """
        parts = dataset.parts()
        if not all(part.records in self._shelves for part, _ in parts):  # else nothing has changed
            known = self._shelves
            self._shelves = {part.records: known.get(part.records) or self._shelf(part.records) for part, _ in parts}
            self._fill({self._shelves[part.records]: (part, rows) for part, rows in parts})
        for part, _ in parts:
            part.latents = self._shelves[part.records]

    def _shelf(self, records: Records) -> LatentShelf:
        progress = self.encoder.progress and len(records) >= _MANY
        return LatentShelf(self.cache, whole_hashes(records.root, records.files, progress, records.stamp))

    def _fill(self, shelves: dict[LatentShelf, tuple[EmotionDataset, NDArray[np.int64]]]) -> None:
        """Encode what is missing: each process a share of it, then again what this machine still lacks.

        The second round finds something only where machines have no common cache folder.
        """
        wanted: dict[str, tuple[EmotionDataset, int]] = {}
        for shelf, (part, rows) in shelves.items():
            for row in rows.tolist():
                if shelf.content[row].any():
                    wanted.setdefault(shelf.key(row), (part, row))
                else:
                    part.target(row)  # says why the file could not be read
        self._announce(len(wanted), sum(key not in self.cache for key in wanted))
        self.encoder.barrier()  # all have counted before the first one writes
        for rank, ranks in self.encoder.ranks:
            share = list(wanted.items())[rank::ranks]
            self._encode([(key, *place) for key, place in share if key not in self.cache])
            self.encoder.barrier()

    def _announce(self, count: int, missing: int) -> None:
        """Say what will be done; refuse what the disk has no room for."""
        folder = self.cache.folder
        folder.mkdir(parents=True, exist_ok=True)
        size = missing * -(-self.cache.file_size // _BLOCK) * _BLOCK
        free = shutil.disk_usage(folder).free
        if size > free:
            raise UniEmoError(
                f"data.cached_latents needs {_gib(size)} in {folder}; {_gib(free)} are free: "
                "set UNIEMO_CACHE to a folder on a larger disk, or leave it out"
            )
        if self.encoder.ranks[0][0] == 0:
            todo = f"{missing:,} to encode, {_gib(size)}" if missing else "all there"
            print(f"cached latents of {count:,} images, central square and random flip: {todo}, {folder}", flush=True)

    def _encode(self, todo: list[tuple[str, EmotionDataset, int]]) -> None:
        """Find and keep the posteriors of images."""
        if not todo:
            return
        size = todo[0][1].transform.diffusion_size or 1
        loader = DataLoader(
            _Targets(todo),
            batch_size=max(1, min(_BATCH, _PIXELS // size**2)) // 2 or 1,  # each twice: as it is and mirrored
            num_workers=self.num_workers,
            collate_fn=_collate,
            generator=torch.Generator(),  # the global one belongs to training
        )
        with tqdm(total=len(todo), desc="encoding latents", unit="image", disable=not self.encoder.progress) as bar:
            for count, keys, targets in loader:
                if keys:
                    posteriors = self.encoder.posterior(torch.cat([targets, targets.flip(-1)]))  # (2B, 2, C, h, w)
                    kept = posteriors.to("cpu", torch.float16)
                    if not kept.isfinite().all():
                        raise UniEmoError(
                            "latents must be finite float16 numbers; the VAE gives others: use float32 for "
                            "model.diffusion.dtype, or leave data.cached_latents out"
                        )
                    for key, both in zip(keys, kept.unflatten(0, (2, -1)).transpose(0, 1).numpy(), strict=True):
                        self.cache.write(key, both)
                bar.update(count)


class _Targets(Dataset[Any]):
    """Hashes and VAE's views of images."""

    def __init__(self, todo: Sequence[tuple[str, EmotionDataset, int]]) -> None:
        self.todo = todo

    def __len__(self) -> int:
        return len(self.todo)

    def __getitem__(self, index: int) -> tuple[str, Tensor | None]:
        key, part, row = self.todo[index]
        return key, part.target(row)


def _collate(pairs: list[tuple[str, Tensor | None]]) -> tuple[int, list[str], Tensor | None]:
    """Return how many there are, and hashes and views (B, 3, D, D) of those that could be read."""
    readable = [(key, target) for key, target in pairs if target is not None]
    views = torch.stack([target for _, target in readable]) if readable else None
    return len(pairs), [key for key, _ in readable], views


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
