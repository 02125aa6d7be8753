"""EmoSet as it lies on disk.

::

    root/info.json  train.json  val.json  test.json
    root/image/<emotion>/<emotion>_NNNNN.jpg
    root/annotation/<emotion>/<emotion>_NNNNN.json
    root/mask/<emotion>/<emotion>_NNNNN.png          where the object is; only painted trees have it

Split entries are ``[emotion, image, annotation]`` (the downloadable files) or ``[emotion, id, image, annotation]`` (the
README). ``info.json`` comes in a full form with every attribute's names and in an older flat one with emotions only;
the attribute names then come from the annotations.
"""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from uniemo.data.base import SPLITS, EmotionDataModule, Split
from uniemo.data.dataset import EmotionDataset, Records
from uniemo.data.transforms import PairedTransform
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary, attribute_text


@dataclass(frozen=True)
class Entry:
    """One line of a split file: emotion name and two paths relative to the root."""

    emotion: str
    image: str
    annotation: str


@dataclass(frozen=True)
class Attributes:
    """Names that an annotation gives, as spelled there; None or empty where it gives none."""

    scene: str | None
    objects: tuple[str, ...]


def _read_json(path: Path) -> Any:  # noqa: ANN401
    """Return a JSON file's content; UniEmoError when it is missing or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UniEmoError(
            f"EmoSet needs {path.name}; {path} does not exist: data.root must be the folder with info.json, "
            "train.json, val.json, test.json, image/ and annotation/"
        ) from error
    except (OSError, ValueError) as error:
        raise UniEmoError(f"EmoSet file {path} must be JSON; it is not ({error}): download it again") from error


def read_entries(root: Path, split: Split) -> list[Entry]:
    """Read one split file.

    Raises:
        UniEmoError: the file is missing, empty, or has an entry that is neither a 3- nor a 4-tuple.
    """
    path = root / f"{split}.json"
    lines = _read_json(path)
    if not isinstance(lines, list) or not lines:
        raise UniEmoError(f"EmoSet split must list at least one image; {path} lists none: restore the file")
    entries = []
    for number, line in enumerate(lines):
        if not isinstance(line, list) or len(line) not in (3, 4) or not all(isinstance(part, str) for part in line):
            raise UniEmoError(
                "EmoSet entry must be [emotion, image, annotation] or [emotion, id, image, annotation]; "
                f"entry {number} of {path} is {json.dumps(line)[:80]}: restore the file"
            )
        entries.append(Entry(line[0].strip().lower(), line[-2], line[-1]))
    return entries


def _check_images(root: Path, split: Split, entries: list[Entry]) -> None:
    """Raise UniEmoError when listed images do not exist (one listing per folder, not one look per file)."""
    listings: dict[str, set[str]] = {}
    missing = []
    for entry in entries:
        folder, _, name = entry.image.rpartition("/")
        if folder not in listings:
            directory = root / folder
            listings[folder] = set(os.listdir(directory)) if directory.is_dir() else set()
        if name not in listings[folder]:
            missing.append(entry.image)
    if missing:
        raise UniEmoError(
            f"EmoSet images listed in {split}.json must exist; {len(missing)} of {len(entries)} are missing, "
            f"first {root / missing[0]}: restore them or take them off the list"
        )


def read_attributes(root: Path, entries: list[Entry]) -> list[Attributes]:
    """Read the annotations of a split.

    Raises:
        UniEmoError: an annotation is missing or no JSON object.
    """
    result = []
    for entry in entries:
        note = _read_json(root / entry.annotation)
        if not isinstance(note, dict):
            raise UniEmoError(f"EmoSet annotation must be a JSON object; {root / entry.annotation} is not")
        scene, objects = note.get("scene"), note.get("object") or ()
        if isinstance(objects, str):
            objects = (objects,)
        result.append(Attributes(scene or None, tuple(objects)))
    return result


def _ordered_names(table: dict[str, int]) -> tuple[str, ...]:
    """Return the names of a ``label2idx`` table in index order."""
    return tuple(name.strip() for name in sorted(table, key=lambda name: table[name]))


def _distinct(names: list[str]) -> tuple[str, ...]:
    """Return sorted names, one spelling each of those that differ in case, blanks or underscores only."""
    kept: dict[str, str] = {}
    for name in sorted(names):
        kept.setdefault(attribute_text(name), name.strip())
    return tuple(kept[key] for key in sorted(kept))


class NameTable:
    """Class index by name, whatever its case, blanks and underscores; counts the names it does not know."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._index: dict[str, int] = {}
        for index, name in enumerate(names):
            self._index.setdefault(attribute_text(name), index)
        self.unknown: Counter[str] = Counter()

    def find(self, name: str) -> int:
        """Return the class index, -1 for an unknown name."""
        index = self._index.get(attribute_text(name), -1)
        if index < 0:
            self.unknown[name] += 1
        return index


