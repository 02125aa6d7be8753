"""EmoSet-118K: Mikels' eight emotions with scene and object attributes.

::

    root/info.json  train.json  val.json  test.json
    root/image/<emotion>/<emotion>_NNNNN.jpg
    root/annotation/<emotion>/<emotion>_NNNNN.json
    root/mask/<emotion>/<emotion>_NNNNN.png          the object's place; only painted trees have it

Split entries are ``[emotion, image, annotation]`` (the downloadable files) or ``[emotion, id, image, annotation]`` (the
README). ``info.json`` comes in a full form with every attribute's names and in an older flat one with emotions only;
the attribute names then come from the annotations. Exports of Hugging Face datasets are read by
:mod:`uniemo.data.huggingface`.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.dataset import EmotionDataset
from uniemo.data.manifest import SPLITS, Layout, Split
from uniemo.data.transforms import PairedTransform
from uniemo.errors import UniEmoError, first_line

if TYPE_CHECKING:
    from uniemo.data.rows import Rows

_HEAD = 4096  # bytes of a split file that surely hold its first entry
_FIRST = re.compile(r"\[\s*(\[[^\]]*\])")


# Reading a tree.


def _read(path: str | Path) -> Any:  # noqa: ANN401
    from uniemo import text_files

    return text_files.read_json(path)


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Return a JSON file's content.

    Raises:
        UniEmoError: the file is missing or no JSON.
    """
    try:
        return _read(path)
    except FileNotFoundError as error:
        raise UniEmoError(
            f"EmoSet needs {path.name}; {path} does not exist: data.root must be the folder with info.json, "
            "train.json, val.json, test.json, image/ and annotation/"
        ) from error
    except (OSError, ValueError) as error:
        raise UniEmoError(f"EmoSet file {path} must be JSON; it is not ({error}): download it again") from error


def read_entries(root: Path, split: Split) -> list[tuple[str, str, str]]:
    """Return (emotion, image, annotation) of each line of a split file; the paths are relative to the root.

    Raises:
        UniEmoError: the file is missing, empty, or has an entry that is neither a 3- nor a 4-tuple.
    """
    path = root / f"{split}.json"
    lines = read_json(path)
    if not isinstance(lines, list) or not lines:
        raise UniEmoError(f"EmoSet split must list at least one image; {path} lists none: restore the file")
    for number, line in enumerate(lines):
        if not isinstance(line, list) or len(line) not in (3, 4) or not all(isinstance(part, str) for part in line):
            raise UniEmoError(
                "EmoSet entry must be [emotion, image, annotation] or [emotion, id, image, annotation]; "
                f"entry {number} of {path} is {json.dumps(line)[:80]}: restore the file"
            )
    return [(sys.intern(line[0].strip().lower()), line[-2], line[-1]) for line in lines]


