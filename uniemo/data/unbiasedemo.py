"""UnbiasedEmo: the same things in six emotions each, to measure what a model learns from things alone.

::

    images/<emotion>/**/*.jpg       anger, fear, joy, love, sadness, surprise
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import image_folder, subfolders
from uniemo.data.lists import ImageList, Labels
from uniemo.data.manifest import Layout
from uniemo.data.rows import Rows

EMOTIONS = ("anger", "fear", "joy", "love", "sadness", "surprise")


def _matches(root: Path) -> bool:
    return {name.lower() for name in subfolders(root / image_folder(root))} == set(EMOTIONS)


def _read(root: Path) -> Rows:
    images = ImageList(root, Labels(EMOTIONS))
    images.add_folders(image_folder(root))
    return images.rows()


class UnbiasedEmo(EmotionDataModule):
    """UnbiasedEmo; arguments as in :class:`EmotionDataModule`.

    It has no published split: 80 : 5 : 15, stratified.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("unbiasedemo", "UnbiasedEmo", "images/{anger,fear,joy,love,sadness,surprise}/*.jpg", _matches, _read),
    )
    # Panda et al., "Contemplating Visual Emotions: Understanding and Overcoming Dataset Bias", ECCV 2018.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {"all": {"all": 3045}}
