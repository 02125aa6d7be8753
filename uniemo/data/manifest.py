"""The images of a dataset in one Arrow table.

A dataset's files are read once. The table is written to the cache folder as an Arrow file, mapped into memory by every
process that trains on it, and made again only when the tree has changed: when any file below the root, images and
annotations included, has another name, size or time of change (:func:`tree_state`).
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from array import array
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from uniemo.cache import atomic_write, cache_dir
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

SCHEMA = pa.schema(
    [
        ("path", pa.binary()),  # of the image, relative to the root, in the file system's encoding
        ("split", pa.int8()),  # position in SPLITS where the tree gives one, else -1
        ("emotion", pa.int64()),  # class index
        ("scene", pa.int64()),  # class index, -1 for none
        ("objects", pa.list_(pa.int32())),  # class indices, sorted
        ("mask", pa.binary()),  # path or null
        ("annotation", pa.binary()),  # path or null
        ("folds", pa.list_(pa.int8())),  # given folds that test on the image, from 1
        ("size", pa.int64()),  # bytes
        ("mtime", pa.int64()),  # time of change in ns
        ("hash", pa.binary()),  # of the content; null where no other image of the dataset can be the same
    ]
)
_FORMAT = 1  # of the table; one of another format is made again
_DAY_S = 86_400.0
# A file may change once more without its time of change moving on: FAT counts in steps of two seconds. A table that was
# made so soon after a change is made again at the next start.
_TICK_NS = 2_000_000_000
_DEPTH = 8  # folders inside each other that are looked into
_THREADS = 8  # hide the waiting of network disks


@dataclass(frozen=True)
class Problem:
    """An image that the dataset's lists name and that cannot be used.

    Attributes:
        image: path relative to the root.
        reason: in a few words.
        split: where the lists put it; None where they give no split.
        label: as spelled, of an image whose label is none of the dataset's; None for other reasons.
    """

    image: str
    reason: str
    split: Split | None = None
    label: str | None = None


@dataclass(frozen=True)
class Info:
    """What holds for all images of a manifest.

    Attributes:
        dataset: name of the data module's class, for example ``FI``.
        layout: name of the layout that was recognised.
        folder: of the images, relative to the folder that the user gave; absolute for pictures that were unpacked.
        vocabulary: emotion, scene and object names.
        problems: images that cannot be used; they are not in the table.
        broken: message for each split whose list cannot be read.
        folds: how many cross-validation folds the tree gives; 0 for none.
        notes: remarks on the tree, for descriptions and reports.
        warnings: remarks on the labels, for whoever trains on them.
        generated: whether a model generated the images.
    """

    dataset: str = ""
    layout: str = ""
    folder: str = ""
    vocabulary: Vocabulary = field(default_factory=lambda: Vocabulary(()))
    problems: tuple[Problem, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    folds: int = 0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    generated: bool = False


class Manifest:
    """Images with their labels; all of a dataset's, or a part of them that shares the table.

    Args:
        table: with the columns of ``SCHEMA``.
        root: folder that all paths are relative to.
        info: what holds for all of them.
        rows: (N,) which rows of the table are meant; None takes all.
        sample_id: (N,) unique numbers, which with seed and epoch decide crop and flip; None counts from 0.
        file: that the table is mapped from. A loader worker that starts from scratch maps it again; a table without a
            file is copied.

    Attributes:
        emotion: (N,) int64 class indices.
        scene: (N,) int64 class indices, -1 for none.
        split: (N,) int8 positions in ``SPLITS`` as the tree gives them, -1 for none.
        sample_id: (N,) int64.
    """

    def __init__(
        self,
        table: pa.Table,
        root: Path,
        info: Info,
        rows: NDArray[np.int64] | None = None,
        sample_id: NDArray[np.int64] | None = None,
        file: Path | None = None,
    ) -> None:
        self.table = table.combine_chunks()
        self.root = root
        self.info = info
        self.rows = rows
        self.file = file
        self.emotion = self._numbers("emotion")
        self.scene = self._numbers("scene")
        self.split = self._numbers("split")
        self.sample_id = np.arange(len(self), dtype=np.int64) if sample_id is None else sample_id
        self._paths = self._column("path")
        self._masks = self._column("mask")
        objects = self._column("objects")
        self._object_values = objects.values.to_numpy()
        self._object_offsets = objects.offsets.to_numpy()

    def _column(self, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return a column of the whole table as one array."""
        column = self.table[name]
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    def _numbers(self, name: str) -> NDArray[Any]:
        values = self._column(name).to_numpy(zero_copy_only=False)
        return values if self.rows is None else values[self.rows]

    def _row(self, index: int) -> int:
        return index if self.rows is None else int(self.rows[index])

    def __len__(self) -> int:
        """Return N."""
        return self.table.num_rows if self.rows is None else len(self.rows)

    def __reduce__(self) -> tuple[Callable[..., Manifest], tuple[Any, ...]]:
        """Send a mapped table by its file."""
        table = self.table if self.file is None else None
        return _restore, (table, self.file, self.root, self.info, self.rows, self.sample_id)

    # Single images.

    def name(self, index: int) -> str:
        """Return the path of image ``index`` relative to the root, ``/`` between folders."""
        return os.fsdecode(self._paths[self._row(index)].as_py())

    def path(self, index: int) -> Path:
        """Return the file of image ``index``."""
        return self.root / self.name(index)

    def mask(self, index: int) -> Path | None:
        """Return the grey-scale mask of image ``index``, None where it has none."""
        mask = self._masks[self._row(index)].as_py()
        return None if mask is None else self.root / os.fsdecode(mask)

    def objects(self, index: int) -> NDArray[np.int32]:
        """Return the sorted object class indices of image ``index``."""
        row = self._row(index)
        found: NDArray[np.int32] = self._object_values[self._object_offsets[row] : self._object_offsets[row + 1]]
        return found

    # All of them.

    def names(self) -> list[str]:
        """Return all paths relative to the root; a new list at each call."""
        return [os.fsdecode(path) for path in self.column("path").to_pylist()]

    def column(self, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return the column of ``SCHEMA`` as an Arrow array (N,)."""
        column = self._column(name)
        return column if self.rows is None else column.take(pa.array(self.rows))

    def emotions(self) -> list[str]:
        """Return the name of each image's emotion."""
        names = self.vocabulary.emotions
        return [names[label] for label in self.emotion.tolist()]

    def stamp(self) -> NDArray[np.int64]:
        """Return (N, 2) size in bytes and time of change in ns of each image when the table was made."""
        return np.stack([self._numbers("size"), self._numbers("mtime")], axis=1)

    def has_masks(self) -> bool:
        """Whether any image of the whole table has a mask."""
        return bool(len(self._masks) > self._masks.null_count)

    def object_matrix(self) -> NDArray[np.bool_]:
        """Return (N, O), which image has which object."""
        matrix = np.zeros((len(self), len(self.vocabulary.objects)), dtype=bool)
        for index in range(len(self)):
            matrix[index, self.objects(index)] = True
        return matrix

    def take(self, indices: Sequence[int] | NDArray[np.int64], sample_id: NDArray[np.int64] | None = None) -> Manifest:
        """Return the images at ``indices``; the table is shared.

        Args:
            indices: among these N.
            sample_id: their numbers; None leaves each image its own.
        """
        indices = np.asarray(indices, dtype=np.int64)
        rows = indices if self.rows is None else self.rows[indices]
        kept = self.sample_id[indices] if sample_id is None else sample_id
        return Manifest(self.table, self.root, self.info, rows, kept, self.file)

    def fingerprint(self) -> str:
        """Return hex digits that change with any file name, label, file size or time of change."""
        digest = hashlib.sha256("\0".join(self.names()).encode(errors="surrogateescape"))
        for numbers in (self.emotion, self.stamp()):
            digest.update(np.ascontiguousarray(numbers, dtype=np.int64).data)
        return digest.hexdigest()

    @property
    def vocabulary(self) -> Vocabulary:
        """Emotion, scene and object names."""
        return self.info.vocabulary

    @property
    def given_splits(self) -> tuple[Split, ...]:
        """The splits that the tree itself gives."""
        codes = np.unique(self._column("split").to_numpy(zero_copy_only=False))
        return tuple(SPLITS[code] for code in codes.tolist() if code >= 0)


def make_manifest(root: Path, info: Info, columns: Mapping[str, Sequence[Any]]) -> Manifest:
    """Return a manifest of lists.

    Args:
        root: folder that all paths are relative to.
        info: what holds for all images.
        columns: ``path`` (text), ``emotion`` (class index) and any other of ``SCHEMA``.
    """
    return Manifest(to_table(columns), root, info)


def to_table(columns: Mapping[str, Sequence[Any]]) -> pa.Table:
    """Return a table of ``SCHEMA``; columns that are not given have no values, sizes and times are looked up there."""
    count = len(columns["path"])
    empty: dict[str, Any] = {"split": -1, "scene": -1, "objects": (), "folds": (), "size": -1, "mtime": -1}
    arrays = []
    for entry in SCHEMA:
        values = columns[entry.name] if entry.name in columns else [empty.get(entry.name)] * count
        if pa.types.is_binary(entry.type):
            values = [os.fsencode(value) if isinstance(value, str) else value for value in values]
        arrays.append(pa.array(values, entry.type))
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def _restore(
    table: pa.Table | None,
    file: Path | None,
    root: Path,
    info: Info,
    rows: NDArray[np.int64] | None,
    sample_id: NDArray[np.int64],
) -> Manifest:
    """Undo :meth:`Manifest.__reduce__`."""
    if table is None and file is not None:
        try:
            table = _map(file)
        except OSError as error:
            raise UniEmoError(
                f"the dataset's table must stay in the cache while loaders start; {file} is gone: start again"
            ) from error
    return Manifest(table, root, info, rows, sample_id, file)


# The cache.


def cached_manifest(root: Path, key: str, make: Callable[[], tuple[Info, pa.Table]]) -> Manifest:
    """Return a tree's manifest from the cache folder; made anew where it is missing or the tree has changed.

    Args:
        root: folder that the user gave.
        key: whatever else decides what is in the table: dataset, layout, options.
        make: reads the tree.

    Raises:
        UniEmoError: the cache folder cannot be written to, or what ``make`` raises.
    """
    from filelock import FileLock

    home = hashlib.sha256(os.fsencode(root.resolve()) + f"\0{key}".encode()).hexdigest()[:16]
    folder = cache_dir() / "manifests"
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise UniEmoError(f"the cache folder must be writable; {folder} is not: set UNIEMO_CACHE") from error
    state = tree_state(root)
    file = folder / f"{home}-{state}.arrow"
    with FileLock(folder / f"{home}.lock"):
        found = _read(file, root)
        if found is None:
            info, table = make()
            with atomic_write(file) as temporary:
                _write(temporary, table, info)
            for old in folder.glob(f"{home}-*.arrow"):
                if old != file and time.time() - old.stat().st_mtime > _DAY_S:  # a run may still use today's
                    old.unlink(missing_ok=True)
            found = _read(file, root)
    if found is None:
        raise UniEmoError(f"the cache folder must keep what is written to it; {file} is gone: set UNIEMO_CACHE")
    return found


def _write(file: Path, table: pa.Table, info: Info) -> None:
    metadata = {"uniemo": json.dumps({**asdict(info), "format": _FORMAT})}
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema.with_metadata(metadata)) as writer:
        writer.write_table(table.combine_chunks())


