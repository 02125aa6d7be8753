"""Making a ledger: list the tree, and take over from the old one what did not change."""

from __future__ import annotations

import os
import time
from pathlib import Path, PurePosixPath

import numpy as np

from uniemo.data.emoset_files import Entry, read_entries
from uniemo.data.index.folders import TICK, Stamp, joined_stamps, look_all, stamp_of
from uniemo.data.index.ledger import READ, Ledger, Positions, SplitTable
from uniemo.data.listing import SPLITS, Split
from uniemo.data.packed import PackedLists, dense
from uniemo.errors import UniEmoError


def survey(root: Path, old: Ledger | None) -> Ledger:
    """List a tree; annotations that are as they were in ``old`` count as read, the others do not.

    Split files that are missing or cannot be used are left out.
    """
    stamps: dict[Split, Stamp] = {}
    entries: dict[Split, list[Entry]] = {}
    for split in SPLITS:
        path = root / f"{split}.json"
        size, changed = stamp_of(path)
        stamps[split] = size, changed if changed < time.time_ns() - TICK else 0  # 0: read again at the next start
        try:
            entries[split] = read_entries(root, split)
        except UniEmoError:
            continue
    folders = sorted({_folder(path) for rows in entries.values() for e in rows for path in _paths(e)})
    seen = look_all(root, folders)
    first = np.concatenate([[0], np.cumsum([len(folder.size) for folder in seen])]).astype(np.int64)
    count = int(first[-1])
    sizes, times = joined_stamps(seen)
    ledger = Ledger(
        root=root,
        folders=folders,
        first=first,
        names=[folder.names for folder in seen],
        size=sizes,
        time=times,
        state=np.zeros(count, np.uint8),
        scene=np.full(count, -1, np.int32),
        objects=PackedLists(np.zeros(0, np.int32), np.zeros(count + 1, np.int64)),
        scene_names=[],
        object_names=[],
        stamps=stamps,
        splits={},
    )
    where = _Where(ledger)
    for split, rows in entries.items():
        names = sorted({entry.emotion for entry in rows})
        code = {name: index for index, name in enumerate(names)}
        ledger.splits[split] = SplitTable(
            emotions=names,
            emotion=np.array([code[entry.emotion] for entry in rows], dtype=np.int32),
            image=where.find([entry.image for entry in rows]),
            annotation=where.find([entry.annotation for entry in rows]),
            mask=where.find([_mask(entry.image) for entry in rows]),
        )
    if old is not None:
        _take_over(ledger, old)
    return ledger


def _folder(path: str) -> str:
    """Return the folder of a path as split files spell it."""
    return path.rpartition("/")[0]


def _mask(image: str) -> str:
    """Return where a painted tree has the mask of an image."""
    return str(PurePosixPath("mask", *PurePosixPath(image).parts[1:]).with_suffix(".png"))


def _paths(entry: Entry) -> tuple[str, str, str]:
    """Return the files that an entry stands for."""
    return entry.image, entry.annotation, _mask(entry.image)


class _Where:
    """Positions of paths among a ledger's files."""

    def __init__(self, ledger: Ledger) -> None:
        self._table: dict[str, dict[bytes, int]] = {}
        for index, folder in enumerate(ledger.folders):
            start = int(ledger.first[index])
            self._table[folder] = {name: start + i for i, name in enumerate(ledger.files_of(index))}

    def find(self, paths: list[str]) -> Positions:
        """Return (N,) positions, -1 for a path that does not exist."""
        positions = np.full(len(paths), -1, dtype=np.int32)
        for row, path in enumerate(paths):
            folder, _, name = path.rpartition("/")
            positions[row] = self._table[folder].get(os.fsencode(name), -1)
        return positions


def _take_over(new: Ledger, old: Ledger) -> None:
    """Enter what ``old`` knows of the annotations that are as they were."""
    new.scene_names, new.object_names = list(old.scene_names), list(old.object_names)
    before = np.full(len(new.size), -1, dtype=np.int64)  # (F,) position in the old ledger
    for index, folder in enumerate(new.folders):
        if folder not in old.folders:
            continue
        place = old.folders.index(folder)
        part = slice(int(new.first[index]), int(new.first[index + 1]))
        if bytes(new.names[index]) == bytes(old.names[place]):
            before[part] = np.arange(old.first[place], old.first[place + 1])
        else:
            table = {name: int(old.first[place]) + i for i, name in enumerate(old.files_of(place))}
            before[part] = [table.get(name, -1) for name in new.files_of(index)]
    rows = np.flatnonzero(before >= 0)
    source = before[rows]
    same = (new.size[rows] == old.size[source]) & (new.time[rows] == old.time[source]) & (old.state[source] == READ)
    rows, source = rows[same], source[same]
    new.state[rows] = READ
    new.scene[rows] = old.scene[source]
    empty = len(old.objects)  # one more row, without objects
    offsets = np.concatenate([old.objects.offsets, old.objects.offsets[-1:]])
    taken = np.full(len(new.size), empty, dtype=np.int64)
    taken[rows] = source
    new.objects = dense(PackedLists(old.objects.values, offsets, taken))
