"""The images of a painted tree: which ones there are, which faults they have, and their files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uniemo.errors import UniEmoError
from uniemo.miniature.faults import FAULTS, encode
from uniemo.miniature.painter import Painting
from uniemo.miniature.synthesis import Label, paint_label, sample_labels
from uniemo.miniature.table import EMOTIONS

UNKNOWN_LABEL = "boredom"
_SCRIPTS = "写真_фото_صورة_"
_COUNTS = {"duplicate_across_splits": 2, "placeholder": 3}  # images of a fault; else one


@dataclass
class Sample:
    """One image of a tree.

    Attributes:
        number: position in the tree; with the seed it decides the painting.
        label: what is painted.
        name: class, as lists and folders spell it.
        split: ``train``, ``val`` or ``test``, where layouts with splits put it.
        stem: file name without extension.
        suffix: extension.
        fault: what is wrong with it, one of ``FAULTS``.
        source: the sample whose bytes this one repeats.
        faulty: whether it plays a part in any fault.
        file: path relative to the tree's root, known once it is saved.
    """

    number: int
    label: Label
    name: str
    split: str
    stem: str = ""
    suffix: str = ".jpg"
    fault: str | None = None
    source: Sample | None = None
    faulty: bool = False
    file: str = ""

    @property
    def filename(self) -> str:
        """Stem and extension."""
        return self.stem + self.suffix


def plan(
    names: Sequence[str], mapping: Mapping[str, str], fractions: tuple[float, float], rng: np.random.Generator
) -> list[Sample]:
    """Choose what is painted for each image.

    Args:
        names: class of each image.
        mapping: from the table's eight emotions to the classes; a class's images share its emotions out evenly.
        fractions: of validation and test images in each class, which has at least one of each if it has three.
        rng: the only source of randomness.
    """
    places: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        places.setdefault(name, []).append(place)
    wanted = {}  # place → emotion
    for name, rows in places.items():
        emotions = [emotion for emotion in EMOTIONS if mapping[emotion] == name]
        wanted.update({row: emotions[i % len(emotions)] for i, row in enumerate(rows)})
    need = max(sum(emotion == e for emotion in wanted.values()) for e in EMOTIONS)
    labels: dict[str, list[Label]] = {emotion: [] for emotion in EMOTIONS}
    for label in sample_labels(need * len(EMOTIONS), rng):
        labels[label.emotion].append(label)

    splits: dict[int, str] = {}
    for rows in places.values():
        shuffled = rng.permutation(rows).tolist()
        val, test = (max(int(len(rows) >= 3), round(share * len(rows))) if share else 0 for share in fractions)
        splits.update(dict.fromkeys(shuffled[:val], "val"))
        splits.update(dict.fromkeys(shuffled[val : val + test], "test"))
    return [
        Sample(place, labels[wanted[place]].pop(), name, splits.get(place, "train")) for place, name in enumerate(names)
    ]


def assign_faults(
    samples: Sequence[Sample], faults: Sequence[str], rng: np.random.Generator, by_split: bool
) -> dict[str, list[Sample]]:
    """Give each fault images of its own and change their names and labels where the fault is about those.

    ``by_split``: a duplicate lies in train and in test, not just anywhere.

    Returns:
        The samples of each fault.

    Raises:
        UniEmoError: the tree has too few images for the faults.
    """
    free = [samples[i] for i in rng.permutation(len(samples))]
    given: dict[str, list[Sample]] = {}
    for fault in sorted(set(faults), key=lambda fault: (fault != "duplicate_across_splits", FAULTS.index(fault))):
        count = _COUNTS.get(fault, 1)
        chosen = _pair(free, by_split) if fault == "duplicate_across_splits" else free[:count]
        if len(chosen) < count:
            raise UniEmoError(f"images must be enough for each fault to have its own; got {len(samples)}: paint more")
        for sample in chosen:
            free.remove(sample)
            sample.faulty = True
            if fault != "duplicate_across_splits":
                _apply(fault, sample)
        if fault == "duplicate_across_splits":
            chosen[1].source = chosen[0]
        given[fault] = chosen
    return given


def _pair(free: Sequence[Sample], by_split: bool) -> list[Sample]:
    """Return two samples of one class, the first in train, the second in test where splits count."""
    for first in free:
        for second in free:
            apart = first is not second and (not by_split or (first.split, second.split) == ("train", "test"))
            if apart and first.name == second.name:
                return [first, second]
    return []


def _apply(fault: str, sample: Sample) -> None:
    """Set a sample's fault, and change its name or label where the fault is about those."""
    sample.fault = fault
    if fault == "sixteen_bit":
        sample.suffix = ".png"
    elif fault == "upper_extension":
        sample.suffix = sample.suffix.upper()
    elif fault == "script_name":
        sample.stem = _SCRIPTS + sample.stem
    elif fault == "label_case":
        sample.name = sample.name.capitalize()
    elif fault == "unknown_label":
        sample.name = UNKNOWN_LABEL


@dataclass
class Tree:
    """A tree that is being painted.

    Attributes:
        root: its folder.
        seed: of the paintings.
        size: side of the images in pixels.
        difficulty: of the paintings.
        styles: name → share.
        bar: counts the images.
    """

    root: Path
    seed: int
    size: int
    difficulty: float
    styles: Mapping[str, float]
    bar: tqdm

    def rng(self, *stream: int) -> np.random.Generator:
        """Return an independent random stream for a layout's details."""
        return np.random.default_rng([self.seed, 1, *stream])

    def paint(self, sample: Sample) -> tuple[Painting, bytes]:
        """Return a sample's painting, for a duplicate the one that it repeats, and the bytes of its file."""
        shown = sample.source or sample
        rng = np.random.default_rng([self.seed, 0, shown.number])
        painting = paint_label(shown.label, rng, self.size, self.difficulty, self.styles)
        self.bar.update()
        return painting, encode(painting.image, shown.suffix, shown.fault)

    def save(self, sample: Sample, folder: str) -> Painting:
        """Paint a sample into a folder of the tree."""
        sample.file = f"{folder}/{sample.filename}"
        painting, content = self.paint(sample)
        if sample.fault != "missing_image":
            self.path(sample.file).write_bytes(content)
        return painting

    def write(self, name: str, text: str) -> None:
        """Write a text file of the tree, UTF-8 with the same line ends on every system."""
        self.path(name).write_bytes(text.encode("utf-8"))

    def write_table(self, name: str, rows: Sequence[tuple[object, ...]], header: tuple[str, ...]) -> None:
        """Write a CSV; trees of odd seeds have no header line, since both kinds exist."""
        lines = [*([header] if self.seed % 2 == 0 else []), *rows]
        self.write(name, "".join(",".join(map(str, row)) + "\n" for row in lines))

    def path(self, name: str) -> Path:
        """Return the path of a file of the tree, in a folder that exists."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
