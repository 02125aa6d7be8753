"""The tensors of a TorchScript archive, read without running anything in it."""

from __future__ import annotations

import math
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from uniemo.archives import check_archive

_DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive (saved tensors have no such constants)."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Return an archive's tensors, the attributes that are no weights included, by the names of ``state_dict``.

    Raises:
        pickle.UnpicklingError: something other than modules, tensors and plain values, or a damaged archive.
    """
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            root = next(name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl"))
            with archive.open(f"{root}/data.pkl") as file:
                return dict(_tensors(_Reader(file, archive, root).load(), ""))
    except Exception as error:  # the file is anyone's
        raise pickle.UnpicklingError(f"not an archive of modules and tensors ({error})") from error


class _Module:
    """Stands for each class of the archive: holds attributes and has no code."""


class _Reader(pickle.Unpickler):
    """Builds tensors and empty modules; every other class is refused."""

    def __init__(self, file: IO[bytes], archive: zipfile.ZipFile, root: str) -> None:
        super().__init__(file)
        self.archive = archive
        self.root = root

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401 - pickle's signature
        """Return the stand-in of a class or function that the archive names."""
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): _tensor,
            ("collections", "OrderedDict"): OrderedDict,
        }
        if module.startswith("__torch__"):
            return _Module
        if module == "torch.jit._pickle":  # lists and dictionaries with the type of their elements
            return lambda value, *_: value
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) in known:
            return known[module, name]
        raise pickle.UnpicklingError(f"{module}.{name} is no module and no tensor")

    def persistent_load(self, pid: tuple[str, torch.dtype, str, str, int]) -> Tensor:
        """Return the values that an entry of the archive holds."""
        _, dtype, key, _, count = pid
        content = bytearray(self.archive.read(f"{self.root}/data/{key}"))
        return torch.frombuffer(content, dtype=dtype, count=count) if count else torch.empty(0, dtype=dtype)


def _tensor(values: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object) -> Tensor:
    """Lay out stored values as a tensor; pickle passes whether it has a gradient, too."""
    if math.prod(size) > len(values):
        raise pickle.UnpicklingError(f"a tensor of {tuple(size)} in {len(values)} values")
    return values.as_strided(size, stride, offset).clone()


def _tensors(module: _Module, prefix: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a module and of those inside it."""
    for name, value in vars(module).items():
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, _Module):
            yield from _tensors(value, f"{prefix}{name}.")
