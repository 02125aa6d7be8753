"""Files of tensors that anyone may have written: how large they unpack, and which tensors are weights."""

from __future__ import annotations

import zipfile
from pathlib import Path

import torch

_RATIO, _SLACK = 10, 2**20  # weights hardly compress, the code in a TorchScript archive does


def check_archive(path: Path) -> None:
    """Refuse a zip archive that unpacks to many times its size; other files pass.

    Raises:
        ValueError: it does.
        zipfile.BadZipFile: it is damaged.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > _RATIO * path.stat().st_size + _SLACK:
            raise ValueError(f"unpacks to {unpacked:,} bytes")


def is_ordinary(value: object) -> bool:
    """Whether this is a tensor of real numbers, each of which is in the file."""
    return (
        isinstance(value, torch.Tensor)
        and value.layout is torch.strided
        and not (value.is_meta or value.is_quantized or value.is_complex())
        and value.untyped_storage().nbytes() >= value.numel() * value.element_size()
    )
