"""EmoSet as it lies on disk.

::

    root/info.json  train.json  val.json  test.json
    root/image/<emotion>/<emotion>_NNNNN.jpg
    root/annotation/<emotion>/<emotion>_NNNNN.json
    root/mask/<emotion>/<emotion>_NNNNN.png          where the object is; only painted trees have it

Split entries are ``[emotion, image, annotation]`` (the downloadable files) or ``[emotion, id, image, annotation]`` (the
README). ``info.json`` comes in a full form with every attribute's names and in an older flat one with emotions only;
the attribute names then come from the annotations. Exports of Hugging Face datasets are read by
:mod:`uniemo.data.huggingface`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import numpy as np

from uniemo.data.base import EmotionDataModule
from uniemo.data.catalog import layouts_of, recognise
from uniemo.data.dataset import EmotionDataset, Records
from uniemo.data.emoset_files import read_json
from uniemo.data.hashes import content_hashes
from uniemo.data.huggingface import LAYOUTS as EXPORTS
from uniemo.data.huggingface import unpack
from uniemo.data.index import EmoSetIndex
from uniemo.data.layouts.emoset import given_splits, read_emotions
from uniemo.data.listing import SPLITS, Item, Layout, Listing, Split
from uniemo.data.splits import Assignment, duplicates, one_side, placeholders
from uniemo.data.transforms import PairedTransform
from uniemo.data.tree import Choices, Tree
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

LAYOUTS: tuple[Layout, ...] = layouts_of("EmoSet")


def read_vocabulary(root: Path, index: EmoSetIndex | None = None) -> Vocabulary:
    """Read the names from ``info.json``; with its flat form the attributes come from all annotations, sorted.

    Args:
        root: folder with ``info.json``.
        index: of the tree; None makes one where it is needed.

    Raises:
        UniEmoError: ``info.json`` is missing or has neither form.
    """
    emotions = read_emotions(root)
    info = read_json(root / "info.json")
    if "label2idx" in info:
        return Vocabulary(emotions, *(index or EmoSetIndex(root)).attribute_names())
    try:
        tables = [info[kind]["label2idx"] for kind in ("scene", "object")]
        scenes, objects = (tuple(name.strip() for name in sorted(table, key=table.get)) for table in tables)
    except (KeyError, TypeError, AttributeError) as error:
        raise UniEmoError(
            "EmoSet info.json must hold label2idx, or emotion, scene and object each with label2idx; "
            f"{root / 'info.json'} does not: download it again"
        ) from error
    return Vocabulary(emotions, scenes, objects)


class EmoSetTree(Tree):
    """EmoSet's images, out of the index: nothing here is kept for each image unless splits are made anew."""

    def __init__(self, root: Path, dataset: str, choices: Choices) -> None:
        super().__init__(root, dataset, choices)
        self._given: dict[Split, Records] = {}

    @cached_property
    def place(self) -> tuple[Layout, Path]:
        """The layout, and the folder with info.json; pictures of an export are unpacked first."""
        layout, folder = recognise(self.root, self.choices.layout, self.dataset)
        return (layout, unpack(folder)) if layout in EXPORTS else (layout, folder)

    @property
    def folder(self) -> Path:
        """What the names of images are relative to."""
        return self.place[1]

    @cached_property
    def index(self) -> EmoSetIndex:
        """The tree's index; its first use looks at every file."""
        return EmoSetIndex(self.folder, on_error=self.choices.on_error)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The names of info.json, with its old form those of the annotations."""
        return read_vocabulary(self.folder, self.index)

    @cached_property
    def _anew(self) -> bool:
        """Whether the user asks for other splits than EmoSet's own, or an export lacks some."""
        lacks = self.place[0] in EXPORTS and given_splits(self.folder) != SPLITS
        return lacks or self.choices.fold is not None or self.choices.split_file is not None

    def _official(self, split: Split) -> Records:
        """Return the images of one of EmoSet's own splits."""
        if split not in self._given:
            self._given[split] = self.index.records(split, self.vocabulary)
            self.skipped.update(self.index.skipped)
        return self._given[split]

    @cached_property
    def listing(self) -> Listing:
        """Image, emotion and split of every image, as objects: for splits made anew, and to write them."""
        emotions = self.vocabulary.emotions
        items = [
            Item(name, emotions[label], split)
            for split in given_splits(self.folder)
            for name, label in zip(self._official(split).files, self._official(split).emotion.tolist(), strict=True)
        ]
        return Listing(self.place[0].name, self.folder, emotions, items)

    @cached_property
    def assignment(self) -> Assignment:
        """The split of each image; see :class:`Tree`."""
        if self._anew:
            return super().assignment
        copies, left_out = self._twins
        split = {item.image: item.split for item in self.listing.items if item.split and item.image not in left_out}
        return Assignment(
            split,
            seed=self.choices.seed,
            layout=self.place[0].name,
            duplicates=copies,
            left_out=tuple(sorted(left_out.items())),
        )

    @cached_property
    def _twins(self) -> tuple[tuple[tuple[str, ...], ...], dict[str, str]]:
        """Images of EmoSet's splits with the same content, in groups, and those that are left out for it."""
        given: dict[Split, Records] = {}
        for split in given_splits(self.folder):
            with suppress(UniEmoError):  # whoever uses that split will hear of it
                given[split] = self._official(split)
        names = [name for records in given.values() for name in records.files]
        looks = [records.stamp for records in given.values() if records.stamp is not None]
        stamp = np.concatenate(looks) if len(looks) == len(given) else None
        contents = content_hashes(self.folder, names, len(names) >= 2000, stamp=stamp)
        number = Counter(contents)
        copies = duplicates({name: text for name, text in zip(names, contents, strict=True) if number[text] > 1})
        wanted = {image for group in copies for image in group}
        place_of: dict[str, Split] = {}
        emotion: dict[str, str] = {}
        for place, records in given.items() if wanted else ():
            for name, label in zip(records.files, records.emotion.tolist(), strict=True):
                if name in wanted:
                    place_of[name], emotion[name] = place, self.vocabulary.emotions[label]
        gone = placeholders(emotion, copies)
        for image in gone:
            place_of.pop(image, None)
        return copies, {**gone, **one_side(place_of, copies)}

    def check(self, splits: Sequence[Split]) -> None:
        """Look at the split files, at what they list, and at the images' headers; see :class:`Tree`."""
        if splits:
            self.index.check(given_splits(self.folder) if self._anew else splits)
        for split in splits:
            self.records(split)

    def select(self, split: Split) -> Records:
        """Return the images of a split, whether or not they can be read."""
        if self._anew:
            pool = concatenate([self._official(given) for given in given_splits(self.folder)])
            images = self.assignment.split
            return pool.subset([row for row, name in enumerate(pool.files) if images.get(name) == split])
        records = self._official(split)
        left_out = self._twins[1]
        if not left_out:
            return records
        return records.subset([row for row, name in enumerate(records.files) if name not in left_out])

    def remarks(self) -> list[str]:
        """Return what was left out, a line for each; see :class:`Tree`."""
        return super().remarks() if self._anew or self._twins[0] or self.skipped else []

    def worth_writing(self) -> bool:
        """Whether the splits in use are not simply those of the tree; see :class:`Tree`."""
        return self._anew or bool(self._twins[1])