def _map(file: Path) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()


def _read(file: Path, root: Path) -> Manifest | None:
    """Return what a file holds, mapped; None where it is missing, damaged or of another format."""
    try:
        table = _map(file)
        content = json.loads(table.schema.metadata[b"uniemo"])
    except (OSError, pa.ArrowException, KeyError, ValueError):
        return None
    if content.pop("format") != _FORMAT or not (root / content["folder"]).is_dir():
        return None
    content["vocabulary"] = Vocabulary(**{kind: tuple(names) for kind, names in content["vocabulary"].items()})
    content["problems"] = tuple(Problem(**problem) for problem in content["problems"])
    content |= {name: tuple(content[name]) for name in ("notes", "warnings")}
    return Manifest(table, root / content["folder"], Info(**content), file=file)


def tree_state(root: Path) -> str:
    """Return 16 hex digits that change when any file below a folder gets another name, size or time of change.

    Hidden files and folders are passed over. No file is opened: this takes a second for 250,000 files on a local disk.
    """
    digest = hashlib.sha256()
    newest = 0
    level = [os.fsencode(root)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in range(_DEPTH):
            inner = []
            for folder, (folders, listing, latest) in zip(level, pool.map(_look, level), strict=True):
                digest.update(os.path.relpath(folder, os.fsencode(root)) + b"\0" + listing)
                inner += folders
                newest = max(newest, latest)
            level = inner
    if newest > time.time_ns() - _TICK_NS:
        digest.update(str(time.time_ns()).encode())
    return digest.hexdigest()[:16]


def _look(folder: bytes) -> tuple[list[bytes], bytes, int]:
    """Return a folder's folders, its files' names, sizes and times in one buffer, and the latest of the times."""
    found: dict[bytes, tuple[int, int]] = {}
    folders = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith((b".", b"__")):
                    continue
                try:
                    if entry.is_dir():
                        folders.append(entry.path)
                        continue
                    status = entry.stat()
                except FileNotFoundError:  # a link to nowhere
                    continue
                found[entry.name] = status.st_size, status.st_mtime_ns
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return [], b"", 0
    names = sorted(found)
    numbers = array("q", [number for name in names for number in found[name]])
    return sorted(folders), b"\0".join(names) + b"\0" + numbers.tobytes(), max(numbers[1::2], default=0)
