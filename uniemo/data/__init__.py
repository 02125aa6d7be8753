"""Datasets, transforms and batches.

Everything is imported at first use: the data modules need Lightning and most of the rest needs torch, which take
seconds to load.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from uniemo.data.abstract import Abstract
    from uniemo.data.artphoto import Artphoto
    from uniemo.data.batch import EmotionBatch, EmotionSample, collate
    from uniemo.data.datamodule import EmotionDataModule
    from uniemo.data.dataset import EmotionDataset, EpochSampler
    from uniemo.data.emoset import EmoSet, EmoSetDataset
    from uniemo.data.emotion6 import Emotion6
    from uniemo.data.emotionroi import EmotionROI
    from uniemo.data.fi import FI
    from uniemo.data.folder import Folder
    from uniemo.data.generated import GeneratedImageDataset, MixedDataset
    from uniemo.data.images import load_images, read_image
    from uniemo.data.ldl import FlickrLDL, TwitterLDL
    from uniemo.data.manifest import Manifest
    from uniemo.data.oasis import OASIS
    from uniemo.data.streaming import Streaming
    from uniemo.data.transforms import CLIP_MEAN, CLIP_STD, PairedTransform, denormalise
    from uniemo.data.twitter_one import TwitterI
    from uniemo.data.twitter_two import TwitterII
    from uniemo.data.unbiasedemo import UnbiasedEmo
    from uniemo.data.webemo import WEBEmo

__all__ = [
    "CLIP_MEAN",
    "CLIP_STD",
    "DATASETS",
    "FI",
    "OASIS",
    "Abstract",
    "Artphoto",
    "EmoSet",
    "EmoSetDataset",
    "Emotion6",
    "EmotionBatch",
    "EmotionDataModule",
    "EmotionDataset",
    "EmotionROI",
    "EmotionSample",
    "EpochSampler",
    "FlickrLDL",
    "Folder",
    "GeneratedImageDataset",
    "Manifest",
    "MixedDataset",
    "PairedTransform",
    "Streaming",
    "TwitterI",
    "TwitterII",
    "TwitterLDL",
    "UnbiasedEmo",
    "WEBEmo",
    "collate",
    "denormalise",
    "load_images",
    "read_image",
]

# Data modules by name; in a folder of unknown content their trees are looked for in this order, the surest first.
DATASETS: dict[str, str] = {
    name: f"uniemo.data.{name}"
    for name in (
        *("EmoSet", "TwitterI", "Emotion6", "FlickrLDL", "TwitterLDL", "OASIS", "Abstract", "Artphoto", "UnbiasedEmo"),
        *("WEBEmo", "EmotionROI", "FI", "TwitterII", "Folder"),
    )
}
_NAMES = {
    "abstract": ("Abstract",),
    "artphoto": ("Artphoto",),
    "batch": ("EmotionBatch", "EmotionSample", "collate"),
    "datamodule": ("EmotionDataModule",),
    "dataset": ("EmotionDataset", "EpochSampler"),
    "emoset": ("EmoSet", "EmoSetDataset"),
    "emotion6": ("Emotion6",),
    "emotionroi": ("EmotionROI",),
    "fi": ("FI",),
    "folder": ("Folder",),
    "generated": ("GeneratedImageDataset", "MixedDataset"),
    "images": ("load_images", "read_image"),
    "ldl": ("FlickrLDL", "TwitterLDL"),
    "manifest": ("Manifest",),
    "oasis": ("OASIS",),
    "streaming": ("Streaming",),
    "transforms": ("CLIP_MEAN", "CLIP_STD", "PairedTransform", "denormalise"),
    "twitter_one": ("TwitterI",),
    "twitter_two": ("TwitterII",),
    "unbiasedemo": ("UnbiasedEmo",),
    "webemo": ("WEBEmo",),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    """Import the file of a name when it is first asked for."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
