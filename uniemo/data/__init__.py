"""Datasets, transforms and batches.

The data modules are imported at first use: they alone need Lightning, which takes seconds to load.
"""

from typing import TYPE_CHECKING, Any

from uniemo.data.batch import EmotionBatch, EmotionSample, collate
from uniemo.data.dataset import EmotionDataset, EpochSampler, Records
from uniemo.data.generated import GeneratedImageDataset, MixedDataset
from uniemo.data.images import load_images, read_image
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD, PairedTransform, denormalise

if TYPE_CHECKING:
    from uniemo.data.base import EmotionDataModule
    from uniemo.data.emoset import EmoSet, EmoSetDataset

_LAZY = {"EmotionDataModule": "base", "EmoSet": "emoset", "EmoSetDataset": "emoset"}

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "EmoSet",
    "EmoSetDataset",
    "EmotionBatch",
    "EmotionDataModule",
    "EmotionDataset",
    "EmotionSample",
    "EpochSampler",
    "GeneratedImageDataset",
    "MixedDataset",
    "PairedTransform",
    "Records",
    "collate",
    "denormalise",
    "load_images",
    "read_image",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import a data module's file when its class is first asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
