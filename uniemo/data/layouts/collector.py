"""Gathering a tree's images into a :class:`~uniemo.data.listing.Listing`."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from uniemo.data.emotions import POLARITY_2
from uniemo.data.layouts.disk import Disk, folders, path_parts
from uniemo.data.listing import Item, Listing, Split
from uniemo.errors import UniEmoError

_NUMBER = re.compile(r"[+-]?\d+(\.0*)?")
_SIDE: dict[Split | None, int] = {None: 0, "train": 1, "val": 2, "test": 3}

# Twitter I and II: 1 is positive in the datasets' own files (EmoSet's two-class order is the other way round).
POLARITY_WORDS: dict[str, str] = {"1": "positive", "0": "negative", "-1": "negative", "pos": "positive"}
POLARITY_WORDS |= {"neg": "negative", "+1": "positive"}


def label_key(label: str) -> str:
    """Return a label in lower case, without quotes and blanks around it; numbers without a fraction of zero."""
    key = " ".join(label.split()).strip("'\"").strip().lower()
    return str(int(float(key))) if _NUMBER.fullmatch(key) else key


def plural(count: int, verbs: tuple[str, str] = ("is", "are")) -> str:
    """Return "1 image is", "2 images are" and so on."""
    return f"1 image {verbs[0]}" if count == 1 else f"{count:,} images {verbs[1]}"


class LabelSpace:
    """Emotion by label, whatever its case and blanks.

    Args:
        emotions: names in class index order.
        words: further words for them.
    """

    def __init__(self, emotions: tuple[str, ...], words: Mapping[str, str] | None = None) -> None:
        self.emotions = emotions
        self.words = {**{name: name for name in emotions}, **(words or {})}

    def find(self, label: str) -> str | None:
        """Return the emotion that a label means, or None."""
        return self.words.get(label_key(label))

    def known(self, label: str) -> bool:
        """Whether a label means an emotion; numbers only where the dataset itself defines them."""
        return label_key(label) in self.words

    def of_folder(self, parts: Sequence[str]) -> str | None:
        """Return the emotion that one of a path's folders names, the innermost first."""
        return next((name for part in reversed(parts) if (name := self.find(part)) in self.emotions), None)


POLARITY = LabelSpace(POLARITY_2, POLARITY_WORDS)


class Collector:
    """Images found one by one, with what is wrong about them.

    Args:
        layout: name of the layout.
        root: folder that paths are relative to.
        space: the dataset's labels.
    """

    def __init__(self, layout: str, root: Path, space: LabelSpace) -> None:
        self.layout = layout
        self.space = space
        self.disk = Disk(root)
        self.items: dict[str, Item] = {}
        self.absent: dict[str, None] = {}
        self.unknown: dict[str, str] = {}
        self.contradicted: set[str] = set()
        self.repeated: Counter[str] = Counter()
        self.notes: list[str] = []

    def add(
        self,
        listed: str,
        label: str,
        bases: Sequence[str],
        split: Split | None = None,
        where: str = "",
    ) -> str | None:
        """Take in one line of a list.

        Args:
            listed: the image as the list names it.
            label: as the list spells it; empty where the folder tells.
            bases: folders that the list may mean, the likeliest first.
            split: where the list puts it.
            where: file and line, for errors.

        Returns:
            The image as the disk spells it; None where it is missing or its label is outside the label space.

        Raises:
            UniEmoError: the label is a number that nothing explains.
        """
        parts = path_parts(listed)
        emotion = self.space.find(label)
        if emotion is None and (not label or _NUMBER.fullmatch(label_key(label))):
            emotion = self.space.of_folder(parts[:-1])
        path = self.disk.locate(listed, bases, also=[name for name in (emotion, label_key(label)) if name])
        if emotion is None and path is not None and (not label or _NUMBER.fullmatch(label_key(label))):
            emotion = self.space.of_folder(path.split("/")[:-1])
        if emotion is None and _NUMBER.fullmatch(label_key(label)):
            raise UniEmoError(
                f"labels must be names ({', '.join(self.space.emotions)}); {where} has the number {label!r}, and "
                "datasets number their classes in different orders: write names, or keep images in folders named so"
            )
        if path is None:
            self.absent["/".join(part for part in (bases[0], *parts) if part)] = None
        elif emotion is None:
            self.unknown[path] = label or (path.split("/")[-2] if "/" in path else "")
        else:
            self.put(Item(path, emotion, split))
            return path
        return None

    def put(self, item: Item) -> None:
        """Take in an image that is there; named twice it stays on the test side, with two labels it is left out."""
        before = self.items.get(item.image)
        if item.image in self.contradicted:
            return
        if before is None:
            self.items[item.image] = item
        elif before.emotion != item.emotion:
            self.contradicted.add(item.image)
            del self.items[item.image]
        else:
            self.repeated[item.image] += 1
            if _SIDE[item.split] > _SIDE[before.split]:
                self.items[item.image] = replace(before, split=item.split)

    def add_folders(self, folder: str, split: Split | None = None, skip: Sequence[str] = ()) -> None:
        """Take in the pictures of each class's folder in ``folder`` ("" is the root)."""
        for name in folders(self.disk.root / folder):
            if name.lower() in skip:
                continue
            emotion = self.space.find(name)
            for path in self.disk.pictures(f"{folder}/{name}" if folder else name):
                if emotion is None:
                    self.unknown[path] = name
                else:
                    self.put(Item(path, emotion, split))

    def note_unlisted(self, folder: str) -> None:
        """Note how many pictures in a folder no list names."""
        listed = {*self.items, *self.unknown, *self.contradicted}
        extra = [path for path in self.disk.pictures(folder) if path not in listed]
        if extra:
            self.notes.append(f"{plural(len(extra))} in no list, first {extra[0]}")

    def listing(self, folds: Sequence[frozenset[str]] = ()) -> Listing:
        """Return everything, sorted by image, so that nothing depends on the file system's order."""
        notes = list(self.notes)
        if self.repeated:
            notes.append(f"{plural(len(self.repeated))} listed more than once, first {min(self.repeated)}")
        if self.contradicted:
            count, first = plural(len(self.contradicted)), min(self.contradicted)
            notes.append(f"{count} listed with two emotions and left out, first {first}")
        return Listing(
            layout=self.layout,
            root=self.disk.root,
            emotions=self.space.emotions,
            items=[self.items[image] for image in sorted(self.items)],
            folds=tuple(fold & self.items.keys() for fold in folds),
            absent=tuple(sorted(self.absent)),
            unknown=tuple(sorted(self.unknown.items())),
            notes=tuple(notes),
        )
