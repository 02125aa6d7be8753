"""Figures made of images: generations side by side (5), attention maps (9), emotion transfer and fusion (10).

They show what ``uniemo generate`` and ``uniemo test`` left in the cells' folders: PNGs with an ``index.jsonl``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from uniemo.cache import atomic_write
from uniemo.data.inside import Inside
from uniemo.errors import UniEmoError
from uniemo.studies.run_files import read_lines
from uniemo.studies.study import Study
from uniemo.studies.work import read_steps

_LITTLE_WORDS = ("a", "an", "the", "in", "at", "on", "with", "and", "of")
_EACH = 2  # images of a method and an emotion
_IN_A_ROW = 7  # images of a mixture
_ATTENTION = "test/images/test_attention"  # of a cell's folder
_MAPS = {"image": "image", "scene": "scene queries", "object": "object queries"}
_SIDE, _GAP = 96, 4  # pixels of an image, and between images of a group


@dataclass(frozen=True)
class Panel:
    """A part of a figure.

    Attributes:
        title: above it; empty for none.
        columns: headings.
        rows: label, and for each column its images; a column without any is left grey.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[Path, ...], ...]], ...]


def write_picture(study: Study, folders: Mapping[str, Path], output: Path) -> None:
    """Write a study's figure as PNG, of the folders of finished cells by the row's name.

    Raises:
        UniEmoError: unknown ``picture``, or no images in the folders.
    """
    if study.picture not in PICTURES:
        raise UniEmoError(f"{study.name}: picture must be one of {', '.join(PICTURES)}; got {study.picture!r}")
    panels = [panel for panel in PICTURES[study.picture](study, folders) if panel.rows and panel.columns]
    if not panels:
        raise UniEmoError(
            f"{study.name}: there must be finished cells with images; found none: run uniemo reproduce first"
        )
    with atomic_write(output) as path:
        _plot(panels, path)


def methods(study: Study, folders: Mapping[str, Path]) -> list[Panel]:
    """Return figure 5: a row for each method, a column for each emotion, the same seeds in every row."""
    found = {row.name: _by_emotion(folders[row.name] / "generate") for row in study.rows if row.name in folders}
    emotions = tuple(dict.fromkeys(emotion for images in found.values() for emotion in images))
    rows = tuple(
        (name, tuple(tuple(images.get(emotion, ())[:_EACH]) for emotion in emotions)) for name, images in found.items()
    )
    return [Panel("", emotions, rows)]


def attention(study: Study, folders: Mapping[str, Path]) -> list[Panel]:
    """Return figure 9: images of several emotions, and where the scene and the object queries look in them."""
    panels: list[Panel] = []
    names = [row.name for row in study.rows if row.name in folders]
    for name in names:
        folder = folders[name] / _ATTENTION
        examples: dict[str, list[dict[str, Any]]] = {}
        for entry in _entries(folder, *_MAPS):
            examples.setdefault(entry["emotion"], []).append(entry)
        for number in range(_EACH):
            entries = {emotion: each[number] for emotion, each in examples.items() if len(each) > number}
            rows = tuple(
                (label, tuple((folder / entry[kind],) for entry in entries.values()))
                for kind, label in _MAPS.items()
                if all(kind in entry for entry in entries.values())
            )
            panels.append(Panel(name if number == 0 and len(names) > 1 else "", tuple(entries), rows))
    return panels


def transfer_and_fusion(study: Study, folders: Mapping[str, Path]) -> list[Panel]:
    """Return figure 10: every emotion on things (row ``transfer``), and mixtures of two emotions (row ``fusion``).

    Each step of a cell has generated into a folder of its own, which is a column of (a), headed by its prompt, or a
    row of (b).
    """
    panels = []
    if "transfer" in folders:
        parts = _parts(folders["transfer"])
        images = [_by_emotion(part) for part in parts]
        emotions = tuple(dict.fromkeys(emotion for each in images for emotion in each))
        rows = tuple((emotion, tuple(tuple(each.get(emotion, ())[:1]) for each in images)) for emotion in emotions)
        panels.append(Panel("(a) Emotion transfer", tuple(thing(part) for part in parts), rows))
    if "fusion" in folders:
        mixtures = []
        for part in _parts(folders["fusion"]):
            for mixture, files in _by_emotion(part).items():
                mixtures.append((mixture.replace("+", " + "), tuple((file,) for file in files[:_IN_A_ROW])))
        widest = max((len(files) for _, files in mixtures), default=0)
        panels.append(Panel("(b) Emotion fusion", ("",) * widest, tuple(mixtures)))
    return panels


