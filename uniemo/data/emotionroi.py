"""EmotionROI: six emotions, a given split of training and test images, and a map of where the emotion comes from."""

from __future__ import annotations

from typing import ClassVar

from uniemo.data.base import EmotionDataModule
from uniemo.data.layouts.emotionroi import LAYOUTS

__all__ = ["LAYOUTS", "EmotionROI"]


class EmotionROI(EmotionDataModule):
    """EmotionROI in any of its layouts; arguments as in :class:`EmotionDataModule`.

    It has no validation images: 10 % of the training images, stratified, are taken (``val_fraction``), never test ones.
    Validation and test batches carry the maps.
    """

    dataset_name: ClassVar[str] = "EmotionROI"
    fractions: ClassVar[tuple[float, float, float]] = (0.63, 0.07, 0.3)  # 70 : 30 as published, a tenth of it held out
