"""Datasets, transforms and batches.

Everything is imported at first use: the data modules need Lightning and most of the rest needs torch, which take
seconds to load; what only looks at a tree (:mod:`uniemo.data.catalog`, :mod:`uniemo.data.splits`) needs neither.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uniemo.data.base import EmotionDataModule
    from uniemo.data.batch import EmotionBatch, EmotionSample, collate
    from uniemo.data.dataset import EmotionDataset, EpochSampler, Records
    from uniemo.data.emoset import EmoSet, EmoSetDataset
    from uniemo.data.emotionroi import EmotionROI
    from uniemo.data.fi import FI
    from uniemo.data.generated import GeneratedImageDataset, MixedDataset
    from uniemo.data.images import load_images, read_image
    from uniemo.data.transforms import CLIP_MEAN, CLIP_STD, PairedTransform, denormalise
    from uniemo.data.twitter import TwitterI, TwitterII

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "FI",
    "EmoSet",
    "EmoSetDataset",
    "EmotionBatch",
    "EmotionDataModule",
    "EmotionDataset",
    "EmotionROI",
    "EmotionSample",
    "EpochSampler",
    "GeneratedImageDataset",
    "MixedDataset",
    "PairedTransform",
    "Records",
    "TwitterI",
    "TwitterII",
    "collate",
    "denormalise",
    "load_images",
    "read_image",
]

_HOMES = {
    "base": ("EmotionDataModule",),
    "batch": ("EmotionBatch", "EmotionSample", "collate"),
    "dataset": ("EmotionDataset", "EpochSampler", "Records"),
    "emoset": ("EmoSet", "EmoSetDataset"),
    "emotionroi": ("EmotionROI",),
    "fi": ("FI",),
    "generated": ("GeneratedImageDataset", "MixedDataset"),
    "images": ("load_images", "read_image"),
    "transforms": ("CLIP_MEAN", "CLIP_STD", "PairedTransform", "denormalise"),
    "twitter": ("TwitterI", "TwitterII"),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the file of a name when it is first asked for."""
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
