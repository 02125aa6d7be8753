"""Images with the same content: found without reading most of the files, and kept on one side of a split."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from uniemo.cache import digest, hash_file
from uniemo.data.manifest import SPLITS, Manifest
from uniemo.launch import cpu_cores
from uniemo.progress_bars import progress_bar

_TAIL = 4096  # bytes at a file's end; of two compressed images of one size they are practically never the same
_CHUNK = 128  # files that a thread takes at a time
_PLACEHOLDER_COPIES = 3  # so many identical files under different emotions are no photo of anything
Item = TypeVar("Item")
Result = TypeVar("Result")


def map_files(work: Callable[[Item], Result], items: Sequence[Item], label: str, progress: bool = True) -> list[Result]:
    """Return the result of ``work`` for each item, in order, from as many threads as there are cores."""

    def chunk(start: int) -> list[Result]:
        return [work(item) for item in items[start : start + _CHUNK]]

    results: list[Result] = []
    bar = progress_bar(desc=label, unit="file", total=len(items), shown=progress, delay=1)
    with bar, ThreadPoolExecutor(cpu_cores()) as pool:
        for done in pool.map(chunk, range(0, len(items), _CHUNK)):
            results += done
            bar.update(len(done))
    return results


def content_hashes(root: Path, names: Sequence[str], size: NDArray[np.int64]) -> list[str | None]:
    """Return a hash of each file's content, None where no other file has the same; ``size`` (N,) in bytes.

    A file whose size no other one has is not opened; of others the end is read, and all of it only where another file
    of that size ends alike. Empty files equal no other.
    """
    hashes: list[str | None] = [None] * len(names)
    rows = np.flatnonzero(size > 0)
    rows = rows[_repeated(size[rows, None])]
    ends = map_files(lambda row: _hash_end(os.path.join(root, names[row])), rows.tolist(), "comparing images")
    rows = rows[_repeated(np.stack([size[rows], np.array(ends, dtype=np.int64)], axis=1))]
    found = map_files(lambda row: hash_file(os.path.join(root, names[row])), rows.tolist(), "comparing equal images")
    for row, content in zip(rows.tolist(), found, strict=True):
        hashes[row] = content
    return hashes


def _repeated(keys: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (n,) which rows of (n, K) occur more than once."""
    if not len(keys):
        return np.zeros(0, dtype=bool)
    _, inverse, counts = np.unique(keys, axis=0, return_inverse=True, return_counts=True)
    return counts[inverse.reshape(-1)] > 1


def _hash_end(path: str) -> int:
    with open(path, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
        return int(digest(file.read(), length=15), 16)


def find_copies(manifest: Manifest, names: Sequence[str]) -> list[list[int]]:
    """Return the groups of images with the same content, each sorted by name, and sorted by their first names."""
    groups: dict[bytes, list[int]] = {}
    hashes = manifest.column("hash")
    for row in pc.indices_nonzero(hashes.is_valid()).to_pylist():
        groups.setdefault(hashes[row].as_py(), []).append(row)
    copies = [sorted(group, key=names.__getitem__) for group in groups.values() if len(group) > 1]
    return sorted(copies, key=lambda group: [names[row] for row in group])


def find_placeholders(copies: Sequence[Sequence[int]], names: Sequence[str], emotions: Sequence[str]) -> dict[int, str]:
    """Return images whose picture occurs three times or more under several emotions, each with the reason.

    That is what a site shows in place of a photo that is gone.
    """
    gone: dict[int, str] = {}
    for group in copies:
        found = sorted({emotions[row] for row in group})
        if len(group) >= _PLACEHOLDER_COPIES and len(found) > 1:
            gone |= dict.fromkeys(group, f"the same picture as {names[group[0]]} stands for {', '.join(found)}")
    return gone


def drop_copies(split: NDArray[np.int8], copies: Sequence[Sequence[int]], names: Sequence[str]) -> dict[int, str]:
    """Take copies out of a split when another copy is in a later one (train, val, test); return each with the reason.

    Args:
        split: (N,) positions in ``SPLITS``, -1 for none; changed in place.
        copies: groups of images with the same content.
        names: of each image.
    """
    left_out = {}
    for group in copies:
        there = [row for row in group if split[row] >= 0]
        last = max((split[row] for row in there), default=-1)
        kept = next((names[row] for row in there if split[row] == last), "")
        for row in there:
            if split[row] < last:
                left_out[row] = f"the same picture as {kept} in {SPLITS[last]}"
                split[row] = -1
    return left_out
