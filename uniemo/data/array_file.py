"""Files of NumPy arrays that processes map and share.

Layout: magic, length of the header, header (JSON), arrays at aligned offsets, CRC-32 of all that.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uniemo.cache import atomic_write
from uniemo.errors import UniEmoError

_MAGIC = b"uniemo\x00\x01"
_ALIGN = 64  # bytes; any dtype may be read from such an offset
_CHUNK = 1 << 20  # bytes read at once


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]], header: Mapping[str, Any]) -> None:
    """Write arrays and a JSON header into one file, whole or not at all."""
    table: dict[str, tuple[str, tuple[int, ...], int]] = {}
    end = 0
    for name, array in arrays.items():
        table[name] = (array.dtype.str, array.shape, end)
        end += -(-array.nbytes // _ALIGN) * _ALIGN
    text = json.dumps({"header": dict(header), "arrays": table}).encode()
    start = -(-(len(_MAGIC) + 8 + len(text)) // _ALIGN) * _ALIGN
    with atomic_write(path) as temporary, open(temporary, "wb") as file:
        parts: list[bytes] = [(_MAGIC + struct.pack("<Q", len(text)) + text).ljust(start, b"\0")]
        parts += [_padded(array) for array in arrays.values()]
        check = 0
        for part in parts:
            file.write(part)
            check = zlib.crc32(part, check)
        file.write(struct.pack("<I", check))


def _padded(array: NDArray[Any]) -> bytes:
    """Return an array's bytes, filled up to the alignment."""
    return array.tobytes().ljust(-(-array.nbytes // _ALIGN) * _ALIGN, b"\0")


def read_arrays(path: Path) -> tuple[dict[str, Any], dict[str, NDArray[Any]]] | None:
    """Return a file's header and its arrays, mapped and read-only; None where it is missing or damaged."""
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size - 4
            check, left = 0, size
            while left > 0 and (chunk := file.read(min(_CHUNK, left))):
                check = zlib.crc32(chunk, check)
                left -= len(chunk)
            if left or struct.pack("<I", check) != file.read(4):
                return None
            file.seek(0)
            if file.read(len(_MAGIC)) != _MAGIC:
                return None
            (length,) = struct.unpack("<Q", file.read(8))
            content = json.loads(file.read(length))
            whole = np.memmap(file, np.uint8, mode="r")
    except OSError:
        return None
    start = -(-(len(_MAGIC) + 8 + length) // _ALIGN) * _ALIGN
    places = content["arrays"].items()
    return content["header"], {name: _part(whole, dtype, shape, start + at) for name, (dtype, shape, at) in places}


@dataclass(frozen=True)
class _Place:
    """Where in a file a mapped array lies."""

    path: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


def portable(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of an object's attributes in which mapped arrays are replaced by their place in the file."""
    return {name: _place(value) or value if isinstance(value, np.ndarray) else value for name, value in state.items()}


def restored(state: Mapping[str, Any]) -> dict[str, Any]:
    """Undo :func:`portable`."""
    return {name: _mapped(value) if isinstance(value, _Place) else value for name, value in state.items()}


def _place(array: NDArray[Any]) -> _Place | None:
    """Return where an array is mapped from, None where its memory is its own."""
    owner: Any = array
    while isinstance(owner, np.ndarray) and not isinstance(owner, np.memmap):
        owner = owner.base
    if not isinstance(owner, np.memmap) or owner.filename is None or not array.flags.c_contiguous:
        return None
    while isinstance(owner.base, np.memmap):  # a slice's own offset is not kept: ask the whole
        owner = owner.base
    return _Place(str(owner.filename), array.dtype.str, array.shape, array.ctypes.data - owner.ctypes.data)


def _mapped(place: _Place) -> NDArray[Any]:
    """Map an array again."""
    try:
        whole = np.memmap(place.path, np.uint8, mode="r")
    except OSError as error:
        raise UniEmoError(
            f"the dataset's index must stay while a run starts its loaders; {place.path} is gone: start again"
        ) from error
    return _part(whole, place.dtype, place.shape, place.offset)


def _part(whole: NDArray[np.uint8], dtype: str, shape: Sequence[int], offset: int) -> NDArray[Any]:
    """Return the array of this dtype and shape that begins at a byte of a mapped file."""
    count = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
    return np.asarray(whole[offset : offset + count]).view(dtype).reshape(tuple(shape))
