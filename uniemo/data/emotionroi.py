"""EmotionROI: six emotions, a given split of training and test images, and a map of where the emotion comes from.

::

    images/<emotion>/*.jpg  ground_truth/<emotion>/…
    training_testing_split/{training,testing}.txt         or at the root, or emotion_ROI_{train,test}.csv
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import child, subfolders, visible
from uniemo.data.lists import SPLIT_WORDS, ImageList, Labels, read_csv, read_lines
from uniemo.data.manifest import Layout, Split
from uniemo.data.rows import Rows, plural
from uniemo.errors import UniEmoError
from uniemo.taxonomy import EMOTION_ROI_6, MIKELS_8

LABELS = Labels(EMOTION_ROI_6, {"happiness": "joy"})
_OWN = set(EMOTION_ROI_6) - set(MIKELS_8)  # joy, surprise
_TEXT = re.compile(r"(\w+)\.txt", re.IGNORECASE)
_CSV = re.compile(r"emotion_?roi_(\w+)\.csv", re.IGNORECASE)


def _images(root: Path) -> Path | None:
    """Return ``images/``, or the root where the class folders lie in it."""
    folders = (child(root, "images", "image"), root)
    return next((folder for folder in folders if {name.lower() for name in subfolders(folder)} & _OWN), None)


def _lists(folder: Path | None, pattern: re.Pattern[str]) -> dict[Split, Path]:
    """Return the lists in a folder, by the split that their name stands for."""
    found: dict[Split, Path] = {}
    for name in [] if folder is None else visible(folder):
        match = pattern.fullmatch(name)
        word = match.group(1).lower() if match is not None else ""
        if folder is not None and word in SPLIT_WORDS:
            found[SPLIT_WORDS[word]] = folder / name
    return found


def _list_folder(root: Path) -> Path | None:
    return child(root, "training_testing_split")


def _read(root: Path, lists: dict[Split, Path]) -> Rows:
    """Read the lists, or the class folders where there are none, and put each image's map beside it."""
    found = ImageList(root, LABELS)
    images = _images(root) or child(root, "images", "image") or root
    base = "" if images == root else images.name
    maps = child(root, "ground_truth", "groundtruth", "gt")
    for split, path in lists.items():
        lines = read_csv(path, LABELS.known) if path.suffix.lower() == ".csv" else read_lines(path)
        if not lines:
            raise UniEmoError(f"EmotionROI list must name at least one image; {path} names none: restore it")
        for line in lines:
            found.add(line.image, line.label, [base, ""], split, f"line {line.number} of {path}")
    if not lists:
        found.add_folders(base, skip=["training_testing_split", *([maps.name.lower()] if maps is not None else [])])
    elif base:
        found.note_unlisted(base)
    if maps is None:
        return found.rows()
    place = maps.name

    def mask_of(image: str) -> str | None:
        inner = image.removeprefix(f"{base}/") if base else image
        return found.finder.find(f"{place}/{inner}", any_suffix=True)

    without = [image for image in found.images if mask_of(image) is None]
    if without:
        found.notes.append(f"{plural(len(without), ('has', 'have'))} no map in {place}/, first {min(without)}")
    return found.rows(mask_of)


def _existing(lists: dict[Split, Path], expected: Path) -> dict[Split, Path]:
    if not lists:
        raise UniEmoError(f"data.root must hold EmotionROI's lists; {expected} does not exist: restore it")
    return lists


def _read_folder_lists(root: Path) -> Rows:
    lists = _lists(_list_folder(root), _TEXT)
    return _read(root, _existing(lists, root / "training_testing_split" / "training.txt"))


def _read_root_lists(root: Path) -> Rows:
    return _read(root, _existing(_lists(root, _TEXT), root / "training.txt"))


def _read_tables(root: Path) -> Rows:
    return _read(root, _existing(_lists(root, _CSV), root / "emotion_ROI_train.csv"))


_TREE = "images/<emotion>/*.jpg ground_truth/<emotion>/"


class EmotionROI(EmotionDataModule):
    """EmotionROI in any of its layouts; arguments as in :class:`EmotionDataModule`.

    It has no validation images: 10 % of the training images, stratified, are taken (``val_fraction``), never test ones.
    Validation and test batches carry the maps.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout(
            "emotionroi",
            "EmotionROI",
            f"{_TREE} training_testing_split/{{training,testing}}.txt",
            lambda root: bool(_lists(_list_folder(root), _TEXT)),
            _read_folder_lists,
        ),
        Layout(
            "emotionroi-root-lists",
            "EmotionROI",
            f"{_TREE} training.txt testing.txt",
            lambda root: bool(_lists(root, _TEXT)) and _images(root) is not None,
            _read_root_lists,
        ),
        Layout(
            "emotionroi-csv",
            "EmotionROI",
            f"{_TREE} emotion_ROI_{{train,test}}.csv",
            lambda root: bool(_lists(root, _CSV)),
            _read_tables,
        ),
        Layout(
            "emotionroi-folders",
            "EmotionROI",
            "images/<emotion>/*.jpg with joy and surprise among the emotions",
            lambda root: _images(root) is not None,
            lambda root: _read(root, {}),
        ),
    )
    fractions: ClassVar[tuple[float, float, float]] = (0.63, 0.07, 0.3)  # 70 : 30 as published, a tenth of it held out
    # Peng et al., "Where Do Emotions Come From?", ICIP 2016: 330 of each emotion, 70 : 30.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "train": {"all": 1386},
        "test": {"all": 594},
        "all": {"all": 1980, **dict.fromkeys(EMOTION_ROI_6, 330)},
    }
