"""Pieces of a run's page, each read from the files that one command writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniemo.report.figures import Table
from uniemo.report.pictures import Picture, embed
from uniemo.report.reading import Notes, Series, counts_by_emotion, flat, read_json, read_lines

SPLITS = {"test": "test", "validate": "val"}  # command: how its figures begin
SPLIT_NAMES = {"test": "test", "val": "validation"}
ENVIRONMENT = "_environment.json"  # behind the command's name
_MAIN_SETTINGS = (  # of config.yaml, as far as they are there: what tells runs apart at first sight
    *("model.class_path", "model.init_args.init_from", "model.init_args.encoder.clip"),
    *("model.init_args.encoder.queries", "model.init_args.encoder.query_length", "model.init_args.fusion.tokens"),
    *("model.init_args.fusion.correlation", "model.init_args.condition.kind", "model.init_args.diffusion.path"),
    *("data.class_path", "data.init_args.root", "data.init_args.image_size", "data.init_args.diffusion_size"),
    *("data.init_args.batch_size", "data.init_args.generated", "data.init_args.proportion"),
    *("trainer.max_epochs", "trainer.precision", "seed_everything"),
)
_EPOCH = re.compile(r"(?P<stem>.+)_epoch(?P<epoch>\d+)")
_TITLES = {"generated": "Generated images", "attention": "Attention of the scene and object queries"}
_SHOWN_SETTINGS = ("prompt", "space", "steps", "guidance", "scheduler", "checkpoint", "network")  # of an index


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: ``shares`` of each row in [0, 1], None where the row is empty, and ``counts``."""

    title: str
    names: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    counts: tuple[tuple[int, ...], ...]
    note: str


def matrix(folder: Path, command: str, mapping: str, notes: Notes) -> Matrix | None:
    """Return what a command took for what.

    Args:
        folder: of the run.
        command: ``test`` or ``validate``.
        mapping: how the model's classes became the data's, where they differ.
        notes: for a file that cannot be read.
    """
    path = folder / f"{command}_confusion.json"
    content = read_json(path, notes)
    if not content:
        return None
    try:
        names = tuple(str(name) for name in content["emotions"])
        counts = tuple(tuple(int(count) for count in row) for row in content["counts"])
    except (KeyError, TypeError, ValueError) as error:
        notes.add(path, repr(error))
        return None
    if len(counts) != len(names) or any(len(row) != len(names) for row in counts):
        notes.add(path, f"it has {len(names)} emotions but not as many rows and columns")
        return None
    shares = tuple(tuple(count / sum(row) if sum(row) else None for count in row) for row in counts)
    images = sum(map(sum, counts))
    note = f"{images} images. Rows are labels, columns answers, numbers percent of the row. {mapping}"
    return Matrix(f"Confusion on the {SPLIT_NAMES[SPLITS[command]]} split", names, shares, counts, note.strip())


def in_order(curves: Mapping[str, Series]) -> list[Series]:
    """Return the curves that are worth a chart: losses, validation figures over all emotions, then others."""

    def place(name: str) -> tuple[int, int, str]:
        group = 0 if name.startswith("val/") else 1 if name.startswith("loss/") else 2
        return group, name not in ("val/accuracy", "loss/total"), name

    names = [name for name, series in curves.items() if len(series.points) > 1 and name != "epoch"]
    return [curves[name] for name in sorted((name for name in names if name.count("/") < 2), key=place)]


def last_values(curves: Mapping[str, Series], prefix: str) -> dict[str, float]:
    """Return the last value of each curve whose name begins with ``prefix``, without it."""
    return {
        name.removeprefix(prefix): series.points[-1][1]
        for name, series in curves.items()
        if name.startswith(prefix) and series.points
    }


def pictures(folder: Path, notes: Notes) -> list[Picture]:
    """Return a run's pictures: grids and attention maps, of several epochs the last."""
    found: dict[str, list[tuple[int, Path]]] = {}
    for path in sorted((folder / "images").glob("*.png")):
        match = _EPOCH.fullmatch(path.stem)
        stem, epoch = (match["stem"], int(match["epoch"])) if match else (path.stem, -1)
        found.setdefault(stem, []).append((epoch, path))
    shown = []
    for stem, versions in found.items():
        epoch, path = max(versions)
        note = f"After epoch {epoch + 1}." if epoch >= 0 else ""
        if len(versions) > 1:
            note += f" Those of {len(versions) - 1} earlier epochs are in images/."
        shown.append(embed(path, _picture_title(stem), notes, note))
    if (folder / "grid.png").is_file():
        shown.append(embed(folder / "grid.png", "The first images of each emotion", notes))
    return [picture for picture in shown if picture is not None]


def _picture_title(stem: str) -> str:
    """Return the title of ``val_generated`` and the like."""
    split, _, kind = stem.partition("_")
    if split in SPLIT_NAMES and kind in _TITLES:
        return f"{_TITLES[kind]}, {SPLIT_NAMES[split]}"
    return stem.replace("_", " ")


def index_table(path: Path, title: str, notes: Notes) -> Table | None:
    """Return how many images of each emotion an index holds, and how they were made."""
    rows = read_lines(path, notes)
    if not rows:
        return None
    scores = [(key, text) for key, text in (("emo_a", "mean Emo-A"), ("sem_c", "mean Sem-C")) if key in rows[0]]
    lines = []
    for emotion, count in counts_by_emotion(rows).items():
        means = [_mean([row.get(key) for row in rows if row.get("emotion") == emotion]) for key, _ in scores]
        lines.append((emotion, str(count), *means))
    settings = [f"{name} {rows[0][name]}" for name in _SHOWN_SETTINGS if rows[0].get(name) is not None]
    note = f"{len(rows)} images; {', '.join(settings)}."
    return Table(title, ("emotion", "images", *(text for _, text in scores)), tuple(lines), note)


def _mean(values: Sequence[Any]) -> str:
    """Return the mean of the numbers among some values as text."""
    found = [float(value) for value in values if isinstance(value, (int, float))]
    return f"{sum(found) / len(found):.3f}" if found else "–"


def main_settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the settings that tell runs apart, named as on the command line."""
    values = dict(flat(config))
    if values.get("data.init_args.generated") is None:
        values.pop("data.init_args.proportion", None)  # of what is not there
    return [
        (name.replace(".init_args.", ".").removesuffix(".class_path"), as_text(values[name]))
        for name in _MAIN_SETTINGS
        if values.get(name) is not None
    ]


def environment(folder: Path, curves: Mapping[str, Series], notes: Notes) -> list[tuple[str, str]]:
    """Return where and for how long the commands ran, as they wrote it down; else what the curves tell."""
    facts = []
    for path in sorted(folder.glob(f"*{ENVIRONMENT}")):
        command = path.name.removesuffix(ENVIRONMENT)
        for name, value in read_json(path, notes).items():
            if name == "seconds" and isinstance(value, (int, float)):
                name, value = "time", duration(value)
            facts.append((f"{command}: {name}", as_text(value)))
    longest = max((series.seconds for series in curves.values()), default=0.0)
    if longest > 0 and not facts:
        facts.append(("from the first to the last logged value", duration(longest)))
    if "epoch" in curves and curves["epoch"].points[-1][0] > 0:
        step, epoch = curves["epoch"].points[-1]
        facts.append(("logged to", f"step {step}, epoch {int(epoch) + 1}"))
    return facts


def as_text(value: Any) -> str:  # noqa: ANN401
    """Return a setting as a reader would write it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)


def duration(seconds: float) -> str:
    """Return a time span in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
