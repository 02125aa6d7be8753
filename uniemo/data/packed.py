"""Long lists of strings and of class indices in a few NumPy buffers.

A Python list of 118,000 strings costs every loader worker a private copy as soon as it touches their reference counts;
a buffer stays shared. Buffers mapped from a file stay shared even with workers that start from scratch: pickling sends
the place in the file, not the content.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from uniemo.data.array_file import portable, restored

Rows = NDArray[np.int64]
_CODEC = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()
_STEP = 4096  # strings that an iteration looks up at once


class PackedStrings(Sequence[str]):
    """Strings, in the file system's encoding, end to end in one buffer.

    Args:
        data: bytes of all strings.
        offsets: (M + 1,) where each begins, and where the last ends.
        rows: (N,) which of the M strings are members; None takes all.
    """

    def __init__(self, data: NDArray[np.uint8], offsets: Rows, rows: Rows | None = None) -> None:
        self.data = data
        self.offsets = offsets
        self.rows = rows

    @classmethod
    def pack(cls, strings: Sequence[str] | Sequence[bytes]) -> PackedStrings:
        """Copy strings into a buffer; what is packed already comes back as it is."""
        if isinstance(strings, PackedStrings):
            return strings
        encoded = [os.fsencode(text) for text in strings]
        return cls(np.frombuffer(b"".join(encoded), np.uint8), _offsets([len(text) for text in encoded]))

    def encoded(self, index: int) -> bytes:
        """Return string ``index`` as bytes."""
        row = index if self.rows is None else self.rows[index]
        return self.data[self.offsets[row] : self.offsets[row + 1]].tobytes()

    def take(self, rows: Rows) -> PackedStrings:
        """Return the strings at ``rows``; the buffer is shared."""
        return PackedStrings(self.data, self.offsets, _compose(self.rows, rows))

    def __len__(self) -> int:
        """Return N."""
        return len(self.offsets) - 1 if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> PackedStrings: ...
    def __getitem__(self, index: int | slice) -> str | PackedStrings:
        """Return a string, or a part of the sequence."""
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        return os.fsdecode(self.encoded(_position(index, len(self))))

    def __iter__(self) -> Iterator[str]:
        """Yield the strings, faster than one by one."""
        view = self.data.data
        for start in range(0, len(self), _STEP):
            rows = slice(start, start + _STEP) if self.rows is None else self.rows[start : start + _STEP]
            begin, end = self.offsets[:-1][rows].tolist(), self.offsets[1:][rows].tolist()
            for a, b in zip(begin, end, strict=True):
                yield str(view[a:b], *_CODEC)

    def __eq__(self, other: object) -> bool:
        """Compare with any sequence of strings."""
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        """Send mapped buffers by their place in the file."""
        return portable(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the buffers again."""
        self.__dict__.update(restored(state))


class PackedOptional(Sequence["str | None"]):
    """Strings that may be absent; the empty one stands for None.

    Args:
        strings: the texts.
    """

    def __init__(self, strings: PackedStrings) -> None:
        self.strings = strings

    @classmethod
    def pack(cls, strings: Sequence[str | None]) -> PackedOptional:
        """Copy strings into a buffer; what is packed already comes back as it is."""
        if isinstance(strings, PackedOptional):
            return strings
        return cls(PackedStrings.pack([text or "" for text in strings]))

    def take(self, rows: Rows) -> PackedOptional:
        """Return the members at ``rows``; the buffer is shared."""
        return PackedOptional(self.strings.take(rows))

    def __len__(self) -> int:
        """Return N."""
        return len(self.strings)

    @overload
    def __getitem__(self, index: int) -> str | None: ...
    @overload
    def __getitem__(self, index: slice) -> PackedOptional: ...
    def __getitem__(self, index: int | slice) -> str | PackedOptional | None:
        """Return a string or None, or a part of the sequence."""
        if isinstance(index, slice):
            return PackedOptional(self.strings[index])
        return self.strings[index] or None

    def __eq__(self, other: object) -> bool:
        """Compare with any sequence."""
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]


class PackedLists(Sequence[tuple[int, ...]]):
    """Tuples of class indices end to end in one buffer.

    Args:
        values: (V,) all indices.
        offsets: (M + 1,) where each tuple begins, and where the last ends.
        rows: (N,) which of the M tuples are members; None takes all.
    """

    def __init__(self, values: NDArray[np.int32], offsets: Rows, rows: Rows | None = None) -> None:
        self.values = values
        self.offsets = offsets
        self.rows = rows

    @classmethod
    def pack(cls, lists: Sequence[Sequence[int]]) -> PackedLists:
        """Copy tuples into a buffer; what is packed already comes back as it is."""
        if isinstance(lists, PackedLists):
            return lists
        return cls(np.fromiter(chain.from_iterable(lists), np.int32), _offsets([len(row) for row in lists]))

    def take(self, rows: Rows) -> PackedLists:
        """Return the tuples at ``rows``; the buffer is shared."""
        return PackedLists(self.values, self.offsets, _compose(self.rows, rows))

    def __len__(self) -> int:
        """Return N."""
        return len(self.offsets) - 1 if self.rows is None else len(self.rows)

    @overload
    def __getitem__(self, index: int) -> tuple[int, ...]: ...
    @overload
    def __getitem__(self, index: slice) -> PackedLists: ...
    def __getitem__(self, index: int | slice) -> tuple[int, ...] | PackedLists:
        """Return a tuple, or a part of the sequence."""
        if isinstance(index, slice):
            return self.take(np.arange(*index.indices(len(self))))
        index = _position(index, len(self))
        row = index if self.rows is None else self.rows[index]
        return tuple(self.values[self.offsets[row] : self.offsets[row + 1]].tolist())

    def __eq__(self, other: object) -> bool:
        """Compare with any sequence of tuples."""
        return _equal(self, other)

    __hash__ = None  # type: ignore[assignment]

    def __getstate__(self) -> dict[str, Any]:
        """Send mapped buffers by their place in the file."""
        return portable(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Map the buffers again."""
        self.__dict__.update(restored(state))


def dense(lists: PackedLists) -> PackedLists:
    """Return the same tuples in buffers that hold nothing else."""
    if lists.rows is None:
        return lists
    begin = lists.offsets[lists.rows]
    lengths = lists.offsets[lists.rows + 1] - begin
    offsets = _offsets(lengths)
    source = np.repeat(begin - offsets[:-1], lengths) + np.arange(offsets[-1])
    return PackedLists(lists.values[source], offsets)


def _offsets(lengths: Sequence[int] | Rows) -> Rows:
    """Return where items of these lengths begin, and where the last ends."""
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64)


def _position(index: int, length: int) -> int:
    """Return a plain index from 0; IndexError outside the sequence."""
    if not -length <= index < length:
        raise IndexError(f"index {index} is outside a sequence of {length}")
    return index % length


def _compose(rows: Rows | None, further: Rows) -> Rows:
    """Return the rows of rows."""
    further = np.asarray(further, dtype=np.int64)
    return further if rows is None else rows[further]


def _equal(first: Sequence[Any], second: object) -> bool:
    """Compare element by element."""
    if not isinstance(second, Sequence) or isinstance(second, str):
        return NotImplemented
    return len(first) == len(second) and all(a == b for a, b in zip(first, second, strict=True))
