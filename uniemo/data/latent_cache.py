"""The VAE's posteriors of training images, computed once and kept on disk (``data.cached_latents``).

With one crop for each image, the central square, an image has two views in training: as it is and mirrored. The frozen
VAE's posterior of both is kept in the cache folder under the hash of the image's content, for every run that uses them.

::

    <cache>/latents/<VAE>-<view>/<first two hex digits>/<hash>.npz    float16 (2, 2, C, h, w), with a CRC-32

The first axis is as it is and mirrored, the second mean and standard deviation, unscaled. Training samples from them as
it does without the cache; losses agree to float16's rounding.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, get_worker_info

from uniemo import cache
from uniemo.data.transforms import PairedTransform
from uniemo.errors import UniEmoError
from uniemo.progress_bars import progress_bar

_KEPT = 256 * 2**20  # bytes of latents that may be kept in memory; loader workers keep none, their number would count
_BLOCK = 4096  # bytes; files take up whole blocks of a disk
_BATCH, _PIXELS = 64, 2**21  # most images, and pixels of them, that the VAE gets at once: 8 of 512 x 512, some 4 GB
_MANY = 2000  # files from which on hashing them takes long enough for a progress bar


class LatentsGoneError(UniEmoError):
    """Latents that were there when training began and are missing or damaged when a batch needs them.

    Args:
        path: their file; or the traceback text from which PyTorch rebuilds a loader worker's error, whose last line is
            taken.
    """

    def __init__(self, path: str | Path) -> None:
        text = str(path).strip().rpartition(f"{type(self).__name__}: ")[2]
        rule = "latents must stay in the cache while a run uses them; "
        super().__init__(text if text.startswith(rule) else f"{rule}{text} is gone or damaged: start or resume again")
        self.path = path

    def __reduce__(self) -> tuple[type[LatentsGoneError], tuple[str | Path]]:
        """Pickle the argument, so that the error passes between processes."""
        return type(self), (self.path,)


@dataclass(frozen=True)
class LatentEncoder:
    """A module's VAE, and how the processes of a run share its work.

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


class CachedLatents:
    """The cached posteriors of a dataset's images, one file each; those of small datasets are kept in memory too.

    Args:
        folder: of one VAE and one kind of view.
        shape: (C, h, w) of the latents.
        hashes: (N,) hash of each image's content, empty for images that cannot be read.
    """

    def __init__(self, folder: Path, shape: tuple[int, int, int], hashes: NDArray[np.bytes_]) -> None:
        self.folder = folder
        self.shape = (2, 2, *shape)
        self.hashes = hashes
        self._kept: dict[Path, Tensor] = {}

    def path(self, index: int) -> Path:
        """Return the file of image ``index``."""
        name = self.hashes[index].decode()
        return self.folder / name[:2] / f"{name}.npz"

    def read(self, index: int, flip: bool) -> Tensor:
        """Return the posterior of an image as it is or mirrored: (2, C, h, w) float32.

        Raises:
            LatentsGoneError: its file is missing or damaged; a damaged one is removed, so that the next start makes it.
        """
        path = self.path(index)
        both = self._kept.get(path)
        if both is None:
            both = self._load(path)
            if (len(self._kept) + 1) * both.nbytes <= _KEPT and get_worker_info() is None:
                self._kept[path] = both
        return both[int(flip)].float()

    def _load(self, path: Path) -> Tensor:
        try:
            with np.load(path, allow_pickle=False) as content:
                posteriors = content["posteriors"]
        except Exception:  # a damaged file may fail anywhere
            posteriors = np.zeros(0)
        if posteriors.shape != self.shape or posteriors.dtype != np.float16:
            path.unlink(missing_ok=True)
            raise LatentsGoneError(path)
        return torch.from_numpy(posteriors)


class Images(Protocol):
    """What the cache asks of a dataset (:class:`uniemo.data.dataset.EmotionDataset`)."""

    records: Any
    transform: PairedTransform
    latents: CachedLatents | None

    def target(self, index: int) -> Tensor | None:
        """Return the VAE's view (3, D, D) of image ``index``, None where it cannot be read and is skipped."""
        ...


Part = tuple[Images, NDArray[np.int64]]  # images of one list of records, and which of them are used
_Todo = tuple[Path, Images, int]  # file to write, and the image


