"""Which images are evaluated and which emotion each stands for: class folders, datasets, indexes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

from uniemo.data.catalog import read_listing, recognise
from uniemo.data.emotions import TAXONOMIES
from uniemo.data.generated import INDEX_NAMES, intended_emotion, read_index
from uniemo.data.layouts.disk import folders, is_picture
from uniemo.data.listing import Layout, Split, describe
from uniemo.data.tree import Choices, Tree
from uniemo.errors import UniEmoError
from uniemo.miniature.paths import resolve

Part = Literal["train", "val", "test", "all"]
PARTS: tuple[Part, ...] = get_args(Part)

_CLASS_FOLDERS = ("fi-zip", "emotionroi-folders")  # layouts that are nothing but a folder for each emotion
_DEPTH = 8  # folders inside each other that are looked into


@dataclass(frozen=True)
class ImageSet:
    """Images with their emotions; nothing has been opened yet.

    Attributes:
        source: as the user named it.
        root: folder that the names are relative to.
        names: of the images, ``/`` between folders, each once.
        emotions: name of each image's emotion.
        layout: ``folders``, ``index`` or the dataset's layout.
        dataset: name of its data module's class; None where it is no known dataset.
        split: which part of a dataset; ``all`` elsewhere.
        classes: the dataset's emotions in class order; empty elsewhere.
        ignored: files in the folders that are no pictures.
        notes: what a reader of the result should know.
    """

    source: str
    root: Path
    names: tuple[str, ...]
    emotions: tuple[str, ...]
    layout: str
    dataset: str | None = None
    split: str = "all"
    classes: tuple[str, ...] = ()
    ignored: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def files(self, names: Sequence[str] | None = None) -> list[Path]:
        """Return the paths of images; None takes all."""
        return [self.root / name for name in (self.names if names is None else names)]

    def by_emotion(self) -> dict[str, list[str]]:
        """Return the names by emotion."""
        parts: dict[str, list[str]] = {}
        for name, emotion in zip(self.names, self.emotions, strict=True):
            parts.setdefault(emotion, []).append(name)
        return parts

    def counts(self) -> dict[str, int]:
        """Return the number of images of each emotion."""
        return dict(Counter(self.emotions))

    def only(self, emotions: Sequence[str]) -> ImageSet:
        """Return the images of some emotions."""
        kept = [pair for pair in zip(self.names, self.emotions, strict=True) if pair[1] in emotions]
        return replace(self, names=tuple(name for name, _ in kept), emotions=tuple(emotion for _, emotion in kept))


def read_images(
    path: str | Path, split: Part | None = None, option: str = "--generated", training: bool = False
) -> ImageSet:
    """List the images that a path stands for, sorted by name.

    Args:
        path: a folder with a folder for each emotion (whatever its letter case), a dataset that uniemo knows, an index
            of ``uniemo generate`` or ``uniemo filter``, the folder that holds it, or ``miniature:emoset``.
        split: of a dataset; None takes its own test split, and all images where the tree names no splits. A split that
            the tree lacks is cut as training cuts it (seed 0).
        option: named in errors.
        training: without a split, take the training split, of a dataset whose tree names none as training cuts it.

    Raises:
        UniEmoError: nothing there, no images, an unknown emotion in an index, a list that names missing images.
    """
    source, root = str(path), resolve(str(path))
    if not root.exists():
        raise UniEmoError(f"{option} must be a folder of images or an index; {root} does not exist: correct the path")
    if root.is_file() or any((root / name).is_file() for name in INDEX_NAMES):
        if root.is_file() and root.suffix.lower() != ".jsonl":
            raise UniEmoError(
                f"{option} must be a folder of images or a .jsonl index; {root} is neither: give the folder"
            )
        found = _read_index(source, root, option)
    else:
        layout, folder = _layout(root)
        classes = {name: name.casefold() for name in folders(root) if name.casefold() in known_emotions()}
        plain = classes and layout is not None and layout.name in _CLASS_FOLDERS and split in (None, "all")
        if layout is None or plain:
            found = _read_classes(source, root, classes, option)
            if split not in (None, "all"):
                raise UniEmoError(f"--split must be all for class folders without splits; got {split}: leave it out")
        else:
            found = _read_dataset(source, layout, folder, split or ("train" if training else None), option)
    if not found.names:
        raise UniEmoError(
            f"{option} must hold images in folders named after emotions ({', '.join(TAXONOMIES['mikels8'])}, …), a "
            f"dataset or an index.jsonl; {root} holds {describe(root)}: give another folder"
        )
    return found


def known_emotions() -> set[str]:
    """Return the emotions of every label space."""
    return {name for names in TAXONOMIES.values() for name in names}


def label_space(*sets: ImageSet, preferred: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the class names, in class order, that hold all emotions of the sets.

    Args:
        sets: the images.
        preferred: class names, for example of the classifier's training data; taken where they hold all.

    Raises:
        UniEmoError: no label space holds them all.
    """
    present = {emotion for images in sets for emotion in images.emotions}
    for names in (tuple(preferred), *TAXONOMIES.values()):
        if present <= set(names):
            return names
    raise UniEmoError(
        f"emotions must be of one label space ({'; '.join(', '.join(names) for names in TAXONOMIES.values())}); got "
        f"{', '.join(sorted(present))}: evaluate folders of the same emotions"
    )


