"""Reading files of other programs without executing anything in them."""

from __future__ import annotations

import argparse
import codecs
import collections
import io
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from uniemo.errors import UniEmoError

_WRAPPER = "module."  # what DataParallel puts before every name
_ASKS_FOR = re.compile(r"GLOBAL (\S+)")
_MULTIARRAY: Any = getattr(np, "_core", None) or np.core  # numpy 2, numpy 1
_KINDS = np.typecodes["AllInteger"] + np.typecodes["AllFloat"] + "?SU"  # of numbers and text, not of objects

# Plain data that published checkpoints hold beside tensors: the run's arguments, a best accuracy from numpy, the states
# of random number generators.
_PLAIN: list[Any] = [
    argparse.Namespace,
    np.ndarray,
    np.dtype,
    *{type(np.dtype(kind)) for kind in _KINDS},
    *((pathlib.PurePosixPath, f"pathlib{local}.PosixPath") for local in ("", "._local")),
    *((pathlib.PureWindowsPath, f"pathlib{local}.WindowsPath") for local in ("", "._local")),
    *((_MULTIARRAY.multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_MULTIARRAY.multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
]


def check_file(path: str | Path, what: str) -> Path:
    """Return the path of an existing file.

    Raises:
        UniEmoError: there is none.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise UniEmoError(f"{what} must be an existing file; {path} {reason}: correct the path")
    return path


def read_torch(path: str | Path, what: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a file of ``torch.save`` onto the CPU: tensors, plain values and an argparse Namespace, nothing else.

    Args:
        path: the file.
        what: what it is called in errors.

    Raises:
        UniEmoError: no such file, a damaged one, or one that asks for anything to be run; it is not run.
    """
    path = check_file(path, what)
    try:
        with torch.serialization.safe_globals(_PLAIN), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about its own legacy formats
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        refuse(path, what, error)
    except Exception as error:  # the file is anyone's: whatever its bytes provoke is one line
        raise UniEmoError(
            f"{what} must be a file of torch.save; {path} cannot be read ({_first_line(error)}): download it again"
        ) from error


def refuse(path: Path, what: str, error: Exception) -> NoReturn:
    """Raise the error about a pickle that is no plain data."""
    wanted = _ASKS_FOR.search(str(error))
    reason = f"asks for {wanted.group(1)}" if wanted else "holds something else, or is damaged"
    raise UniEmoError(
        f"{what} must hold nothing but tensors and plain values; {path} {reason}: nothing in it was run, "
        "save it anew without that where you trust it"
    ) from error


def tensors(content: Any, path: Path, what: str) -> dict[str, Tensor]:  # noqa: ANN401
    """Return a state dict in float32, DataParallel's prefix taken off its names.

    Raises:
        UniEmoError: it does not map names to ordinary tensors, or holds numbers that are not finite.
    """
    if not (
        isinstance(content, dict)
        and content
        and all(isinstance(name, str) and is_ordinary(value) for name, value in content.items())
    ):
        raise UniEmoError(f"{what} must map names to tensors; {path} does not: give a checkpoint of the released code")
    while all(name.startswith(_WRAPPER) for name in content):
        content = {name.removeprefix(_WRAPPER): value for name, value in content.items()}
    wrong = next((name for name, value in content.items() if not torch.isfinite(value).all()), None)
    if wrong is not None:
        raise UniEmoError(f"{what} must hold finite numbers; {wrong} of {path} does not: download it again")
    return {name: value.detach().float() for name, value in content.items()}


def is_ordinary(value: object) -> bool:
    """Whether this is a tensor of real numbers, each of which is in the file."""
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_quantized or value.is_complex())
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )


def check_complete(state: dict[str, Tensor], names: Iterable[str], path: Path) -> None:
    """Raise the error that names the first tensor that a file lacks."""
    lacking = sorted(name for name in names if name not in state)
    if lacking:
        raise UniEmoError(
            f"a released checkpoint must be complete; {path} lacks {len(lacking)} tensors, first {lacking[0]!r}: "
            "give the file as its authors published it"
        )


def check_shape(state: dict[str, Tensor], name: str, shape: tuple[int, ...], path: Path) -> None:
    """Raise unless a tensor of a file has a shape."""
    if state[name].shape != shape:
        raise UniEmoError(
            f"{name} of {path} must be {shape} to fit the file's other tensors; "
            f"got {tuple(state[name].shape)}: give the file as its authors published it"
        )


def pick(
    state: dict[str, Tensor], names: dict[str, str], shapes: dict[str, torch.Size], path: Path
) -> dict[str, Tensor]:
    """Return tensors of a state dict under other names.

    Args:
        state: the file's.
        names: name in the file by new name.
        shapes: wanted shape by new name.
        path: the file, for errors.

    Raises:
        UniEmoError: tensors that are missing or of another shape; the first is named.
    """
    check_complete(state, names.values(), path)
    for new, old in names.items():
        check_shape(state, old, tuple(shapes[new]), path)
    return {new: state[old] for new, old in names.items()}


class _Sealed:
    """A callable that a pickle can call but not change."""

    __slots__ = ("_call",)
    _call: Callable[..., Any]

    def __init__(self, call: Callable[..., Any]) -> None:
        object.__setattr__(self, "_call", call)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise pickle.UnpicklingError(f"sets {name}")

    def __call__(self, *args: Any) -> Any:  # noqa: ANN401
        return self._call(*args)


def _encode(text: str, encoding: str) -> bytes:
    """Encode as pickles of bytes do, which know one encoding."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"asks for the encoding {encoding}")
    return codecs.encode(text, encoding)


def _storage(data: bytes) -> Any:  # noqa: ANN401
    """Read a tensor's numbers; torch's own function of this place would execute what they ask for."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


_ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("_codecs", "encode"): _Sealed(_encode),
    ("torch._utils", "_rebuild_tensor_v2"): _Sealed(torch._utils._rebuild_tensor_v2),
    ("torch.storage", "_load_from_bytes"): _Sealed(_storage),
}
for _core in ("core", "_core"):  # numpy 1 and 2 write different names
    _ARRAYS[f"numpy.{_core}.multiarray", "scalar"] = _MULTIARRAY.multiarray.scalar
    _ARRAYS[f"numpy.{_core}.multiarray", "_reconstruct"] = _MULTIARRAY.multiarray._reconstruct
    _ARRAYS[f"numpy.{_core}.numeric", "_frombuffer"] = _Sealed(_MULTIARRAY.numeric._frombuffer)


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, tensors on the CPU, numbers, text, lists and dictionaries."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """Return what may be named; all else is refused."""
        try:
            return _ARRAYS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}") from None


def read_arrays(path: str | Path, what: str) -> Any:  # noqa: ANN401
    """Read a pickle of arrays and plain values, executing nothing.

    Args:
        path: the file.
        what: what it is called in errors.

    Raises:
        UniEmoError: no such file, a damaged one, or one that asks for anything but arrays.
    """
    path = check_file(path, what)
    try:
        with path.open("rb") as file:
            return _ArrayUnpickler(file).load()
    except pickle.UnpicklingError as error:
        refuse(path, what, error)
    except Exception as error:  # as above
        raise UniEmoError(
            f"{what} must be a pickle of arrays; {path} cannot be read ({_first_line(error)}): download it again"
        ) from error


def _first_line(error: Exception) -> str:
    """Return what an error says, shortened."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
