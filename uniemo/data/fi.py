"""FI, Flickr and Instagram: Mikels' eight emotions, no official split."""

from __future__ import annotations

from typing import ClassVar

from uniemo.data.base import EmotionDataModule
from uniemo.data.layouts.fi import LAYOUTS

__all__ = ["FI", "LAYOUTS"]


class FI(EmotionDataModule):
    """FI in any of its layouts; arguments as in :class:`EmotionDataModule`.

    Without splits of its own a tree is cut 80 : 5 : 15, stratified; split folders without ``val`` give a part of their
    training images to validation.
    """

    dataset_name: ClassVar[str] = "FI"
