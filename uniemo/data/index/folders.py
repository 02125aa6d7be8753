"""A quick look at folders: names, sizes and times of change, no file opened."""

from __future__ import annotations

import os
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Stamp = tuple[int, int]  # bytes, ns

# A file may change once more without its time of change moving on: FAT counts in steps of two seconds. What was read so
# soon after a change is read again at the next start.
TICK = 2_000_000_000
THREADS = 8  # hides the waiting of network disks; on a local disk more of them win nothing


@dataclass(frozen=True)
class Folder:
    """One folder's files, sorted by name: the names joined by zero bytes, (n,) sizes and (n,) times of change."""

    names: bytes = b""
    size: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    time: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


def look(folder: Path) -> Folder:
    """List a folder's files; one that does not exist has none."""
    names: list[bytes] = []
    sizes, times = array("q"), array("q")
    try:
        with os.scandir(os.fsencode(folder)) as listing:
            for item in listing:
                try:
                    if item.is_dir():
                        continue
                    status = item.stat()
                except FileNotFoundError:  # a link to nowhere
                    continue
                names.append(item.name)
                sizes.append(status.st_size)
                times.append(status.st_mtime_ns)
    except (FileNotFoundError, NotADirectoryError):
        return Folder()
    order = sorted(range(len(names)), key=names.__getitem__)
    return Folder(
        b"\0".join([names[i] for i in order]),
        np.frombuffer(sizes, np.int64)[order],
        np.frombuffer(times, np.int64)[order],
    )


def look_all(root: Path, folders: Sequence[str]) -> list[Folder]:
    """List several folders, in parallel."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(lambda name: look(root / name), folders))


def joined_stamps(folders: Sequence[Folder]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (F,) sizes and (F,) times of change of the files of all folders."""
    parts = folders or [Folder()]
    return np.concatenate([part.size for part in parts]), np.concatenate([part.time for part in parts])


def stamp_of(path: Path) -> Stamp:
    """Return a file's size and time of change; (-1, -1) where it does not exist."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return -1, -1
    return status.st_size, status.st_mtime_ns
