"""FI, Flickr and Instagram: Mikels' eight emotions, no official split.

::

    emotion_dataset/<emotion>/*.jpg                       the authors' archive
    train/<emotion>/*.jpg  test/<emotion>/*.jpg           val/ too, or not
    train/  test/  train.json  test.json                  lists of [name, label]; val too, or not
    images/  FI.csv                                       path, class
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import child, subfolders
from uniemo.data.lists import ImageList, Labels, read_csv, read_text
from uniemo.data.manifest import SPLITS, Layout, Split
from uniemo.data.rows import Rows
from uniemo.errors import UniEmoError
from uniemo.taxonomy import EMOTION_ROI_6, MIKELS_8
from uniemo.text_files import parse_json

LABELS = Labels(MIKELS_8)
_OWN = set(MIKELS_8) - set(EMOTION_ROI_6)  # amusement, awe …: names that EmotionROI has not
_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


# Class folders.


def _has_classes(folder: Path | None) -> bool:
    """Whether a folder holds folders named after Mikels' emotions."""
    names = {name.lower() for name in subfolders(folder)}
    return bool(names & _OWN) and len(names & set(MIKELS_8)) >= len(names) / 2


def _class_root(root: Path) -> Path | None:
    """Return the folder with the class folders: ``emotion_dataset``, ``images`` or the root itself."""
    folders = (child(root, "emotion_dataset"), child(root, "images", "image"), root)
    return next((folder for folder in folders if _has_classes(folder)), None)


def _is_archive(root: Path) -> bool:
    return child(root, "info.json", "annotation") is None and _class_root(root) is not None  # EmoSet has these two


def _read_archive(root: Path) -> Rows:
    base = _class_root(root) or child(root, "emotion_dataset") or root
    images = ImageList(root, LABELS)
    images.add_folders("" if base == root else base.name)
    return images.rows()


def _split_folder(root: Path, split: Split) -> Path | None:
    """Return the folder of a split, whichever of its names it has."""
    found = child(root, *_FOLDERS[split])
    return found if found is not None and found.is_dir() else None


def _has_split_folders(root: Path) -> bool:
    return _has_classes(_split_folder(root, "train")) and _has_classes(_split_folder(root, "test"))


def _read_split_folders(root: Path) -> Rows:
    images = ImageList(root, LABELS)
    for split in SPLITS:
        folder = _split_folder(root, split)
        if folder is not None:
            images.add_folders(folder.name, split)
    return images.rows()


# Lists.


def _split_list(root: Path, split: Split) -> Path | None:
    """Return ``{split}.json``, at the root or in the split's folder."""
    names = tuple(f"{name}.json" for name in _FOLDERS[split])
    return child(root, *names) or child(_split_folder(root, split), *names)


def _has_json_lists(root: Path) -> bool:
    if child(root, "info.json") is not None:
        return False
    return all(_split_list(root, split) and _split_folder(root, split) for split in ("train", "test"))


def _read_json_lists(root: Path) -> Rows:
    images = ImageList(root, LABELS)
    for split in SPLITS:
        path = _split_list(root, split)
        if path is None:
            continue
        folder = _split_folder(root, split)
        bases = [split if folder is None else folder.name, "images", ""]
        for number, line in enumerate(_read_json(path)):
            pair = list(line.values()) if isinstance(line, dict) else line
            if not isinstance(pair, list | tuple) or len(pair) < 2 or not isinstance(pair[0], str):
                raise UniEmoError(
                    f"FI list entry must be [name, label]; entry {number} of {path} is {json.dumps(line)[:80]}: "
                    "restore it"
                )
            images.add(pair[0], str(pair[1]), bases, split, f"entry {number} of {path}")
    return images.rows()


def _read_json(path: Path) -> list[Any]:
    """Return the entries of a JSON list, or of an object of names and labels."""
    try:
        lines = parse_json(read_text(path))
    except ValueError as error:
        raise UniEmoError(f"FI list {path} must be JSON; it is not ({error}): restore it") from error
    lines = list(lines.items()) if isinstance(lines, dict) else lines
    if not isinstance(lines, list) or not lines:
        raise UniEmoError(f"FI list must hold at least one [name, label]; {path} holds none: restore it")
    return lines


def _csv(root: Path) -> Path | None:
    """Return FI.csv, or else, where no class folders give the labels, a CSV at the root with Mikels' emotions."""
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv" and path.is_file())
    for path in tables:
        if path.stem.lower() == "fi" or path.stem.lower().startswith(("fi_", "fi-")):
            return path
    for path in tables if not _is_archive(root) else ():
        try:
            labels = [LABELS.find(line.label) for line in read_csv(path, LABELS.known, limit=50)]
        except UniEmoError:
            continue
        if _OWN & set(labels) and labels.count(None) < len(labels) / 2:
            return path
    return None


def _read_csv(root: Path) -> Rows:
    path = _csv(root) or root / "FI.csv"
    images = ImageList(root, LABELS)
    folder = child(root, "images", "image", "emotion_dataset")
    bases = ["" if folder is None else folder.name, ""]
    for line in read_csv(path, LABELS.known):
        images.add(line.image, line.label, bases, line.split, f"line {line.number} of {path}")
    return images.rows()


_JSON = "train/ test/ with train.json test.json (val too, or not) of [name, label]"
_SPLITS = "train/<emotion>/*.jpg test/<emotion>/*.jpg (val too, or not)"


class FI(EmotionDataModule):
    """FI in any of its layouts; arguments as in :class:`EmotionDataModule`.

    Without splits of its own a tree is cut 80 : 5 : 15, stratified; split folders without ``val`` give a part of their
    training images to validation.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout("fi-json", "FI", _JSON, _has_json_lists, _read_json_lists),
        Layout("fi-splits", "FI", _SPLITS, _has_split_folders, _read_split_folders),
        Layout("fi-csv", "FI", "images/ FI.csv (path, class)", lambda root: _csv(root) is not None, _read_csv),
        Layout("fi-zip", "FI", "emotion_dataset/<emotion>/*.jpg", _is_archive, _read_archive),
    )
    # You et al., "Building a Large Scale Dataset for Image Emotion Recognition", AAAI 2016. Links rot: copies with
    # 23,185, 22,683 and 22,086 images are in use.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "all": {
            "all": 23308,
            "amusement": 4942,
            "awe": 3151,
            "contentment": 5374,
            "excitement": 2963,
            "anger": 1266,
            "disgust": 1658,
            "fear": 1032,
            "sadness": 2922,
        }
    }