def _layout(root: Path) -> tuple[Layout | None, Path]:
    """Return the dataset layout of a tree and its folder; None where it is no known dataset."""
    try:
        return recognise(root)
    except UniEmoError:
        return None, root


def _read_index(source: str, root: Path, option: str) -> ImageSet:
    """Read an index of generated images; a mixture counts for the emotion with the largest weight."""
    rows = read_index(root)
    base = root.parent if root.is_file() else root
    pairs: dict[str, str] = {}
    for row in rows:
        if row["file"] in pairs:
            raise UniEmoError(f"{option} must list an image once; {source} lists {row['file']} twice: mend the index")
        pairs[row["file"]] = intended_emotion(row).strip().casefold()
    missing = [name for name in pairs if not (base / name).is_file()]
    if missing:
        raise UniEmoError(
            f"{option} must list existing images; {len(missing)} of {len(pairs)} in {source} are missing, first "
            f"{missing[0]}: generate again"
        )
    mixed = sum(len([weight for weight in (row.get("weights") or {}).values() if weight]) > 1 for row in rows)
    notes = [f"{mixed} images of {source} are mixtures and count for their strongest emotion"] if mixed else []
    names = sorted(pairs)
    return ImageSet(source, base, tuple(names), tuple(pairs[name] for name in names), "index", notes=tuple(notes))


def _read_classes(source: str, root: Path, classes: dict[str, str], option: str) -> ImageSet:
    """Read a folder for each emotion."""
    pairs: dict[str, str] = {}
    ignored = 0
    for folder, emotion in classes.items():
        pictures, others = _walk(root / folder, folder)
        pairs.update(dict.fromkeys(pictures, emotion))
        ignored += others
    strange = [name for name in folders(root) if name not in classes]
    notes = [f"{source}: folders that name no emotion are left out: {', '.join(strange)}"] if strange and pairs else []
    names = sorted(pairs)
    return ImageSet(
        source,
        root,
        tuple(names),
        tuple(pairs[name] for name in names),
        "folders",
        ignored=ignored,
        notes=tuple(notes),
    )


def _walk(folder: Path, name: str, depth: int = _DEPTH) -> tuple[list[str], int]:
    """Return the pictures in a folder and below, and how many other files there are; hidden ones count as neither."""
    pictures: list[str] = []
    others = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith((".", "__")):
                continue
            if entry.is_dir():
                if depth > 1:
                    inner, more = _walk(Path(entry.path), f"{name}/{entry.name}", depth - 1)
                    pictures += inner
                    others += more
            elif is_picture(entry.name):
                pictures.append(f"{name}/{entry.name}")
            else:
                others += 1
    return pictures, others


def _read_dataset(source: str, layout: Layout, folder: Path, split: Part | None, option: str) -> ImageSet:
    """Read a split of a dataset."""
    listing = read_listing(folder, layout.name, layout.dataset)
    if listing.absent:
        raise UniEmoError(
            f"{option} must be whole; {len(listing.absent)} images that {source} lists are missing, first "
            f"{listing.root / listing.absent[0]}: restore them"
        )
    given = listing.given_splits
    part: Part = split or ("test" if "test" in given else "all")
    notes = [f"{source}: {note}" for note in listing.notes]
    if listing.unknown:
        notes.append(f"{source}: {len(listing.unknown)} images have no known label, first {listing.unknown[0][0]}")
    if part == "all":
        if split is None:
            notes.append(
                f"{source}: all images, since the tree names no splits; --split test takes what training spares"
            )
        items = listing.items
    elif part in given:
        items = [item for item in listing.items if item.split == part]
    else:
        assignment = _cut(folder, layout)
        items = [item for item in listing.items if assignment.get(item.image) == part]
        notes.append(f"{source}: {part} split as training cuts it, seed 0")
    items = sorted(items, key=lambda item: item.image)
    return ImageSet(
        source,
        listing.root,
        tuple(item.image for item in items),
        tuple(item.emotion for item in items),
        layout.name,
        layout.dataset,
        part,
        listing.emotions,
        notes=tuple(notes),
    )


def _cut(folder: Path, layout: Layout) -> dict[str, Split]:
    """Return the splits that training makes of a tree that lacks them."""
    return Tree(folder, layout.dataset, Choices(layout=layout.name)).assignment.split
