"""EmoSet as people have it: JSON lists with annotations, in three forms."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from uniemo.data.emoset_files import read_entries, read_json
from uniemo.data.layouts.collector import LabelSpace
from uniemo.data.layouts.disk import Disk
from uniemo.data.listing import SPLITS, Item, Layout, Listing, Split
from uniemo.errors import UniEmoError

_HEAD = 4096  # bytes of a split file that surely hold its first entry
_FIRST = re.compile(r"\[\s*(\[[^\]]*\])")


def given_splits(root: Path) -> tuple[Split, ...]:
    """Return the splits that have a file."""
    return tuple(split for split in SPLITS if (root / f"{split}.json").is_file())


def _is_tree(root: Path) -> bool:
    return (root / "info.json").is_file() or (bool(given_splits(root)) and (root / "image").is_dir())


def _has_ids(root: Path) -> bool:
    """Whether the first entry of a split file has four parts."""
    for split in given_splits(root):
        with open(root / f"{split}.json", "rb") as file:
            found = _FIRST.search(file.read(_HEAD).decode("utf-8", errors="replace"))
        try:
            return found is not None and len(json.loads(found.group(1))) == 4
        except ValueError:
            return False
    return False


def _has_old_info(root: Path) -> bool:
    try:
        return "label2idx" in json.loads((root / "info.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False


def mask_path(image: str) -> str:
    """Return where a painted tree keeps an image's mask."""
    return str(PurePosixPath("mask", *PurePosixPath(image).parts[1:]).with_suffix(".png"))


def read_emotions(root: Path) -> tuple[str, ...]:
    """Return the emotions of ``info.json`` in index order.

    Raises:
        UniEmoError: it is missing, or has neither form.
    """
    info = read_json(root / "info.json")
    try:
        table = info["label2idx"] if "label2idx" in info else info["emotion"]["label2idx"]
        return tuple(name.strip().lower() for name in sorted(table, key=lambda name: table[name]))
    except (KeyError, TypeError, AttributeError) as error:
        raise UniEmoError(
            "EmoSet info.json must hold label2idx, or emotion, scene and object each with label2idx; "
            f"{root / 'info.json'} does not: download it again"
        ) from error


def _reader(name: str) -> Callable[[Path], Listing]:
    def read(root: Path) -> Listing:
        space = LabelSpace(read_emotions(root))
        disk = Disk(root)
        items, absent, unknown = [], [], []
        masks = (root / "mask").is_dir()
        for split in given_splits(root):
            for entry in read_entries(root, split):
                emotion = space.find(entry.emotion)
                if disk.find(entry.image) != entry.image:
                    absent.append(entry.image)
                elif emotion is None:
                    unknown.append((entry.image, entry.emotion))
                else:
                    mask = disk.find(mask_path(entry.image)) if masks else None
                    items.append(Item(entry.image, emotion, split, entry.annotation, mask))
        return Listing(name, root, space.emotions, items, (), tuple(absent), tuple(unknown))

    return read


_TREE = "info.json train.json val.json test.json image/<emotion>/*.jpg annotation/<emotion>/*.json"

LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "emoset-old-info",
        "EmoSet",
        "as emoset, info.json with emotions only",
        lambda root: _is_tree(root) and _has_old_info(root),
        _reader("emoset-old-info"),
    ),
    Layout(
        "emoset-4tuple",
        "EmoSet",
        "as emoset, entries [emotion, id, image, annotation]",
        lambda root: _is_tree(root) and _has_ids(root),
        _reader("emoset-4tuple"),
    ),
    Layout("emoset", "EmoSet", _TREE, _is_tree, _reader("emoset")),
)