def make_records(
    root: Path, split: Split, entries: list[Entry], attributes: list[Attributes], vocabulary: Vocabulary
) -> Records:
    """Turn names into class indices.

    Attribute names outside the vocabulary count as absent; a warning says how many there were.

    Raises:
        UniEmoError: an emotion outside the vocabulary.
    """
    scenes, objects = NameTable(vocabulary.scenes), NameTable(vocabulary.objects)
    object_rows = []
    for given in attributes:
        found = {objects.find(name) for name in given.objects} - {-1}
        object_rows.append(tuple(sorted(found)))
    scene = np.array([-1 if a.scene is None else scenes.find(a.scene) for a in attributes], dtype=np.int64)
    for kind, table in (("scene", scenes), ("object", objects)):
        if table.unknown:
            name, _ = table.unknown.most_common(1)[0]
            warnings.warn(
                f"{split}: {table.unknown.total()} {kind} names are not in info.json (most often {name!r}) "
                "and count as absent",
                stacklevel=2,
            )
    emotion = np.array([vocabulary.emotion_index(entry.emotion) for entry in entries], dtype=np.int64)
    masks: list[str | None] | None = None
    if (root / "mask").is_dir():
        names = (PurePosixPath("mask", *PurePosixPath(e.image).parts[1:]).with_suffix(".png") for e in entries)
        masks = [str(name) if (root / name).is_file() else None for name in names]
    return Records(
        root=root,
        files=[entry.image for entry in entries],
        emotion=emotion,
        scene=scene,
        objects=object_rows,
        num_objects=len(vocabulary.objects),
        sample_id=np.arange(len(entries), dtype=np.int64),
        masks=masks,
    )


def read_vocabulary(root: Path) -> Vocabulary:
    """Read the names from ``info.json``; with its flat form the attributes come from all annotations, sorted.

    Raises:
        UniEmoError: ``info.json`` is missing or has neither form.
    """
    info = _read_json(root / "info.json")
    try:
        if "label2idx" not in info:
            tables = [_ordered_names(info[kind]["label2idx"]) for kind in ("emotion", "scene", "object")]
            return Vocabulary(tuple(name.lower() for name in tables[0]), tables[1], tables[2])
        emotions = tuple(name.lower() for name in _ordered_names(info["label2idx"]))
    except (KeyError, TypeError, AttributeError) as error:
        raise UniEmoError(
            "EmoSet info.json must hold label2idx, or emotion, scene and object each with label2idx; "
            f"{root / 'info.json'} does not: download it again"
        ) from error
    scenes: list[str] = []
    objects: list[str] = []
    for split in SPLITS:
        if (root / f"{split}.json").is_file():
            for given in read_attributes(root, read_entries(root, split)):
                scenes += [given.scene] if given.scene else []
                objects += given.objects
    return Vocabulary(emotions, _distinct(scenes), _distinct(objects))


class EmoSetDataset(EmotionDataset):
    """One split of EmoSet, usable without Lightning.

    Args:
        root: folder with ``info.json``.
        split: ``train``, ``val`` or ``test``.
        transform: makes the views.
        seed: with epoch and sample id it decides crop and flip.
        with_masks: read the object masks where the tree has them.

    Raises:
        UniEmoError: see :func:`read_entries`, :func:`read_vocabulary`, :func:`make_records`.
    """

    def __init__(
        self,
        root: str | Path,
        split: Split,
        transform: PairedTransform,
        seed: int = 0,
        with_masks: bool = False,
    ) -> None:
        root = Path(root)
        self.vocabulary = read_vocabulary(root)
        entries = read_entries(root, split)
        _check_images(root, split, entries)
        records = make_records(root, split, entries, read_attributes(root, entries), self.vocabulary)
        super().__init__(records, transform, seed, with_masks=with_masks)


class EmoSet(EmotionDataModule):
    """EmoSet-118K, or the painted miniature in its layout; arguments as in :class:`EmotionDataModule`."""

    def check_tree(self, splits: tuple[Split, ...]) -> None:
        """Look at info.json, the split files and the listings of the image folders."""
        _read_json(self.path / "info.json")
        for split in splits:
            _check_images(self.path, split, read_entries(self.path, split))

    def read_vocabulary(self) -> Vocabulary:
        """Return the names of info.json, with its old form those of the annotations."""
        return read_vocabulary(self.path)

    def read_records(self, split: Split) -> Records:
        """Read a split file and its annotations."""
        entries = read_entries(self.path, split)
        return make_records(self.path, split, entries, read_attributes(self.path, entries), self.vocabulary)
