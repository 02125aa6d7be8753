"""Which files have the same content, found without reading most of them, and remembered."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from tqdm import tqdm

from uniemo.cache import cache_dir
from uniemo.data.array_file import read_arrays, write_arrays

_TAIL = 4096  # bytes at a file's end; of two compressed pictures of one size they are practically never the same
_CHUNK = 64  # files that a thread takes at a time
Kept = TypeVar("Kept")


def stamps(root: Path, files: Iterable[str]) -> NDArray[np.int64]:
    """Return (N, 2) size in bytes and time of change in ns of each file; -1 for a file that is not there."""
    found = []
    for name in files:
        try:
            look = os.stat(f"{root}/{name}")
        except OSError:
            found.append((-1, -1))
        else:
            found.append((look.st_size, look.st_mtime_ns))
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def name_keys(files: Iterable[str]) -> NDArray[np.uint64]:
    """Return a 64-bit key for each name."""
    digests = b"".join(
        hashlib.blake2b(name.encode("utf-8", errors="surrogateescape"), digest_size=8).digest() for name in files
    )
    return np.frombuffer(digests, dtype=np.uint64)


class FileNotes:
    """What is known of a tree's files, one row of numbers for each, kept in the cache until a file changes.

    Args:
        kind: name of what is noted.
        root: the tree.
        files: names relative to it.
        stamp: (N, 2) of :func:`stamps`.
        width: numbers for each file.
    """

    def __init__(self, kind: str, root: Path, files: Sequence[str], stamp: NDArray[np.int64], width: int) -> None:
        digest = hashlib.sha256(str(root.resolve()).encode("utf-8", errors="surrogateescape")).hexdigest()[:16]
        self.path = cache_dir() / f"{kind}-{digest}.bin"
        self.stamp = stamp
        self.key = name_keys(files)
        self.rows = np.zeros((len(self.key), width), dtype=np.uint64)
        self._recall(self.key, self.rows)

    def _recall(self, key: NDArray[np.uint64], rows: NDArray[np.uint64]) -> None:
        """Fill in the rows of files that have not changed since they were noted."""
        kept = read_arrays(self.path)
        if kept is None or kept[1]["rows"].shape[1] != rows.shape[1] or not len(kept[1]["key"]) or not len(key):
            return
        arrays = kept[1]
        place = np.minimum(np.searchsorted(arrays["key"], key), len(arrays["key"]) - 1)
        same = (arrays["key"][place] == key) & (arrays["stamp"][place] == self.stamp).all(axis=1)
        rows[same] = arrays["rows"][place[same]]

    def save(self) -> None:
        """Write the rows, together with those of other files of the tree that an earlier run noted."""
        key, stamp, rows = self.key, self.stamp, self.rows
        kept = read_arrays(self.path)
        if kept is not None and kept[1]["rows"].shape[1] == rows.shape[1]:
            other = ~np.isin(kept[1]["key"], key)
            key = np.concatenate([key, kept[1]["key"][other]])
            stamp = np.concatenate([stamp, kept[1]["stamp"][other]])
            rows = np.concatenate([rows, kept[1]["rows"][other]])
        order = np.argsort(key, kind="stable")
        write_arrays(self.path, {"key": key[order], "stamp": stamp[order], "rows": rows[order]}, {})


def map_files(
    work: Callable[[str], Kept], names: Sequence[str], label: str, progress: bool = True, workers: int | None = None
) -> list[Kept]:
    """Return what ``work`` says of each file, in order, from as many threads as there are cores."""

    def chunk(start: int) -> list[Kept]:
        return [work(name) for name in names[start : start + _CHUNK]]

    results: list[Kept] = []
    bar = tqdm(total=len(names), desc=label, unit="file", disable=not progress, delay=1)
    with bar, ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done in pool.map(chunk, range(0, len(names), _CHUNK)):
            results += done
            bar.update(len(done))
    return results


def _numbers(digest: bytes) -> list[int]:
    """Return a digest as 64-bit numbers; the first is never 0, which stands for "not known"."""
    values = np.frombuffer(digest, dtype=np.uint64).tolist()
    return [values[0] or 1, *values[1:]]


def _tail(path: str) -> list[int]:
    with open(path, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
        return _numbers(hashlib.blake2b(file.read(), digest_size=8).digest())


def _whole(path: str) -> list[int]:
    digest = hashlib.blake2b(digest_size=16)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return _numbers(digest.digest())


def _whole_if_there(path: str) -> list[int]:
    try:
        return _whole(path)
    except OSError:
        return [0, 0]


def _shared(*columns: NDArray[np.int64] | NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return which rows have a twin in all of the columns."""
    if not len(columns[0]):
        return np.zeros(0, dtype=bool)
    rows = np.stack([np.asarray(column).astype(np.uint64) for column in columns], axis=1)
    _, inverse, counts = np.unique(rows, axis=0, return_inverse=True, return_counts=True)
    return counts[inverse.reshape(-1)] > 1


