"""The images of a dataset in one Arrow table, which all processes share (:mod:`uniemo.data.layout` makes it)."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

SCHEMA = pa.schema(
    [
        ("path", pa.binary()),  # of the image, relative to the root, in the file system's encoding
        ("split", pa.int8()),  # position in SPLITS where the tree gives one, else -1
        ("emotion", pa.int64()),  # class index
        ("distribution", pa.list_(pa.float32())),  # share of the votes for each emotion, or empty in all rows
        ("scene", pa.int64()),  # class index, -1 for none
        ("objects", pa.list_(pa.int32())),  # class indices, sorted
        ("mask", pa.binary()),  # path or null
        ("annotation", pa.binary()),  # path or null
        ("folds", pa.list_(pa.int8())),  # given folds that test on the image, from 1
        ("affect", pa.list_(pa.float32())),  # valence, arousal, deviation of either, NaN for none; or empty in all rows
        ("size", pa.int64()),  # bytes
        ("mtime", pa.int64()),  # time of change in ns
        ("hash", pa.binary()),  # of the content; null where no other image of the dataset can be the same
    ]
)


@dataclass(frozen=True)
class Problem:
    """An image that the dataset's lists name and that cannot be used.

    Attributes:
        image: path relative to the root.
        reason: in a few words.
        split: where the lists put it; None where they give no split.
        label: as spelled, of an image whose label is none of the dataset's; None for other reasons.
        emotion: of an image whose annotation is at fault.
        annotation: path of that, relative to the root.
    """

    image: str
    reason: str
    split: Split | None = None
    label: str | None = None
    emotion: str | None = None
    annotation: str | None = None


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
        self._shares: NDArray[Any] = np.from_dlpack(self._column("distribution").values)  # (rows · K,) or empty
        self._affect: NDArray[Any] = np.from_dlpack(self._column("affect").values)  # (rows · 4,) or empty
        objects = self._column("objects")
        self._object_values: NDArray[Any] = np.from_dlpack(objects.values)
        self._object_offsets = np.from_dlpack(objects.offsets)

    def _column(self, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return a column of the whole table as one array."""
        column = self.table[name]
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    def _numbers(self, name: str) -> NDArray[Any]:
        values = np.from_dlpack(self._column(name))  # to_numpy would import pandas
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

    def distribution(self, index: int) -> NDArray[np.float32]:
        """Return image ``index``'s (K,) shares of the votes, which sum to one; one-hot where there are no votes."""
        size = len(self.vocabulary.emotions)
        if not self.has_distributions():
            return np.eye(size, dtype=np.float32)[self.emotion[index]]
        row = self._row(index)
        return self._shares[row * size : (row + 1) * size]

    def affect(self, index: int) -> NDArray[np.float32]:
        """Return mean valence and arousal of image ``index`` and the deviation of either, (4,), NaN for none."""
        row = self._row(index)
        return self._affect[4 * row : 4 * row + 4] if len(self._affect) else np.full(4, np.nan, dtype=np.float32)

    # All of them.

    def names(self) -> list[str]:
        """Return all paths relative to the root; a new list at each call."""
        return [os.fsdecode(path) for path in self.column("path").to_pylist()]

    def column(self, name: str) -> Any:  # noqa: ANN401 - pyarrow has no types
        """Return the column of ``SCHEMA`` as an Arrow array (N,)."""
        column = self._column(name)
        if self.rows is None:
            return column
        rows = np.ascontiguousarray(self.rows, dtype=np.int64)
        # pa.array would import pandas
        return column.take(pa.Array.from_buffers(pa.int64(), len(rows), [None, pa.py_buffer(rows)]))

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

    def has_distributions(self) -> bool:
        """Whether the images of the whole table have votes."""
        return len(self._shares) > 0

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
        if self.has_distributions():
            digest.update(np.stack([self.distribution(index) for index in range(len(self))]).data)
        if len(self._affect):
            digest.update(np.stack([self.affect(index) for index in range(len(self))]).data)
        return digest.hexdigest()

    @property
    def vocabulary(self) -> Vocabulary:
        """Emotion, scene and object names."""
        return self.info.vocabulary

    @property
    def given_splits(self) -> tuple[Split, ...]:
        """The splits that the tree itself gives."""
        codes = np.unique(np.from_dlpack(self._column("split")))
        return tuple(SPLITS[code] for code in codes.tolist() if code >= 0)


@dataclass(frozen=True)
class Layout:
    """One form in which a dataset lies on disk.

    Attributes:
        name: short, as for ``--data.layout``.
        dataset: name of the data module's class, for example ``FI``.
        tree: the expected tree in a line, as errors show it.
        matches: whether a folder holds this layout; looks at a handful of names, never walks the tree.
        read: reads the tree into :class:`~uniemo.data.rows.Rows`; the keyword arguments are the dataset's own.
        options: names of those keyword arguments.
        any_classes: the tree of any dataset may look like it, so that it is taken only where its dataset is named.
    """

    name: str
    dataset: str
    tree: str
    matches: Callable[[Path], bool]
    read: Callable[..., Any]
    options: tuple[str, ...] = ()
    any_classes: bool = False


def make_manifest(root: Path, info: Info, columns: Mapping[str, Sequence[Any]]) -> Manifest:
    """Return a manifest of lists.

    Args:
        root: folder that all paths are relative to.
        info: what holds for all images.
        columns: ``path`` (text), ``emotion`` (class index) and any other of ``SCHEMA``.
    """
    return Manifest(to_table(dict(columns)), root, info)


def to_table(columns: dict[str, Any]) -> pa.Table:
    """Return a table of ``SCHEMA``; columns that are not given have no values.

    Lists are taken out of ``columns`` one by one, so that the table does not need memory beside all of them.
    """
    count = len(columns["path"])
    numbers, lists = ("split", "scene", "size", "mtime"), ("distribution", "objects", "folds", "affect")
    empty: dict[str, Any] = {**dict.fromkeys(numbers, -1), **dict.fromkeys(lists, ())}
    arrays = []
    for entry in SCHEMA:
        values = columns.pop(entry.name) if entry.name in columns else [empty.get(entry.name)] * count
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
            table = map_table(file)
        except OSError as error:
            raise UniEmoError(
                f"the dataset's table must stay in the cache while loaders start; {file} is gone: start again"
            ) from error
    return Manifest(table, root, info, rows, sample_id, file)


def map_table(file: Path) -> pa.Table:
    """Return the table of an Arrow file, mapped into memory."""
    return pa.ipc.open_file(pa.memory_map(str(file))).read_all()
