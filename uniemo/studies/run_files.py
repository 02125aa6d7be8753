"""Read the files that other commands write; what cannot be read becomes a note instead of an error."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uniemo.metrics.result_table import network_names
from uniemo.text_files import parse_lines, read_json, read_yaml


@dataclass
class Notes:
    """What could not be read, in sentences for the reader of a page."""

    lines: list[str] = field(default_factory=list)

    def add(self, path: Path, reason: object) -> None:
        """Note a file that is left out."""
        self.lines.append(f"{path.name} is left out: {' '.join(str(reason).split())}")


def read_mapping(path: Path, notes: Notes | None = None) -> dict[str, Any]:
    """Return what a JSON or YAML file holds by name; empty where there is no file or none that can be read."""
    notes = notes or Notes()
    if not path.is_file():
        return {}
    try:
        content = (read_json if path.suffix == ".json" else read_yaml)(path)
    except (OSError, ValueError) as error:
        notes.add(path, error)
        return {}
    if not isinstance(content, dict):
        notes.add(path, "it holds no names with values")
        return {}
    return content


def read_lines(path: Path, notes: Notes | None = None) -> list[dict[str, Any]]:
    """Return the objects of a JSON Lines file; lines that hold none, such as half a line, are left out."""
    notes = notes or Notes()
    if not path.is_file():
        return []
    rows = []
    for number, row in parse_lines(path.read_text(encoding="utf-8", errors="replace")):
        if isinstance(row, ValueError):
            notes.add(path.with_name(f"{path.name}, line {number},"), row)
        else:
            rows.append(row)
    return rows


def read_metrics(folder: Path, command: str = "test", notes: Notes | None = None) -> dict[str, float]:
    """Return the metrics that ``uniemo test`` or ``validate`` left in a run folder, empty where it left none."""
    return numbers(read_mapping(folder / f"{command}.json", notes))


def read_evaluation(folder: Path) -> dict[str, float]:
    """Return the metrics of ``result.json`` of ``uniemo evaluate``, named as those of test.json.

    They are ``test/FID[network]`` of the folder ``strict``, which is the protocol of tests, and
    ``test/emogen/FID[network]`` of any other folder, ``emogen`` for example.
    """
    prefix = "test/" if folder.name == "strict" else f"test/{folder.name}/"
    found = {}
    for protocol in read_mapping(folder / "result.json").get("protocols", {}).values():
        for name, score in protocol["figures"].items():
            found[f"{prefix}{name}[{network_names(score['networks'])}]"] = score["value"]
    return numbers(found)


def numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the entries that are finite numbers."""
    return {
        name: float(value)
        for name, value in values.items()
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    }
