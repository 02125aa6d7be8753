"""FI (Flickr and Instagram) as people have it: the author's zip, split folders, JSON lists, a CSV."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from uniemo.data.emotions import EMOTION_ROI_6, MIKELS_8
from uniemo.data.layouts.collector import Collector, LabelSpace
from uniemo.data.layouts.disk import child, folders
from uniemo.data.layouts.tables import read_table, read_text
from uniemo.data.listing import SPLITS, Layout, Listing, Split
from uniemo.errors import UniEmoError

SPACE = LabelSpace(MIKELS_8)
_TELLING = set(MIKELS_8) - set(EMOTION_ROI_6)  # amusement, awe …: names that EmotionROI has not
_FOLDERS: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


def has_classes(folder: Path | None) -> bool:
    """Whether a folder holds folders named after Mikels' emotions."""
    names = {name.lower() for name in folders(folder)}
    return bool(names & _TELLING) and len(names & set(MIKELS_8)) >= len(names) / 2


def split_folder(root: Path, split: Split) -> Path | None:
    """Return the folder of a split, whichever of its names it has."""
    found = child(root, *_FOLDERS[split])
    return found if found is not None and found.is_dir() else None


def _split_list(root: Path, split: Split) -> Path | None:
    """Return ``{split}.json``, at the root or in the split's folder."""
    names = tuple(f"{name}.json" for name in _FOLDERS[split])
    inner = split_folder(root, split)
    return child(root, *names) or (child(inner, *names) if inner is not None else None)


def _matches_json(root: Path) -> bool:
    if child(root, "info.json") is not None:
        return False
    return all(_split_list(root, split) and split_folder(root, split) for split in ("train", "test"))


def _read_json(root: Path, name: str) -> Any:  # noqa: ANN401
    path = root / name
    try:
        return json.loads(read_text(path))
    except ValueError as error:
        raise UniEmoError(f"FI list {path} must be JSON; it is not ({error}): restore it") from error


def read_json_lists(root: Path) -> Listing:
    """Read ``{split}.json`` of ``[name, label]``."""
    found = Collector("fi-json", root, SPACE)
    for split in SPLITS:
        path = _split_list(root, split)
        if path is None:
            continue
        lines = _read_json(path.parent, path.name)
        if isinstance(lines, dict):
            lines = list(lines.items())
        if not isinstance(lines, list) or not lines:
            raise UniEmoError(f"FI list must hold at least one [name, label]; {path} holds none: restore it")
        inner = split_folder(root, split)
        bases = [inner.name if inner is not None else split, "images", ""]
        for number, line in enumerate(lines):
            pair = list(line.values()) if isinstance(line, dict) else line
            if not isinstance(pair, list | tuple) or len(pair) < 2 or not isinstance(pair[0], str):
                raise UniEmoError(
                    f"FI list entry must be [name, label]; entry {number} of {path} is {json.dumps(line)[:80]}: "
                    "restore it"
                )
            found.add(pair[0], str(pair[1]), bases, split, f"entry {number} of {path}")
    return found.listing()


def _matches_splits(root: Path) -> bool:
    return has_classes(split_folder(root, "train")) and has_classes(split_folder(root, "test"))


def read_split_folders(root: Path) -> Listing:
    """Read ``{train,val,test}/<emotion>/``; val may be absent."""
    found = Collector("fi-splits", root, SPACE)
    for split in SPLITS:
        inner = split_folder(root, split)
        if inner is not None:
            found.add_folders(inner.name, split)
    return found.listing()


def _class_root(root: Path) -> Path | None:
    """Return the folder with the class folders: ``emotion_dataset``, ``images`` or the root itself."""
    for folder in (child(root, "emotion_dataset"), child(root, "images", "image"), root):
        if folder is not None and has_classes(folder):
            return folder
    return None


def _matches_zip(root: Path) -> bool:
    emoset = child(root, "info.json") or child(root, "annotation")  # EmoSet has folders of the same names
    return emoset is None and _class_root(root) is not None


def read_class_folders(root: Path) -> Listing:
    """Read ``emotion_dataset/<emotion>/``, the author's zip: no split."""
    base = _class_root(root) or child(root, "emotion_dataset") or root
    found = Collector("fi-zip", root, SPACE)
    found.add_folders("" if base == root else base.name)
    return found.listing()


def _csv(root: Path) -> Path | None:
    """Return FI.csv, or the one CSV at the root whose labels are Mikels' emotions."""
    tables = sorted(path for path in root.iterdir() if path.suffix.lower() == ".csv" and path.is_file())
    for path in tables:
        if path.stem.lower() == "fi" or path.stem.lower().startswith(("fi_", "fi-")):
            return path
    for path in tables:
        try:
            labels = {SPACE.find(row.label) for row in read_table(path, SPACE.known, limit=50)}
        except UniEmoError:
            continue
        if labels & _TELLING:
            return path
    return None


def _matches_csv(root: Path) -> bool:
    return _csv(root) is not None


def read_csv(root: Path) -> Listing:
    """Read ``FI.csv`` (path, class; a column with the split is used where there is one)."""
    path = _csv(root) or root / "FI.csv"
    found = Collector("fi-csv", root, SPACE)
    images = child(root, "images", "image", "emotion_dataset")
    bases = [*([images.name] if images is not None else []), ""]
    for row in read_table(path, SPACE.known):
        found.add(row.image, row.label, bases, row.split, f"line {row.line} of {path}")
    return found.listing()


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "fi-json",
        "FI",
        "train/ test/ with train.json test.json (val too, or not) of [name, label]",
        _matches_json,
        read_json_lists,
    ),
    Layout(
        "fi-splits",
        "FI",
        "train/<emotion>/*.jpg test/<emotion>/*.jpg (val too, or not)",
        _matches_splits,
        read_split_folders,
    ),
    Layout("fi-csv", "FI", "images/ FI.csv (path, class)", _matches_csv, read_csv),
    Layout("fi-zip", "FI", "emotion_dataset/<emotion>/*.jpg", _matches_zip, read_class_folders),
)
