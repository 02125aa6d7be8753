"""Images with the same content: found without reading most of the files, and kept on one side of a split."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from uniemo.cache import digest, hash_file
from uniemo.data.manifest import SPLITS, Manifest

_TAIL = 4096  # bytes at a file's end; of two compressed images of one size they are practically never the same
_CHUNK = 128  # files that a thread takes at a time
_PLACEHOLDER_COPIES = 3  # so many identical files under different emotions are no photo of anything
Result = TypeVar("Result")


def map_files(
    work: Callable[[str], Result], paths: Sequence[str], label: str, progress: bool = True, workers: int | None = None
) -> list[Result]:
    """Return the result of ``work`` for each path, in order, from as many threads as there are cores.

    Args:
        work: reads a file.
        paths: the files.
        label: of the progress bar, which shows after a second.
        progress: whether it shows at all.
        workers: threads; None takes one for each core.
    """

    def chunk(start: int) -> list[Result]:
        return [work(path) for path in paths[start : start + _CHUNK]]

    results: list[Result] = []
    bar = tqdm(total=len(paths), desc=label, unit="file", disable=not progress, delay=1)
    with bar, ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool:
        for done in pool.map(chunk, range(0, len(paths), _CHUNK)):
            results += done
            bar.update(len(done))
    return results


def content_hashes(root: Path, names: Sequence[str], size: NDArray[np.int64]) -> list[str | None]:
    """Return a hash of each file's content, None where no other file has the same.

    A file whose size no other one has is not opened; of others the end is read, and all of it only where another file
    of that size ends alike. Empty files equal no other.

    Args:
        root: the tree.
        names: relative to it.
        size: (N,) bytes.
    """
    ends = [""] * len(names)
    hashes: list[str | None] = [None] * len(names)
    candidates = _shared([(count,) for count in size.tolist()], np.flatnonzero(size > 0).tolist())
    paths = [f"{root}/{names[row]}" for row in candidates]
    for row, end in zip(candidates, map_files(_hash_end, paths, "comparing images"), strict=True):
        ends[row] = end
    candidates = _shared(list(zip(size.tolist(), ends, strict=True)), candidates)
    paths = [f"{root}/{names[row]}" for row in candidates]
    for row, found in zip(candidates, map_files(hash_file, paths, "comparing equal images"), strict=True):
        hashes[row] = found
    return hashes


def _shared(keys: Sequence[tuple[object, ...]], rows: list[int]) -> list[int]:
    """Return those of some rows whose key another one has too."""
    seen: dict[tuple[object, ...], int] = {}
    for row in rows:
        seen[keys[row]] = seen.get(keys[row], 0) + 1
    return [row for row in rows if seen[keys[row]] > 1]


def _hash_end(path: str) -> str:
    with open(path, "rb") as file:
        file.seek(max(os.fstat(file.fileno()).st_size - _TAIL, 0))
        return digest(file.read())


def find_copies(manifest: Manifest, names: Sequence[str]) -> list[list[int]]:
    """Return the groups of images with the same content, each sorted by name, and sorted by their first names.

    Args:
        manifest: N images.
        names: of each.
    """
    groups: dict[bytes, list[int]] = {}
    hashes = manifest.column("hash")
    for row in np.flatnonzero(hashes.is_valid().to_numpy(zero_copy_only=False)).tolist():
        groups.setdefault(hashes[row].as_py(), []).append(row)
    copies = [sorted(group, key=names.__getitem__) for group in groups.values() if len(group) > 1]
    return sorted(copies, key=lambda group: [names[row] for row in group])


def find_placeholders(copies: Sequence[Sequence[int]], names: Sequence[str], emotions: Sequence[str]) -> dict[int, str]:
    """Return images whose picture occurs three times or more under several emotions, each with the reason.

    That is what a site shows in place of a photo that is gone.

    Args:
        copies: groups of images with the same content.
        names: of each image.
        emotions: of each image.
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