def read_names(root: Path) -> tuple[tuple[str, ...], tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return emotions, scenes and objects of ``info.json`` in index order; None for what its flat form lacks.

    Raises:
        UniEmoError: it is missing, or has neither form.
    """
    info = read_json(root / "info.json")
    try:
        if "label2idx" in info:
            return tuple(name.lower() for name in _in_order(info)), None, None
        emotions, scenes, objects = (_in_order(info[kind]) for kind in ("emotion", "scene", "object"))
    except (KeyError, TypeError, AttributeError) as error:
        raise UniEmoError(
            "EmoSet info.json must hold label2idx, or emotion, scene and object each with label2idx; "
            f"{root / 'info.json'} does not: download it again"
        ) from error
    return tuple(name.lower() for name in emotions), scenes, objects


def _in_order(table: dict[str, Any]) -> tuple[str, ...]:
    indices = table["label2idx"]
    return tuple(name.strip() for name in sorted(indices, key=indices.__getitem__))


def read_annotation(path: str) -> tuple[str | None, tuple[str, ...]] | str:
    """Return scene and objects of an annotation as spelled there; a reason where it cannot be used."""
    try:
        note = _read(path)
    except FileNotFoundError:
        return "its annotation does not exist"
    except (OSError, ValueError) as error:
        return f"its annotation cannot be used: {first_line(error)}"
    if not isinstance(note, dict):
        return "its annotation cannot be used: no JSON object"
    scene, objects = note.get("scene"), note.get("object") or ()
    objects = (objects,) if isinstance(objects, str) else objects
    if not isinstance(scene, str | None):
        return f"its annotation cannot be used: scene must be one name; it is {json.dumps(scene)[:40]}"
    if not isinstance(objects, list | tuple) or not all(isinstance(name, str) for name in objects):
        return f"its annotation cannot be used: object must be a list of names; it is {json.dumps(objects)[:40]}"
    return sys.intern(scene) if scene else None, tuple(map(sys.intern, objects))


def read_tree(root: Path, follow_links: bool = False) -> Rows:
    """Read the split files and every annotation that they list; a split whose file is broken is noted.

    Raises:
        UniEmoError: without ``follow_links``, images or annotations that lie elsewhere.
    """
    from uniemo.data.duplicates import map_files
    from uniemo.data.inside import check_inside
    from uniemo.data.rows import Problem, Rows

    rows = Rows(root, *read_names(root))
    with_masks = (root / "mask").is_dir()
    for split in SPLITS:
        try:
            entries = read_entries(root, split)
        except UniEmoError as error:
            rows.broken[split] = str(error)
            continue
        if not follow_links:
            check_inside(root, [annotation for _, _, annotation in entries], f"annotations that {split}.json lists")
        notes = map_files(
            lambda entry: read_annotation(os.path.join(root, entry[2])), entries, f"reading {split} annotations"
        )
        for (emotion, image, annotation), note in zip(entries, notes, strict=True):
            if not isinstance(note, str):
                mask = find_mask(root, image) if with_masks else None
                rows.add(image, emotion, split, note[0], note[1], mask, annotation)
            else:
                rows.note_outside(image)
                if not (root / image).is_file():
                    rows.problems.append(Problem(image, "it does not exist", split))
                else:
                    rows.problems.append(Problem(image, note, split, emotion=emotion, annotation=annotation))
    return rows


def find_mask(root: Path, image: str) -> str | None:
    """Return where a painted tree has an image's mask."""
    mask = PurePosixPath("mask", *PurePosixPath(image).parts[1:]).with_suffix(".png")
    return str(mask) if (root / mask).is_file() else None


# Layouts.


def _is_tree(root: Path) -> bool:
    given = any((root / f"{split}.json").is_file() for split in SPLITS)
    return (root / "info.json").is_file() or (given and (root / "image").is_dir())


def _has_ids(root: Path) -> bool:
    """Whether the first entry of a split file has four parts."""
    for split in SPLITS:
        path = root / f"{split}.json"
        if path.is_file():
            with open(path, "rb") as file:
                found = _FIRST.search(file.read(_HEAD).decode("utf-8", errors="replace"))
            try:
                return found is not None and len(json.loads(found.group(1))) == 4
            except ValueError:
                return False
    return False


def _has_flat_info(root: Path) -> bool:
    try:
        return "label2idx" in _read(root / "info.json")
    except (OSError, ValueError, TypeError):
        return False


def _is_export(root: Path, saved: bool) -> bool:
    from uniemo.data.files import has_parquet, is_saved_dataset

    return is_saved_dataset(root) if saved else has_parquet(root)


def _read_export(root: Path, follow_links: bool = False) -> Rows:
    from uniemo.data.huggingface import read_export

    return read_export(root, follow_links)


_TREE = "info.json train.json val.json test.json image/<emotion>/*.jpg annotation/<emotion>/*.json"
_FLAT, _IDS = "as emoset, info.json with emotions only", "as emoset, entries [emotion, id, image, annotation]"
_PARQUET = "data/{train,validation,test}-*.parquet with columns image, emotion, scene, object"
_SAVED = "dataset_dict.json {train,validation,test}/data-*.arrow"
_OPTIONS = ("follow_links",)
LAYOUTS = (
    Layout(
        "emoset-old-info", "EmoSet", _FLAT, lambda root: _is_tree(root) and _has_flat_info(root), read_tree, _OPTIONS
    ),
    Layout("emoset-4tuple", "EmoSet", _IDS, lambda root: _is_tree(root) and _has_ids(root), read_tree, _OPTIONS),
    Layout("emoset", "EmoSet", _TREE, _is_tree, read_tree, _OPTIONS),
    Layout("parquet", "EmoSet", _PARQUET, lambda root: _is_export(root, False), _read_export, _OPTIONS),
    Layout("hf-disk", "EmoSet", _SAVED, lambda root: _is_export(root, True), _read_export, _OPTIONS),
)


class EmoSet(EmotionDataModule):
    """EmoSet-118K, or the painted miniature in its layout; arguments as in :class:`EmotionDataModule`."""

    layouts: ClassVar[tuple[Layout, ...]] = LAYOUTS
    # Yang et al., "EmoSet", ICCV 2023: 118,102 images, 80 : 5 : 15.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "train": {"all": 94481},
        "val": {"all": 5905},
        "test": {"all": 17716},
        "all": {"all": 118102},
    }

    def sample_ids(self, rows: NDArray[np.int64], split: Split) -> NDArray[np.int64]:
        """Return the places of images in their split file, or in all of them where the splits are others."""
        first = np.flatnonzero(self.manifest.split == SPLITS.index(split))[0] if self.assignment.source == "tree" else 0
        return rows - first


class EmoSetDataset(EmotionDataset):
    """One split of EmoSet, usable without Lightning.

    Args:
        root: folder with ``info.json``.
        split: ``train``, ``val`` or ``test``.
        transform: makes the views.
        seed: with epoch and sample id it decides crop and flip.
        with_masks: read the object masks where the tree has them.

    Attributes:
        vocabulary: emotion, scene and object names.

    Raises:
        UniEmoError: a file is missing or cannot be used.
    """

    def __init__(
        self, root: str | Path, split: Split, transform: PairedTransform, seed: int = 0, with_masks: bool = False
    ) -> None:
        data = EmoSet(str(root), check=False)
        data.check((split,))
        self.vocabulary = data.vocabulary
        super().__init__(data.records(split), transform, seed, with_masks=with_masks)
