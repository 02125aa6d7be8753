"""What was found in an EmoSet tree.

A ledger holds the names, sizes and times of change of every file in the folders that the split files name, what the
annotations among them say, and the split files' entries as positions in that list of files.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uniemo.data.array_file import read_arrays, write_arrays
from uniemo.data.index.folders import TICK, Folder, Stamp, joined_stamps, look_all, stamp_of
from uniemo.data.listing import SPLITS, Split
from uniemo.data.packed import PackedLists, PackedStrings, dense

FORMAT = 2  # of the file; one of another format is made again
UNREAD, READ, FRESH = 0, 1, 2  # what is known of an annotation; FRESH was read within a tick of its change
_COLUMNS = ("emotion", "image", "annotation", "mask")

Positions = NDArray[np.int32]


@dataclass(frozen=True)
class SplitTable:
    """A split file's entries.

    Attributes:
        emotions: names of the emotions met.
        emotion: (N,) position in ``emotions``.
        image: (N,) position of the image among the ledger's files, -1 where it does not exist.
        annotation: (N,) likewise.
        mask: (N,) likewise.
    """

    emotions: list[str]
    emotion: Positions
    image: Positions
    annotation: Positions
    mask: Positions

    def take(self, rows: Positions) -> SplitTable:
        """Return the entries at ``rows``."""
        return SplitTable(self.emotions, self.emotion[rows], self.image[rows], self.annotation[rows], self.mask[rows])


@dataclass
class Ledger:
    """F files of a tree, in D folders.

    Attributes:
        root: folder of the tree.
        folders: D names relative to the root.
        first: (D + 1,) position of each folder's first file.
        names: D buffers, the folders' names as in :class:`Folder`.
        size: (F,) bytes.
        time: (F,) time of change in ns.
        state: (F,) what is known of a file as an annotation: UNREAD, READ or FRESH.
        scene: (F,) position in ``scene_names``, -1 for none.
        objects: F tuples of positions in ``object_names``.
        scene_names: names as the annotations spell them.
        object_names: likewise.
        stamps: of the split files.
        splits: entries of those split files that can be used.
        generation: digest of all but ``state`` and ``stamps``; set when the ledger is written.
        written: when that was, in ns.
    """

    root: Path
    folders: list[str]
    first: NDArray[np.int64]
    names: list[bytes | NDArray[np.uint8]]
    size: NDArray[np.int64]
    time: NDArray[np.int64]
    state: NDArray[np.uint8]
    scene: NDArray[np.int32]
    objects: PackedLists
    scene_names: list[str]
    object_names: list[str]
    stamps: dict[Split, Stamp]
    splits: dict[Split, SplitTable]
    generation: str = ""
    written: int = 0

    def look(self) -> list[Folder] | None:
        """Return the folders as they are now; None where a split file has changed."""
        if any(stamp_of(self.root / f"{split}.json") != self.stamps[split] for split in SPLITS):
            return None
        return look_all(self.root, self.folders)

    def same_names(self, seen: list[Folder]) -> bool:
        """Tell whether the folders hold the same names as they did."""
        return all(bytes(names) == folder.names for names, folder in zip(self.names, seen, strict=True))

    def changed(self, seen: list[Folder]) -> NDArray[np.bool_]:
        """Return (F,) which files have another size or time of change, where the names are the same."""
        size, time = joined_stamps(seen)
        return (size != self.size) | (time != self.time)

    def restamp(self, seen: list[Folder]) -> None:
        """Enter other sizes and times of change; annotations that have changed count as unread."""
        self.state = np.where(self.changed(seen), UNREAD, self.state).astype(np.uint8)
        self.size, self.time = joined_stamps(seen)

    def same_tree(self, other: Ledger) -> bool:
        """Tell whether both describe the same files."""
        return (
            self.folders == other.folders
            and self.stamps == other.stamps
            and all(bytes(a) == bytes(b) for a, b in zip(self.names, other.names, strict=True))
            and np.array_equal(self.size, other.size)
            and np.array_equal(self.time, other.time)
        )

    def files_of(self, index: int) -> list[bytes]:
        """Return the file names of folder ``index``."""
        return bytes(self.names[index]).split(b"\0") if self.first[index + 1] > self.first[index] else []

    def paths(self, positions: Positions) -> PackedStrings:
        """Return paths relative to the root; the empty one for position -1."""
        where = np.searchsorted(self.first, positions, side="right") - 1  # (N,) folder of each
        table: dict[int, list[bytes]] = {}
        for index in np.unique(where[positions >= 0]).tolist():
            prefix = os.fsencode(f"{self.folders[index]}/" if self.folders[index] else "")
            table[index] = [prefix + name for name in self.files_of(index)]
        starts = self.first.tolist()
        pairs = zip(where.tolist(), positions.tolist(), strict=True)
        return PackedStrings.pack([table[d][p - starts[d]] if p >= 0 else b"" for d, p in pairs])

    def note(self, positions: Positions, scenes: Sequence[int], objects: Sequence[tuple[int, ...]]) -> None:
        """Enter what annotations say."""
        settled = time.time_ns() - TICK
        self.scene, self.state = self.scene.copy(), self.state.copy()  # they may be mapped
        self.scene[positions] = scenes
        self.state[positions] = np.where(self.time[positions] < settled, READ, FRESH)
        extra = PackedLists.pack(objects)
        rows = np.arange(len(self.scene))
        rows[positions] = len(rows) + np.arange(len(positions))
        values = np.concatenate([self.objects.values, extra.values])
        offsets = np.concatenate([self.objects.offsets, self.objects.offsets[-1] + extra.offsets[1:]])
        self.objects = dense(PackedLists(values, offsets, rows))

    def write(self, path: Path) -> None:
        """Write the ledger, whole or not at all."""
        arrays: dict[str, NDArray[Any]] = {
            "names": np.frombuffer(b"".join(bytes(names) for names in self.names), np.uint8),
            "first": self.first,
            "size": self.size,
            "time": self.time,
            "scene": self.scene,
            "object_values": self.objects.values,
            "object_offsets": self.objects.offsets,
        }
        for split, table in self.splits.items():
            for column in _COLUMNS:
                arrays[f"{split}.{column}"] = getattr(table, column)
        header: dict[str, Any] = {
            "format": FORMAT,
            "folders": self.folders,
            "lengths": [len(names) for names in self.names],
            "scenes": self.scene_names,
            "objects": self.object_names,
            "splits": {split: table.emotions for split, table in self.splits.items()},
        }
        digest = hashlib.sha256(json.dumps(header).encode())
        for array in arrays.values():
            digest.update(np.ascontiguousarray(array).data)
        self.generation, self.written = digest.hexdigest()[:16], time.time_ns()
        header |= {"generation": self.generation, "written": self.written}
        header |= {"root": os.fsdecode(self.root), "stamps": self.stamps}
        write_arrays(path, {**arrays, "state": self.state}, header)

    @classmethod
    def read(cls, path: Path) -> Ledger | None:
        """Read a ledger; None where there is none, or one that is damaged or of another format."""
        content = read_arrays(path)
        if content is None or content[0].get("format") != FORMAT:
            return None
        header, arrays = content
        ends = np.cumsum([0, *header["lengths"]])
        return cls(
            root=Path(header["root"]),
            folders=header["folders"],
            first=arrays["first"],
            names=[arrays["names"][a:b] for a, b in pairwise(ends)],
            size=arrays["size"],
            time=arrays["time"],
            state=arrays["state"],
            scene=arrays["scene"],
            objects=PackedLists(arrays["object_values"], arrays["object_offsets"]),
            scene_names=header["scenes"],
            object_names=header["objects"],
            stamps={split: tuple(header["stamps"][split]) for split in SPLITS},
            splits={
                split: SplitTable(names, *(arrays[f"{split}.{column}"] for column in _COLUMNS))
                for split, names in header["splits"].items()
            },
            generation=header["generation"],
            written=header["written"],
        )
