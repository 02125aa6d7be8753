"""Flickr_LDL and Twitter_LDL: votes of 11 and of 8 people for Mikels' eight emotions.

::

    images/*.jpg  ground_truth.txt           images-name Amusement Awe … Sadness, blanks between
    images/*.jpg  {train,val}{1..5}.csv      the same without a header, in that order: five given folds

The label is the emotion with most votes, the first in class order of a tie. ``target="distribution"`` trains on the
votes of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import ClassVar

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import child, entry, image_folder
from uniemo.data.lists import ImageList, Labels
from uniemo.data.manifest import Layout
from uniemo.data.rows import Rows
from uniemo.data.splits import FOLD_FRACTIONS
from uniemo.data.votes import Votes, add_votes, read_votes
from uniemo.errors import UniEmoError
from uniemo.taxonomy import MIKELS_8

LABELS = Labels(MIKELS_8)


def _folds(root: Path) -> list[tuple[Path, Path]]:
    """Return the training and test list of each given fold."""
    numbered = ((child(root, f"train{fold}.csv"), child(root, f"val{fold}.csv")) for fold in count(1))
    return [(train, test) for train, test in takewhile(all, numbered) if train and test]


def _has(path: Path | None, voters: int) -> bool:
    """Whether a table gives so many votes to its first image."""
    try:
        rows = [] if path is None else read_votes(path, LABELS, limit=2)
    except UniEmoError:
        return False
    return bool(rows) and sum(rows[0].votes) == voters


def _read_folds(root: Path) -> Rows:
    """Read given folds; fold k tests on ``val<k>.csv``."""
    images, base = ImageList(root, LABELS), image_folder(root)
    rows: dict[str, Votes] = {}
    folds: dict[str, list[int]] = {}
    given = _folds(root) or [(root / "train1.csv", root / "val1.csv")]
    for fold, (train, test) in enumerate(given, 1):
        rows |= {row.image: row for row in read_votes(train, LABELS)}
        for row in read_votes(test, LABELS):
            rows[row.image] = row
            folds.setdefault(row.image, []).append(fold)
    add_votes(images, rows.values(), base)
    tests = {images.finder.find(f"{base}/{name}" if base else name): numbers for name, numbers in folds.items()}
    images.folds = {path: numbers for path, numbers in tests.items() if path is not None}
    return images.rows(folds=len(given))


def _read_table(root: Path) -> Rows:
    images, path = ImageList(root, LABELS), entry(root, "ground_truth.txt")
    add_votes(images, read_votes(path, LABELS), image_folder(root))
    return images.rows()


def _layouts(dataset: str, stem: str, voters: int) -> tuple[Layout, ...]:
    tree = f"images/*.jpg {{}} ({voters} votes for each image)"

    def with_folds(root: Path) -> bool:
        return any(_has(train, voters) for train, _ in _folds(root)[:1])

    def with_table(root: Path) -> bool:
        return _has(child(root, "ground_truth.txt"), voters)

    return (
        Layout(f"{stem}-folds", dataset, tree.format("{train,val}{1..5}.csv"), with_folds, _read_folds),
        Layout(stem, dataset, tree.format("ground_truth.txt"), with_table, _read_table),
    )


class FlickrLDL(EmotionDataModule):
    """Flickr_LDL; arguments as in :class:`EmotionDataModule`.

    ``fold`` is the fold of five that is the test split (1 where it is not given), given by the tree or stratified;
    validation images come from the other four.
    """

    layouts: ClassVar[tuple[Layout, ...]] = _layouts("FlickrLDL", "flickr-ldl", 11)
    fractions: ClassVar[tuple[float, float, float]] = FOLD_FRACTIONS
    cross_validated: ClassVar[bool] = True
    # Yang et al., "Learning Visual Sentiment Distributions via Augmented Conditional Probability Neural Network",
    # AAAI 2017; of Twitter_LDL too.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {"all": {"all": 11150}}


class TwitterLDL(EmotionDataModule):
    """Twitter_LDL; arguments and folds as in :class:`FlickrLDL`. 72 % of its labels are contentment."""

    layouts: ClassVar[tuple[Layout, ...]] = _layouts("TwitterLDL", "twitter-ldl", 8)
    fractions: ClassVar[tuple[float, float, float]] = FOLD_FRACTIONS
    cross_validated: ClassVar[bool] = True
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {"all": {"all": 10032}}