def concatenate(parts: Sequence[Records]) -> Records:
    """Return the records of several splits of one tree as one, sample ids counted anew."""
    number = sum(map(len, parts))
    masks = None if any(part.masks is None for part in parts) else [mask for part in parts for mask in part.masks or ()]
    return Records(
        root=parts[0].root,
        files=[name for part in parts for name in part.files],
        emotion=np.concatenate([part.emotion for part in parts]),
        scene=np.concatenate([part.scene for part in parts]),
        objects=[row for part in parts for row in part.objects],
        num_objects=parts[0].num_objects,
        sample_id=np.arange(number, dtype=np.int64),
        masks=masks,
        stamp=None if any(part.stamp is None for part in parts) else np.concatenate([part.stamp for part in parts]),
    )


class EmoSetDataset(EmotionDataset):
    """One split of EmoSet, usable without Lightning.

    Args:
        root: folder with ``info.json``.
        split: ``train``, ``val`` or ``test``.
        transform: makes the views.
        seed: with epoch and sample id it decides crop and flip.
        with_masks: read the object masks where the tree has them.

    Raises:
        UniEmoError: a file is missing or cannot be used.
    """

    def __init__(
        self,
        root: str | Path,
        split: Split,
        transform: PairedTransform,
        seed: int = 0,
        with_masks: bool = False,
    ) -> None:
        index = EmoSetIndex(root)
        self.vocabulary = read_vocabulary(index.root, index)
        index.check((split,))
        super().__init__(index.records(split, self.vocabulary), transform, seed, with_masks=with_masks)


class EmoSet(EmotionDataModule):
    """EmoSet-118K, or the painted miniature in its layout; arguments as in :class:`EmotionDataModule`."""

    dataset_name: ClassVar[str] = "EmoSet"
    tree_class: ClassVar[type[Tree]] = EmoSetTree