def content_hashes(
    root: Path,
    files: Sequence[str],
    progress: bool = True,
    workers: int | None = None,
    stamp: NDArray[np.int64] | None = None,
) -> list[str]:
    """Return a text for each file that is equal exactly where contents are.

    A file whose size no other one has is not opened; of others the end is read, and all of it only where another file
    of that size ends alike. What was read is remembered by name, size and time of change.

    Args:
        root: the tree.
        files: names relative to it.
        progress: show a bar where it takes more than a second.
        workers: threads; None takes one for each core.
        stamp: (N, 2) of :func:`stamps`, where it is known already.

    Returns:
        One text for each file; it means nothing beyond this list. Missing and empty files equal no other.
    """
    stamp = stamps(root, files) if stamp is None else stamp
    size = stamp[:, 0]
    with FileLock(f"{FileNotes('content', root, (), stamp[:0], 3).path}.lock"):
        notes = FileNotes("content", root, files, stamp, 3)  # hash of the end, two halves of that of all
        there = size > 0
        changed = False
        for columns, reader, label, twins in (
            (slice(0, 1), _tail, "comparing ends", lambda: _shared(size)),
            (slice(1, 3), _whole, "comparing files", lambda: _shared(size, notes.rows[:, 0]) & (notes.rows[:, 0] > 0)),
        ):
            todo = np.flatnonzero(twins() & there & (notes.rows[:, columns.start] == 0))
            if len(todo):
                names = [f"{root}/{files[i]}" for i in todo.tolist()]
                found = map_files(reader, names, label, progress, workers)
                notes.rows[todo, columns] = np.array(found, dtype=np.uint64)
                changed = True
        if changed:
            notes.save()
    return [
        f"{whole:016x}{rest:016x}" if whole else f"size-{number}-{end:x}" if number > 0 else f"nothing-{i}"
        for i, (number, (end, whole, rest)) in enumerate(zip(size.tolist(), notes.rows.tolist(), strict=True))
    ]


def whole_hashes(
    root: Path, files: Sequence[str], progress: bool = True, stamp: NDArray[np.int64] | None = None
) -> NDArray[np.uint64]:
    """Return (N, 2) a 128-bit hash of what each file holds; zeros for one that is missing, empty or unreadable.

    Every file is read, but only once: it is remembered by name, size and time of change. Several processes that ask at
    once wait for the first.

    Args:
        root: the tree.
        files: names relative to it.
        progress: show a bar where it takes more than a second.
        stamp: (N, 2) of :func:`stamps`, where it is known already.
    """
    stamp = stamps(root, files) if stamp is None else stamp
    with FileLock(f"{FileNotes('content', root, (), stamp[:0], 3).path}.lock"):
        notes = FileNotes("content", root, files, stamp, 3)
        todo = np.flatnonzero((stamp[:, 0] > 0) & (notes.rows[:, 1] == 0))
        if len(todo):
            names = [f"{root}/{files[i]}" for i in todo.tolist()]
            found = map_files(_whole_if_there, names, "reading files", progress)
            notes.rows[todo, 1:] = np.array(found, dtype=np.uint64)
            notes.save()
    return notes.rows[:, 1:].copy()
