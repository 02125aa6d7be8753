"""EmotionROI as people have it: class folders with emotion stimuli maps and lists of the training and test images."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from uniemo.data.emotions import EMOTION_ROI_6, MIKELS_8
from uniemo.data.layouts.collector import Collector, LabelSpace, plural
from uniemo.data.layouts.disk import child, folders, visible
from uniemo.data.layouts.tables import read_lines, read_table, split_name
from uniemo.data.listing import Layout, Listing, Split
from uniemo.errors import UniEmoError

SPACE = LabelSpace(EMOTION_ROI_6, {"happiness": "joy"})
_TELLING = set(EMOTION_ROI_6) - set(MIKELS_8)  # joy, surprise
_CSV = re.compile(r"emotion_?roi_(\w+)\.csv", re.IGNORECASE)


def _images(root: Path) -> Path | None:
    """Return ``images/``, or the root where the class folders lie in it."""
    for folder in (child(root, "images", "image"), root):
        if folder is not None and {name.lower() for name in folders(folder)} & _TELLING:
            return folder
    return None


def _text_lists(folder: Path | None) -> dict[Split, Path]:
    """Return ``training.txt`` and ``testing.txt`` in a folder, by split."""
    if folder is None:
        return {}
    found = {}
    for name in visible(folder):
        stem, _, suffix = name.rpartition(".")
        split = split_name(stem)
        if suffix.lower() == "txt" and split is not None:
            found[split] = folder / name
    return found


def _tables(root: Path) -> dict[Split, Path]:
    """Return ``emotion_ROI_{train,test}.csv``, by split."""
    found = {}
    for name in visible(root):
        match = _CSV.fullmatch(name)
        split = split_name(match.group(1)) if match is not None else None
        if split is not None:
            found[split] = root / name
    return found


def _list_folder(root: Path) -> Path | None:
    return child(root, "training_testing_split")


def _collect(layout: str, root: Path, lists: dict[Split, Path]) -> Listing:
    """Read the lists, or the class folders where there are none, and put each image's map beside it."""
    found = Collector(layout, root, SPACE)
    images = _images(root) or child(root, "images", "image") or root
    base = "" if images == root else images.name
    maps = child(root, "ground_truth", "groundtruth", "gt")
    skip = ["training_testing_split", *([maps.name.lower()] if maps is not None else [])]
    for split, path in lists.items():
        rows = read_table(path, SPACE.known) if path.suffix.lower() == ".csv" else read_lines(path)
        if not rows:
            raise UniEmoError(f"EmotionROI list must name at least one image; {path} names none: restore it")
        for row in rows:
            found.add(row.image, row.label, [base, ""] if base else [""], split, f"line {row.line} of {path}")
    if not lists:
        found.add_folders(base, skip=skip)
    elif base:
        found.note_unlisted(base)
    if maps is not None:
        for image, item in found.items.items():
            inner = image.removeprefix(f"{base}/") if base else image
            mask = found.disk.find(f"{maps.name}/{inner}", any_suffix=True)
            found.items[image] = replace(item, mask=mask)
        without = [image for image, item in found.items.items() if item.mask is None]
        if without:
            found.notes.append(f"{plural(len(without), ('has', 'have'))} no map in {maps.name}/, first {min(without)}")
    return found.listing()


def read_folder_lists(root: Path) -> Listing:
    """Read ``training_testing_split/{training,testing}.txt``, lines ``emotion/file.jpg``."""
    lists = _text_lists(_list_folder(root))
    return _collect("emotionroi", root, lists or _missing(root / "training_testing_split" / "training.txt"))


def read_root_lists(root: Path) -> Listing:
    """Read ``{training,testing}.txt`` at the root."""
    return _collect("emotionroi-root-lists", root, _text_lists(root) or _missing(root / "training.txt"))


def read_tables(root: Path) -> Listing:
    """Read ``emotion_ROI_{train,test}.csv``."""
    return _collect("emotionroi-csv", root, _tables(root) or _missing(root / "emotion_ROI_train.csv"))


def read_folders(root: Path) -> Listing:
    """Read the class folders alone: no split."""
    return _collect("emotionroi-folders", root, {})


def _missing(path: Path) -> dict[Split, Path]:
    raise UniEmoError(f"data.root must hold EmotionROI's lists; {path} does not exist: restore it")


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "emotionroi",
        "EmotionROI",
        "images/<emotion>/*.jpg ground_truth/<emotion>/ training_testing_split/{training,testing}.txt",
        lambda root: bool(_text_lists(_list_folder(root))),
        read_folder_lists,
    ),
    Layout(
        "emotionroi-root-lists",
        "EmotionROI",
        "images/<emotion>/*.jpg ground_truth/<emotion>/ training.txt testing.txt",
        lambda root: bool(_text_lists(root)) and _images(root) is not None,
        read_root_lists,
    ),
    Layout(
        "emotionroi-csv",
        "EmotionROI",
        "images/<emotion>/*.jpg ground_truth/<emotion>/ emotion_ROI_{train,test}.csv",
        lambda root: bool(_tables(root)),
        read_tables,
    ),
    Layout(
        "emotionroi-folders",
        "EmotionROI",
        "images/<emotion>/*.jpg with joy and surprise among the emotions",
        lambda root: _images(root) is not None,
        read_folders,
    ),
)
