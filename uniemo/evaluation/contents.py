"""What the files themselves say before any picture is decoded: whole or broken, size, transparency, content."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image

from uniemo.data.hashes import FileNotes, map_files
from uniemo.data.images import UnreadableImageError, verify_image
from uniemo.evaluation.folders import ImageSet

_RECENT = 2_000_000_000  # ns in which a file may change again without its times telling
_ALPHA = ("RGBA", "LA", "PA", "La", "RGBa")


@dataclass(frozen=True)
class Contents:
    """What is known of an image set's files.

    Attributes:
        hashes: (N, 2) 128 bits of each file's BLAKE2b.
        sizes: (N, 2) width and height as stored.
        alpha: (N,) whether the picture may be transparent.
    """

    hashes: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    alpha: NDArray[np.bool_]

    def digest(self, images: ImageSet) -> str:
        """Return 16 hex digits of the contents and emotions; neither names nor order matter."""
        lines = sorted(f"{emotion} {key}" for emotion, key in zip(images.emotions, self.keys(), strict=True))
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def keys(self) -> list[str]:
        """Return each file's hash in hex."""
        return [f"{high:016x}{low:016x}" for high, low in self.hashes.tolist()]

    def size_text(self) -> str:
        """Say how large the pictures are."""
        kinds, counts = np.unique(self.sizes, axis=0, return_counts=True)
        if len(kinds) == 1:
            return f"{kinds[0][0]}×{kinds[0][1]}"
        side = self.sizes.min(axis=1)
        width, height = kinds[counts.argmax()]
        return f"{len(kinds)} sizes, shorter side {side.min()} to {side.max()}, most often {width}×{height}"


def examine(images: ImageSet, remember: bool = False, workers: int | None = None, progress: bool = True) -> Contents:
    """Look at every file's header and read its bytes.

    Args:
        images: which files.
        remember: keep what was found in the cache, so that files that have not changed are not read again. A file
            counts as unchanged while size, both times (of change of content and of anything) and inode stay; the
            second time cannot be set back by a program.
        workers: threads.
        progress: show a bar where it takes more than a second.

    Raises:
        UnreadableImageError: the first file that is no whole picture.
    """
    stamp, recent = _stamps(images)
    if not remember:
        return _contents(_read(images, range(len(images)), workers, progress))
    with FileLock(f"{FileNotes('evaluation', images.root, (), stamp[:0], 3).path}.lock"):
        notes = FileNotes("evaluation", images.root, images.names, stamp, 3)
        todo = np.flatnonzero(notes.rows[:, 2] == 0)
        rows = notes.rows
        if len(todo):
            rows = rows.copy()
            rows[todo] = _read(images, todo.tolist(), workers, progress)
            notes.rows = np.where(recent[:, None], np.uint64(0), rows)
            notes.save()
    return _contents(rows)


def _stamps(images: ImageSet) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (N, 2) size and a number that changes with times and inode, and (N,) whether a file is brand-new."""
    stamp = np.full((len(images), 2), -1, dtype=np.int64)
    recent = np.ones(len(images), dtype=bool)
    now = time.time_ns()
    for row, path in enumerate(images.files()):
        try:
            look = os.stat(path)
        except OSError:
            continue
        times = f"{look.st_mtime_ns} {look.st_ctime_ns} {look.st_ino}".encode()
        digest = hashlib.blake2b(times, digest_size=8).digest()
        stamp[row] = look.st_size, int.from_bytes(digest, "little", signed=True)
        recent[row] = now - max(look.st_mtime_ns, look.st_ctime_ns) < _RECENT
    return stamp, recent


def _read(images: ImageSet, rows: range | list[int], workers: int | None, progress: bool) -> NDArray[np.uint64]:
    """Return (n, 3) numbers for some of the files: two of the hash, one of size and transparency."""
    paths = images.files()
    found = map_files(_look, [str(paths[row]) for row in rows], f"reading {images.source}", progress, workers)
    return np.array(found, dtype=np.uint64).reshape(-1, 3)


def _look(path: str) -> tuple[int, int, int]:
    reason = verify_image(path)
    if reason is not None:
        raise UnreadableImageError(path, reason)
    content = Path(path).read_bytes()
    digest = hashlib.blake2b(content, digest_size=16).digest()
    with Image.open(path) as image:
        width, height = image.size
        alpha = image.mode in _ALPHA or "transparency" in image.info
    high, low = (int.from_bytes(digest[start : start + 8], "big") for start in (0, 8))
    return high, low, width | height << 24 | int(alpha) << 48


def _contents(rows: NDArray[np.uint64]) -> Contents:
    """Take the numbers apart again."""
    look = rows[:, 2].astype(np.int64)
    sizes = np.stack([look & 0xFFFFFF, look >> 24 & 0xFFFFFF], axis=1)
    return Contents(rows[:, :2], sizes, (look >> 48 & 1).astype(bool))
