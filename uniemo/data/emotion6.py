"""Emotion6: Ekman's six emotions and neutral, as distributions over people's answers.

::

    images/<emotion>/<n>.jpg  ground_truth.txt     file, valence, arousal, [prob. of anger] … [prob. of neutral]

The label is the most probable of the seven, or, with ``layout="emotion6-folders"``, the keyword of six that the image
was found with. ``target="distribution"`` trains on all seven probabilities. Valence and
arousal are means over fifteen people on a scale of 1 to 9.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import child, entry, image_folder
from uniemo.data.lists import ImageList, Labels
from uniemo.data.manifest import Layout
from uniemo.data.rows import Rows
from uniemo.data.votes import add_votes, read_votes
from uniemo.errors import UniEmoError
from uniemo.taxonomy import EMOTION_ROI_6

LABELS = Labels((*EMOTION_ROI_6, "neutral"))
SCALE = (1.0, 9.0)  # self-assessment manikin


def _matches(root: Path) -> bool:
    path = child(root, "ground_truth.txt")
    try:
        return path is not None and bool(read_votes(path, LABELS, limit=2))
    except UniEmoError:
        return False


def _read(root: Path) -> Rows:
    images = ImageList(root, LABELS)
    base = image_folder(root)
    images.scale = SCALE
    path = entry(root, "ground_truth.txt")
    add_votes(images, read_votes(path, LABELS, scale=SCALE), base)
    images.note_unlisted(base)
    return images.rows()


def _read_folders(root: Path) -> Rows:
    images = ImageList(root, Labels(EMOTION_ROI_6))
    images.add_folders(image_folder(root))
    return images.rows()


class Emotion6(EmotionDataModule):
    """Emotion6; arguments as in :class:`EmotionDataModule`.

    It has no published split: 80 : 5 : 15, stratified.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("emotion6", "Emotion6", "images/<emotion>/*.jpg ground_truth.txt", _matches, _read),
        Layout("emotion6-folders", "Emotion6", "images/<emotion>/*.jpg", _matches, _read_folders),
    )
    # Peng et al., "A Mixed Bag of Emotions: Model, Predict, and Transfer Emotion Distributions", CVPR 2015.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {"all": {"all": 1980}}