PICTURES: dict[str, Callable[[Study, Mapping[str, Path]], list[Panel]]] = {
    "fig5": methods,
    "fig9": attention,
    "fig10": transfer_and_fusion,
}


def thing(folder: Path) -> str:
    """Return what an emotion was transferred onto: "stadium" where the prompt is "a {} in a stadium"."""
    prompt = str(next(iter(read_lines(folder / "index.jsonl")), {}).get("prompt", folder.name))
    words = prompt.replace("{}", " ").split()
    while words and words[0] in _LITTLE_WORDS:
        words.pop(0)
    while words and words[-1] in _LITTLE_WORDS:
        words.pop()
    return " ".join(words)


def _entries(folder: Path, *kinds: str) -> list[dict[str, Any]]:
    """Return the lines of a folder's index; UniEmoError where the images that they name by ``kinds`` lie elsewhere."""
    entries = read_lines(folder / "index.jsonl")
    _check_inside(folder, [str(entry[kind]) for entry in entries for kind in kinds if kind in entry])
    return entries


def _check_inside(folder: Path, names: Sequence[str]) -> None:
    inside = Inside(folder)
    for name in names:
        if name not in inside:
            raise UniEmoError(f"a cell's images must lie in its folder; {name} leads out of {folder}: run it again")


def _by_emotion(folder: Path) -> dict[str, list[Path]]:
    """Return the images of a generation by emotion, or by mixture ("awe+fear"), in the order of their seeds."""
    found: dict[str, list[Path]] = {}
    for entry in _entries(folder, "file"):
        found.setdefault("+".join(entry["weights"]), []).append(folder / entry["file"])
    return found


def _parts(folder: Path) -> list[Path]:
    """Return the generations in a cell's folder in the order in which they were made."""
    names = [str(step["into"]) for step in read_steps(folder)]
    _check_inside(folder, names)
    parts = [folder / name for name in names]
    return [part for part in parts if (part / "index.jsonl").is_file()]


def _plot(panels: Sequence[Panel], path: Path) -> None:
    """Plot panels below each other: labelled rows of images under column headings."""
    from matplotlib.figure import Figure

    each = [max((len(group) for _, groups in panel.rows for group in groups), default=1) or 1 for panel in panels]
    inches = _SIDE / 100
    widths = [len(panel.columns) * (count * inches + 0.2) for panel, count in zip(panels, each, strict=True)]
    heights = [len(panel.rows) * (inches + 0.05) + 0.5 for panel in panels]
    figure = Figure(figsize=(max(widths) + 1.6, sum(heights)), dpi=100, layout="constrained")
    parts = figure.subfigures(len(panels), 1, height_ratios=heights, squeeze=False)[:, 0]
    for panel, count, part in zip(panels, each, parts, strict=True):
        if panel.title:
            part.suptitle(panel.title, x=0.01, ha="left")
        axes = part.subplots(len(panel.rows), len(panel.columns), squeeze=False)
        for place, axis in np.ndenumerate(axes):
            axis.set(xticks=[], yticks=[])
            axis.spines[:].set_visible(False)
            _, groups = panel.rows[place[0]]
            axis.imshow(_strip(groups[place[1]] if place[1] < len(groups) else (), count), interpolation="none")
        for axis, name in zip(axes[0], panel.columns, strict=True):
            axis.set_title(name, fontsize=9)
        for axis, (label, _) in zip(axes[:, 0], panel.rows, strict=True):
            axis.set_ylabel(label.replace(" ", "\n", 1), fontsize=9, rotation=0, ha="right", va="center")
    figure.savefig(path, format="png")


def _strip(files: Sequence[Path], count: int) -> np.ndarray:
    """Return the middle squares of images side by side, places without one grey."""
    strip = Image.new("RGB", (count * (_SIDE + _GAP) - _GAP, _SIDE), "white")
    for place in range(count):
        square = Image.new("RGB", (_SIDE, _SIDE), "#eef0f3")
        if place < len(files):
            with Image.open(files[place]) as image:
                small = min(image.size) <= _SIDE
                method = Image.Resampling.NEAREST if small else Image.Resampling.LANCZOS
                square = ImageOps.fit(image.convert("RGB"), (_SIDE, _SIDE), method)
        strip.paste(square, (place * (_SIDE + _GAP), 0))
    return np.asarray(strip)
