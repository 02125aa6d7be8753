"""What the files of a run folder hold, as plain values; a file that cannot be read becomes a note, not an end."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

EVENTS = "events.out.tfevents.*"
INDEXES = ("index.jsonl", "kept.jsonl")  # of uniemo generate and uniemo filter


@dataclass(frozen=True)
class Series:
    """A curve: ``points`` are (step, value), finite, by step; ``seconds`` is the time from its first to its last."""

    name: str
    points: tuple[tuple[int, float], ...]
    seconds: float = 0.0


@dataclass
class Notes:
    """What could not be read, in sentences for the reader."""

    lines: list[str] = field(default_factory=list)

    def add(self, path: Path, reason: object) -> None:
        """Note a file that is left out."""
        self.lines.append(f"{path.name} is left out: {' '.join(str(reason).split())}")


def read_json(path: Path, notes: Notes) -> dict[str, Any]:
    """Return a JSON object, empty where there is no file or none that can be read."""
    return _mapping(path, notes, json.loads)


def read_yaml(path: Path, notes: Notes) -> dict[str, Any]:
    """Return a YAML mapping, empty where there is no file or none that can be read."""
    return _mapping(path, notes, yaml.safe_load)


def _mapping(path: Path, notes: Notes, parse: Any) -> dict[str, Any]:  # noqa: ANN401
    """Parse a file that holds a mapping."""
    if not path.is_file():
        return {}
    try:
        content = parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        notes.add(path, error)
        return {}
    if not isinstance(content, dict):
        notes.add(path, "it holds no names with values")
        return {}
    return content


def read_lines(path: Path, notes: Notes) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file; empty where it cannot be read."""
    if not path.is_file():
        return []
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        notes.add(path, error)
        return []
    return [row for row in rows if isinstance(row, dict)]


def read_curves(folder: Path, notes: Notes) -> dict[str, Series]:
    """Return the scalars of a folder's TensorBoard events by name.

    Steps that a resumed run logged again count once, as the later run had them.
    """
    if not any(folder.glob(EVENTS)):
        return {}
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 1})  # 0: all, 1: the last
    try:
        events.Reload()
    except (OSError, ValueError, RuntimeError) as error:
        notes.add(folder / "events", error)
        return {}
    found = {}
    for name in events.Tags()["scalars"]:
        scalars = events.Scalars(name)
        steps = {scalar.step: scalar.value for scalar in scalars if math.isfinite(scalar.value)}
        seconds = scalars[-1].wall_time - scalars[0].wall_time
        found[name] = Series(name, tuple(sorted(steps.items())), seconds)
    return found


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries that are finite numbers."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings under dotted names, as they are written on the command line."""
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def is_run(folder: Path) -> bool:
    """Whether a folder holds what a command of uniemo wrote: figures, events, a configuration or an index."""
    names = ("config.yaml", "test.json", "validate.json", "test_generation.json", *INDEXES)
    return any((folder / name).is_file() for name in names) or any(folder.glob(EVENTS))


def counts_by_emotion(rows: list[dict[str, Any]]) -> dict[str, int]:
    """Return how many rows of an index each emotion has, in the index's order."""
    return dict(Counter(str(row.get("emotion", "")) for row in rows))
