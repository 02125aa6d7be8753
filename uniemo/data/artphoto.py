"""Artphoto: artistic photographs of Mikels' eight emotions, which their names begin with.

::

    testImages_artphoto/<emotion>_<number>.jpg       content_… and sad_… stand for contentment and sadness
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import images_below
from uniemo.data.lists import ImageList, Labels
from uniemo.data.manifest import Layout
from uniemo.data.rows import Rows
from uniemo.taxonomy import MIKELS_8

LABELS = Labels(MIKELS_8, {"content": "contentment", "sad": "sadness"})


def _prefix(image: str) -> str:
    return image.partition("_")[0]


def _matches(root: Path) -> bool:
    images = images_below(root, "", 1)
    known = {LABELS.find(_prefix(image)) for image in images if "_" in image} - {None}
    return len(known) > 1 and sum(LABELS.known(_prefix(image)) for image in images) > len(images) / 2


def _read(root: Path) -> Rows:
    images = ImageList(root, LABELS)
    for path in images_below(root, "", 1, images.passed):
        emotion = LABELS.find(_prefix(path))
        if emotion is None:
            images.add_unknown(path, _prefix(path))
        else:
            images.put(path, emotion, None)
    return images.rows()


class Artphoto(EmotionDataModule):
    """Artphoto; arguments as in :class:`EmotionDataModule`.

    It has no published split: 80 : 5 : 15, stratified; the field uses five folds (``fold``).
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("artphoto", "Artphoto", "<emotion>_<number>.jpg in one folder", _matches, _read),
    )
    # Machajdik and Hanbury, "Affective Image Classification Using Features Inspired by Psychology and Art Theory",
    # ACM MM 2010.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "all": {
            "all": 806,
            "amusement": 101,
            "awe": 102,
            "contentment": 70,
            "excitement": 105,
            "anger": 77,
            "disgust": 70,
            "fear": 115,
            "sadness": 166,
        }
    }
