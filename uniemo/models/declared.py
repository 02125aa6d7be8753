"""Sizes that a folder's configurations declare, looked at before a network is built of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

_MOST = 100  # layers or blocks; ViT-bigG has 48


def check_layers(config: Mapping[str, Any]) -> None:
    """Raise ValueError where a configuration, or a section of it, declares more layers or blocks than any network has.

    Each becomes a Python object, even where its weights take no memory.
    """
    left: list[Any] = [config]
    while left:
        for name, value in left.pop().items():
            if isinstance(value, dict):
                left.append(value)
            elif "layers" in name or "block" in name:
                each = value if isinstance(value, list) else [value]
                numbers = [number for number in each if isinstance(number, int) and "layers" in name]
                largest = max([len(each), *numbers])
                if largest > _MOST:
                    raise ValueError(f"{name} must be at most {_MOST} layers or blocks; got {largest:,}")


def check_weights(build: Callable[[], nn.Module], files: list[Path]) -> None:
    """Raise ValueError where a network has more weights than its files can hold, at a byte each."""
    with torch.device("meta"):
        numbers = sum(value.numel() for value in build().state_dict().values())
    largest = max(file.stat().st_size for file in files)
    if numbers > largest:
        raise ValueError(f"its sizes make {numbers:,} weights, its file has {largest:,} bytes")
