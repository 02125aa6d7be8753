"""Reading other programs' files without executing anything in them: tensors, arrays and plain values, nothing else."""

from __future__ import annotations

import argparse
import codecs
import collections
import contextlib
import io
import pathlib
import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from uniemo.archives import check_archive, is_ordinary
from uniemo.errors import UniEmoError, first_line
from uniemo.models.state import check_finite

_WRAPPER = "module."  # what DataParallel puts before every name
_MULTIARRAY: Any = getattr(np, "_core", None) or np.core  # numpy 2, numpy 1
_CORES = ("core", "_core")  # as numpy 1 and 2 write it
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
    *((_MULTIARRAY.multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in _CORES),
    *((_MULTIARRAY.multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in _CORES),
]


def check_file(path: str | Path, what: str) -> Path:
    """Return the path of an existing file; ``what`` it is called in errors."""
    path = Path(path).expanduser()
    if not path.is_file():
        reason = "is a folder" if path.is_dir() else "does not exist"
        raise UniEmoError(f"{what} must be an existing file; {path} {reason}: correct the path")
    return path


def read_torch(path: str | Path, what: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Read a file of ``torch.save`` onto the CPU.

    Raises:
        UniEmoError: no such file, a damaged one, or one that asks for anything to be run; it is not run.
    """
    path = check_file(path, what)
    with (
        _one_line(path, what, "a file of torch.save"),
        torch.serialization.safe_globals(_PLAIN),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # about its own legacy formats
        check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))


def read_arrays(path: str | Path, what: str) -> Any:  # noqa: ANN401
    """Read a pickle of arrays; errors as :func:`read_torch`."""
    path = check_file(path, what)
    with _one_line(path, what, "a pickle of arrays"), path.open("rb") as file:
        return _ArrayUnpickler(file).load()


@contextlib.contextmanager
def _one_line(path: Path, what: str, kind: str) -> Iterator[None]:
    """Turn whatever a file's bytes provoke into one line."""
    try:
        yield
    except pickle.UnpicklingError as error:
        wanted = re.search(r"GLOBAL (\S+)", str(error))
        reason = f"asks for {wanted.group(1)}" if wanted else "holds something else, or is damaged"
        raise UniEmoError(
            f"{what} must hold nothing but tensors and plain values; {path} {reason}: nothing in it was run, "
            "save it anew without that where you trust it"
        ) from error
    except Exception as error:  # the file is anyone's
        reason = first_line(error)[:120]
        raise UniEmoError(f"{what} must be {kind}; {path} cannot be read ({reason}): download it again") from error


class _ArrayUnpickler(pickle.Unpickler):
    """Reads arrays, tensors on the CPU, numbers, text, lists and dictionaries."""

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """Return what may be named; functions in a fresh wrapper, which a pickle may change without harm."""
        types = {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
        types["collections", "OrderedDict"] = collections.OrderedDict
        functions: dict[tuple[str, str], Callable[..., Any]] = {
            ("_codecs", "encode"): _encode,
            ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
            ("torch.storage", "_load_from_bytes"): _storage,
        }
        for core in _CORES:
            functions[f"numpy.{core}.multiarray", "scalar"] = _MULTIARRAY.multiarray.scalar
            functions[f"numpy.{core}.multiarray", "_reconstruct"] = _MULTIARRAY.multiarray._reconstruct
            functions[f"numpy.{core}.numeric", "_frombuffer"] = _MULTIARRAY.numeric._frombuffer
        if (module, name) in types:
            return types[module, name]
        if (module, name) not in functions:
            raise pickle.UnpicklingError(f"GLOBAL {module}.{name}")
        function = functions[module, name]
        return lambda *args: function(*args)


def _encode(text: str, encoding: str) -> bytes:
    """Encode as pickles of bytes do, which know one encoding."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"asks for the encoding {encoding}")
    return codecs.encode(text, encoding)


def _storage(data: bytes) -> Any:  # noqa: ANN401
    """Read a tensor's numbers; torch's own function of this place would execute what they ask for."""
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


# State dicts.


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
    check_finite(content, f"{what} {path}", "download it again")
    return {name: value.detach().float() for name, value in content.items()}


def check_complete(state: dict[str, Tensor], names: Iterable[str], path: Path) -> None:
    """Raise the error that names the first tensor that a file lacks."""
    lacking = sorted(name for name in names if name not in state)
    if lacking:
        raise UniEmoError(
            f"a released checkpoint must be complete; {path} lacks {len(lacking)} tensors, first {lacking[0]!r}: "
            "give the file as its authors published it"
        )


def check_shapes(state: dict[str, Tensor], shapes: dict[str, tuple[int, ...]], path: Path) -> None:
    """Raise the error that names the first tensor of another shape than wanted."""
    for name, shape in shapes.items():
        if state[name].shape != shape:
            raise UniEmoError(
                f"{name} of {path} must be {tuple(shape)} to fit the file's other tensors; "
                f"got {tuple(state[name].shape)}: give the file as its authors published it"
            )


def fill(module: torch.nn.Module, state: dict[str, Tensor], names: dict[str, str], path: Path) -> None:
    """Load a module from a file's tensors; ``names`` has the file's name of each of the module's tensors.

    Raises:
        UniEmoError: tensors that are missing or of another shape; the first is named.
    """
    check_complete(state, names.values(), path)
    own = module.state_dict()
    check_shapes(state, {names[name]: tuple(own[name].shape) for name in names}, path)
    module.load_state_dict({name: state[old] for name, old in names.items()}, strict=False)
