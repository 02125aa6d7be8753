"""Which images a painted tree has: the plan that each layout writes down in its own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uniemo.data.listing import Split
from uniemo.miniature.dataset import Label, sample_labels
from uniemo.miniature.painter import Painting, paint
from uniemo.miniature.table import EMOTIONS

from .faults import encode


@dataclass
class Shot:
    """One image of a tree.

    Attributes:
        number: position in the plan; with the seed it decides the painting.
        label: what is painted.
        name: class, as lists and folders spell it.
        split: where layouts with splits put it.
        stem: file name without extension.
        suffix: extension.
        fault: what is wrong with it, one of ``FAULTS``.
        source: the shot whose bytes this one repeats.
        struck: whether it plays a part in any fault.
        file: path relative to the tree's root, known once it is saved.
    """

    number: int
    label: Label
    name: str
    split: Split
    stem: str = ""
    suffix: str = ".jpg"
    fault: str | None = None
    source: Shot | None = None
    struck: bool = False
    file: str = ""

    @property
    def filename(self) -> str:
        """Stem and extension."""
        return self.stem + self.suffix


def plan(
    names: Sequence[str], mapping: Mapping[str, str], fractions: tuple[float, float], rng: np.random.Generator
) -> list[Shot]:
    """Draw what is painted for each image.

    Args:
        names: class of each image.
        mapping: from the table's eight emotions to the classes; a class's images share its emotions out evenly.
        fractions: of validation and test images in each class, which has at least one of each if it has three.
        rng: the only source of chance.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    wanted = {}  # place → emotion
    for name, rows in places.items():
        emotions = [emotion for emotion in EMOTIONS if mapping[emotion] == name]
        wanted.update({row: emotions[i % len(emotions)] for i, row in enumerate(rows)})
    need = max(sum(emotion == e for emotion in wanted.values()) for e in EMOTIONS)
    drawn: dict[str, list[Label]] = {emotion: [] for emotion in EMOTIONS}
    for label in sample_labels(need * len(EMOTIONS), rng):
        drawn[label.emotion].append(label)

    splits: dict[int, Split] = {}
    for rows in places.values():
        shuffled = rng.permutation(rows).tolist()
        val, test = (max(int(len(rows) >= 3), round(share * len(rows))) if share else 0 for share in fractions)
        splits.update(dict.fromkeys(shuffled[:val], "val"))
        splits.update(dict.fromkeys(shuffled[val : val + test], "test"))
    return [
        Shot(place, drawn[wanted[place]].pop(), name, splits.get(place, "train")) for place, name in enumerate(names)
    ]


@dataclass
class Studio:
    """Where a tree is painted.

    Attributes:
        root: the tree's root.
        seed: of the paintings.
        size: side of the images in pixels.
        bar: counts the images.
    """

    root: Path
    seed: int
    size: int
    bar: tqdm

    def rng(self, *stream: int) -> np.random.Generator:
        """Return a stream of chance of its own for a layout's details."""
        return np.random.default_rng([self.seed, 1, *stream])

    def paint(self, shot: Shot) -> Painting:
        """Paint a shot, for a duplicate the one that it repeats."""
        shown = shot.source or shot
        label = shown.label
        rng = np.random.default_rng([self.seed, 0, shown.number])
        return paint(label.scene, label.object, rng, self.size, label.brightness, label.colorfulness)

    def encode(self, shot: Shot, painting: Painting) -> bytes:
        """Return the bytes of a shot's file, its fault included."""
        shown = shot.source or shot
        return encode(painting.image, shown.suffix, shown.fault)

    def save(self, shot: Shot, folder: str) -> Painting:
        """Paint a shot into a folder of the tree."""
        shot.file = f"{folder}/{shot.filename}" if folder else shot.filename
        painting = self.paint(shot)
        if shot.fault != "missing_image":
            path = self.root / shot.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.encode(shot, painting))
        self.bar.update()
        return painting

    def write(self, name: str, text: str) -> None:
        """Write a text file of the tree, UTF-8 with the same line ends on every system."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("utf-8"))

    def write_table(self, name: str, rows: Sequence[tuple[object, ...]], header: tuple[str, ...]) -> None:
        """Write a CSV; trees of odd seeds have no header line, since both kinds are met."""
        lines = [*([header] if self.seed % 2 == 0 else []), *rows]
        self.write(name, "".join(",".join(map(str, row)) + "\n" for row in lines))
