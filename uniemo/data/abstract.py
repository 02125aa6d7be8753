"""Abstract: paintings without recognisable objects, with votes for Mikels' eight emotions.

::

    testImages_abstract/*.jpg  ABSTRACT_groundTruth.csv      file, Amusement, Anger, Awe, Content, …: votes

The label is the emotion with most votes; images with a tie are left out, as in the paper. ``target="distribution"``
trains on the votes of all emotions.
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
from uniemo.taxonomy import MIKELS_8

LABELS = Labels(MIKELS_8, {"content": "contentment", "sad": "sadness"})
_TABLE = "ABSTRACT_groundTruth.csv"


def _read(root: Path) -> Rows:
    images = ImageList(root, LABELS)
    add_votes(images, read_votes(entry(root, _TABLE), LABELS), image_folder(root), keep_ties=False)
    return images.rows()


class Abstract(EmotionDataModule):
    """Abstract; arguments as in :class:`EmotionDataModule`.

    It has no published split: 80 : 5 : 15, stratified; the field uses five folds (``fold``).
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("abstract", "Abstract", f"*.jpg {_TABLE}", lambda root: child(root, _TABLE) is not None, _read),
    )
    # Machajdik and Hanbury, ACM MM 2010: 280 paintings, of which 52 have a tie.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "all": {
            "all": 228,
            "amusement": 25,
            "awe": 15,
            "contentment": 63,
            "excitement": 36,
            "anger": 3,
            "disgust": 18,
            "fear": 36,
            "sadness": 32,
        }
    }