class LatentCache:
    """Precomputes the posteriors of training sets, and gives them to their samples.

    Several processes may write to one folder: files appear whole, and all would write the same.

    Args:
        encoder: computes what is missing.
        view: name of what the VAE sees of an image, :meth:`uniemo.data.transforms.PairedTransform.target_key`.
        num_workers: processes that decode images.
    """

    def __init__(self, encoder: LatentEncoder, view: str, num_workers: int = 0) -> None:
        self.encoder = encoder
        self.num_workers = num_workers
        self.folder = cache.cache_dir() / "latents" / f"{encoder.key}-{view}"
        self._ready: dict[Any, CachedLatents] = {}  # by records
        buffer = BytesIO()
        np.savez(buffer, posteriors=np.zeros((2, 2, *encoder.shape), np.float16))
        self.file_size = buffer.tell()

    def precompute(self, parts: Sequence[Part]) -> None:
        """Compute the missing latents of a training set, in all processes of the run at once.

        Args:
            parts: the datasets that it consists of, whose samples have latents from now on, and the rows it uses.

        Raises:
            UnreadableImageError: an image that cannot be read, where ``on_error`` is ``raise``.
            UniEmoError: the disk has too little room; latents that are not finite.
        """
        new = not all(part.records in self._ready for part, _ in parts)
        known, self._ready = self._ready, {}
        for part, _ in parts:
            part.latents = self._ready[part.records] = known.get(part.records) or self._latents_of(part.records)
        if new:
            self._compute(parts)

    def _latents_of(self, records: Any) -> CachedLatents:  # noqa: ANN401
        progress = self.encoder.progress and len(records) >= _MANY
        hashes = content_hashes([records.root / name for name in records.names()], progress)
        return CachedLatents(self.folder, self.encoder.shape, hashes)

    def _compute(self, parts: Sequence[Part]) -> None:
        """Encode what is missing: each process a share of it, then again what this machine still lacks.

        The second round finds something only where machines have no common cache folder.
        """
        wanted: dict[Path, _Todo] = {}
        for part, rows in parts:
            for row in rows.tolist():
                if part.latents is not None and part.latents.hashes[row]:
                    file = part.latents.path(row)
                    wanted.setdefault(file, (file, part, row))
                else:
                    part.target(row)  # raises for the file, or adds it to the skipped ones
        self._announce(len(wanted), sum(not self._is_there(file) for file in wanted))
        self.encoder.barrier()  # all have counted before the first one writes
        for rank, ranks in self.encoder.ranks:
            share = list(wanted.values())[rank::ranks]
            self._encode([todo for todo in share if not self._is_there(todo[0])])
            self.encoder.barrier()

    def _is_there(self, file: Path) -> bool:
        """Return whether a file of the right size is there."""
        return file.is_file() and file.stat().st_size == self.file_size

    def _announce(self, count: int, missing: int) -> None:
        """Print what will be done.

        Raises:
            UniEmoError: the disk has too little room for it.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        size = missing * -(-self.file_size // _BLOCK) * _BLOCK
        free = shutil.disk_usage(self.folder).free
        if size > free:
            raise UniEmoError(
                f"data.cached_latents needs {_gib(size)} in {self.folder}; {_gib(free)} are free: "
                "set UNIEMO_CACHE to a folder on a larger disk, or leave it out"
            )
        if self.encoder.ranks[0][0] == 0:
            todo = f"{missing:,} to encode, {_gib(size)}" if missing else "all there"
            print(
                f"cached latents of {count:,} images, central square and random flip: {todo}, {self.folder}", flush=True
            )

    def _encode(self, todo: list[_Todo]) -> None:
        """Compute and write the posteriors of images."""
        if not todo:
            return
        size = todo[0][1].transform.diffusion_size or 1
        loader: DataLoader[Any] = DataLoader(
            todo,  # type: ignore[arg-type]  # a list will do
            batch_size=max(1, min(_BATCH, _PIXELS // size**2)) // 2 or 1,  # each twice: as it is and mirrored
            num_workers=self.num_workers,
            collate_fn=_views,
            generator=torch.Generator(),  # the global one belongs to training
        )
        shown = self.encoder.progress
        with progress_bar(desc="encoding latents", unit="image", total=len(todo), shown=shown) as bar:
            for count, files, targets in loader:
                if files:
                    posteriors = self.encoder.posterior(torch.cat([targets, targets.flip(-1)]))  # (2B, 2, C, h, w)
                    kept = posteriors.to("cpu", torch.float16)
                    if not kept.isfinite().all():
                        raise UniEmoError(
                            "latents must be finite float16 numbers; the VAE gives others: use float32 for "
                            "model.diffusion.dtype, or leave data.cached_latents out"
                        )
                    for file, both in zip(files, kept.unflatten(0, (2, -1)).transpose(0, 1).numpy(), strict=True):
                        with cache.atomic_write(file) as temporary:
                            np.savez(temporary, posteriors=both)
                bar.update(count)


def _views(todo: list[_Todo]) -> tuple[int, list[Path], Tensor | None]:
    """Return how many images there are, and files and VAE's views (B, 3, D, D) of those that can be read."""
    readable = [(file, target) for file, part, row in todo if (target := part.target(row)) is not None]
    views = torch.stack([target for _, target in readable]) if readable else None
    return len(todo), [file for file, _ in readable], views


def content_hashes(paths: Sequence[Path], progress: bool = False) -> NDArray[np.bytes_]:
    """Return (N,) a hash of each file's content, empty where it is missing, empty or unreadable.

    The result is kept in the cache until one of the files has another size or time of change.
    """

    def write(file: Path) -> None:
        with ThreadPoolExecutor() as pool, open(file, "wb") as out:
            hashes = pool.map(_hash, paths)
            bar = progress_bar(hashes, desc="reading files", unit="file", total=len(paths), shown=progress)
            np.save(out, np.array(list(bar), dtype="S32"))

    stamps = np.array([cache.size_and_change(path) for path in paths], dtype=np.int64)
    key = cache.digest("\0".join(map(str, paths)), stamps.tobytes())
    hashes: NDArray[np.bytes_] = np.load(cache.get("latents", f"hashes-{key}.npy", write))
    return hashes


def _hash(path: Path) -> str:
    try:
        return cache.hash_file(path, 32) if os.path.getsize(path) else ""
    except OSError:
        return ""


def _gib(size: int) -> str:
    return f"{size / 2**30:.3g} GiB"
