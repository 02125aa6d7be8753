"""Figures that are pictures: generations side by side (5), attention maps (9), emotion transfer and fusion (10).

They are made of what ``uniemo generate`` and ``uniemo test`` left in the cells' folders: PNGs with an ``index.jsonl``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from uniemo.cache import atomic_write
from uniemo.errors import UniEmoError
from uniemo.studies.sheet import Panel, draw_sheet
from uniemo.studies.study import Study

_LITTLE_WORDS = ("a", "an", "the", "in", "at", "on", "with", "and", "of")
_EACH = 2  # images of a method and an emotion
_IN_A_ROW = 7  # images of a mixture
ATTENTION = "test/images/test_attention"  # of a cell's folder
_MAPS = {"image": "image", "scene": "scene queries", "object": "object queries"}


def draw(study: Study, folders: Mapping[str, Path], output: Path) -> None:
    """Draw a study's picture and write it as PNG.

    Args:
        study: with ``picture``.
        folders: of finished cells, by the row's name; rows that were not run are absent.
        output: file.

    Raises:
        UniEmoError: unknown ``picture``, or nothing to draw in the folders.
    """
    if study.picture not in PICTURES:
        raise UniEmoError(f"{study.name}: picture must be one of {', '.join(PICTURES)}; got {study.picture!r}")
    panels = [panel for panel in PICTURES[study.picture](study, folders) if panel.rows and panel.columns]
    if not panels:
        raise UniEmoError(
            f"{study.name}: there must be finished cells with images; found none: run uniemo reproduce first"
        )
    with atomic_write(output) as path:
        draw_sheet(panels).save(path, format="PNG")


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
        folder = folders[name] / ATTENTION
        examples: dict[str, list[dict[str, Any]]] = {}
        for entry in read_index(folder):
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

    A cell's generations lie in folders of their own; each is a column of (a), headed by its prompt, or a row of (b).
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


def read_index(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a folder's ``index.jsonl``; none where there is no such file."""
    path = folder / "index.jsonl"
    if not path.is_file():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def thing(folder: Path) -> str:
    """Return what an emotion was transferred onto: "stadium" where the prompt is "a {} in a stadium"."""
    prompt = str(next(iter(read_index(folder)), {}).get("prompt", folder.name))
    words = prompt.replace("{}", " ").split()
    while words and words[0] in _LITTLE_WORDS:
        words.pop(0)
    while words and words[-1] in _LITTLE_WORDS:
        words.pop()
    return " ".join(words)


def _by_emotion(folder: Path) -> dict[str, list[Path]]:
    """Return the images of a generation by emotion, or by mixture ("awe+fear"), in the order of their seeds."""
    found: dict[str, list[Path]] = {}
    for entry in read_index(folder):
        found.setdefault("+".join(entry["weights"]), []).append(folder / entry["file"])
    return found


def _parts(folder: Path) -> list[Path]:
    """Return the generations in a cell's folder in the order in which they were made."""
    steps = folder / "steps.json"
    if steps.is_file():
        names = [step["into"] for step in json.loads(steps.read_text(encoding="utf-8"))]
        return [folder / name for name in names if (folder / name / "index.jsonl").is_file()]
    return sorted(path for path in folder.iterdir() if (path / "index.jsonl").is_file())
