"""What a reader finds in a dataset's tree, image by image, before it becomes a manifest."""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from uniemo.data.duplicates import content_hashes
from uniemo.data.inside import Inside, refuse_outside
from uniemo.data.manifest import SPLITS, Info, Layout, Problem, Split, to_table
from uniemo.vocabulary import Vocabulary, attribute_text


@dataclass
class Rows:
    """The images of a tree, added one by one by a layout's reader.

    Attributes:
        root: folder that paths are relative to.
        emotions: names in class index order.
        scenes: likewise; None takes those that occur, sorted.
        objects: likewise.
        affect: least and greatest value of valence and arousal; None where images have none.
        columns: of the images that can be used, names in place of class indices.
        problems: images that the lists name and that cannot be used.
        broken: message for each split whose list cannot be read.
        folds: how many cross-validation folds the tree gives.
        notes: remarks on the tree.
        outside: paths that lead out of the root.
    """

    root: Path
    emotions: tuple[str, ...]
    scenes: tuple[str, ...] | None = ()
    objects: tuple[str, ...] | None = ()
    affect: tuple[float, float] | None = None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)
    folds: int = 0
    notes: list[str] = field(default_factory=list)
    outside: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Look up where the root lies."""
        self._inside = Inside(self.root)

    def add(
        self,
        path: str,
        emotion: str,
        split: Split | None = None,
        scene: str | None = None,
        objects: Sequence[str] = (),
        mask: str | None = None,
        annotation: str | None = None,
        folds: Sequence[int] = (),
        distribution: Sequence[float] = (),
        affect: Sequence[float] = (),
    ) -> None:
        """Add an image; one that does not exist or has an unknown emotion becomes a problem.

        Args:
            path: relative to the root.
            emotion: its name.
            split: where the tree puts it.
            scene: name of its scene attribute.
            objects: names of its object attributes.
            mask: path of its grey-scale mask.
            annotation: path of its annotation, which whoever reads it has looked at with ``check_inside``.
            folds: given folds that test on it, from 1.
            distribution: share of its votes for each emotion, of all images or of none.
            affect: valence, arousal and the standard deviation of either, NaN for what is not known; of all images or
                of none.
        """
        place = os.path.join(self.root, path)
        try:
            status = os.lstat(place)
            is_link = stat.S_ISLNK(status.st_mode)
            status = os.stat(place) if is_link else status
        except OSError:
            self.note_outside(path)
            self.problems.append(Problem(path, "it does not exist", split))
            return
        if emotion not in self.emotions:
            self.problems.append(Problem(path, f"label {emotion!r}", split, emotion))
            return
        if not self._inside.holds(path, is_link):
            self.outside.append(path)
        if mask is not None:
            self.note_outside(mask)
        values = {
            "path": os.fsencode(path),
            "split": -1 if split is None else SPLITS.index(split),
            "emotion": self.emotions.index(emotion),
            "distribution": distribution,
            "scene": scene,
            "objects": objects,
            "mask": mask,
            "annotation": annotation,
            "folds": folds,
            "size": status.st_size,
            "mtime": status.st_mtime_ns,
            "affect": affect,
        }
        for name, value in values.items():
            self.columns.setdefault(name, []).append(value)

    def note_outside(self, path: str) -> None:
        """Take note of a path that leads out of the root."""
        if path not in self._inside:
            self.outside.append(path)

    def manifest(self, layout: Layout, folder: Path, follow_links: bool = False) -> tuple[Info, pa.Table]:
        """Return what a manifest consists of.

        Raises:
            UniEmoError: images or masks lie elsewhere.
        """
        inside = self.root == folder or folder in self.root.parents
        if inside and not follow_links:
            refuse_outside(self.root, self.outside, "images and masks of a dataset")
        columns, self.columns = {"path": [], "emotion": [], **self.columns}, {}
        warnings: list[str] = []
        scenes, scene_index = _class_indices("scene", self.scenes, columns.get("scene", []), warnings)
        objects, object_index = _class_indices("object", self.objects, _flat(columns.get("objects", [])), warnings)
        if "scene" in columns:
            columns["scene"] = [scene_index.get(name, -1) for name in columns["scene"]]
        if "objects" in columns:
            columns["objects"] = [sorted({object_index[name] for name in names} - {-1}) for names in columns["objects"]]
        size = np.array(columns.get("size", []), dtype=np.int64)
        columns["hash"] = content_hashes(self.root, [os.fsdecode(path) for path in columns["path"]], size)
        info = Info(
            dataset=layout.dataset,
            layout=layout.name,
            folder=os.path.relpath(self.root, folder) if inside else str(self.root),
            vocabulary=Vocabulary(self.emotions, scenes, objects, self.affect),
            problems=tuple(self.problems),
            broken=self.broken,
            folds=self.folds,
            notes=tuple(self.notes),
            warnings=tuple(f"{layout.dataset}: {warning}" for warning in warnings),
        )
        return info, to_table(columns)


def _flat(lists: Sequence[Sequence[str]]) -> list[str]:
    return [name for names in lists for name in names]


def distinct_names(names: Sequence[str] | Mapping[str, int]) -> tuple[str, ...]:
    """Return sorted names, one spelling each of those that differ in case, blanks or underscores only."""
    kept: dict[str, str] = {}
    for name in sorted(names):
        kept.setdefault(attribute_text(name), name.strip())
    return tuple(kept[key] for key in sorted(kept))


def _class_indices(
    kind: str, known: tuple[str, ...] | None, given: Sequence[str | None], warnings: list[str]
) -> tuple[tuple[str, ...], dict[str, int]]:
    """Return the vocabulary and the class index of every spelling that occurs, -1 for those outside of it.

    Args:
        kind: of attribute.
        known: the vocabulary; None takes the names that occur.
        given: name of each occurrence; case, blanks and underscores do not matter.
        warnings: gets a line about unknown names.
    """
    counts = Counter(name for name in given if name is not None)
    if known is None:
        known = distinct_names(counts)
    table: dict[str, int] = {}
    for index, name in enumerate(known):
        table.setdefault(attribute_text(name), index)
    found = {name: table.get(attribute_text(name), -1) for name in counts}
    unknown = Counter({name: counts[name] for name, index in found.items() if index < 0})
    if unknown:
        warnings.append(
            f"{unknown.total()} {kind} names are not in info.json (most often {unknown.most_common(1)[0][0]!r}) "
            "and count as absent"
        )
    return known, found


def plural(count: int, verbs: tuple[str, str] = ("is", "are")) -> str:
    """Return "1 image is", "2 images are" and so on."""
    return f"1 image {verbs[0]}" if count == 1 else f"{count:,} images {verbs[1]}"
