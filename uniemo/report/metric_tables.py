"""Metrics by name: how they are called, formatted and ordered, and tables of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uniemo.report.page import Table
from uniemo.studies.run_files import Notes, read_mapping

# metric: (digits, whether it is a share and shown in percent, which side is better)
_FORMS: dict[str, tuple[int, bool, str]] = {
    "accuracy": (2, True, "↑"),
    "balanced_accuracy": (2, True, "↑"),
    **dict.fromkeys(("chebyshev", "clark", "canberra", "kl"), (4, False, "↓")),
    **dict.fromkeys(("cosine", "intersection"), (4, False, "↑")),
    "Emo-A": (2, True, "↑"),
    "Emo-A probability": (2, True, "↑"),
    "FID": (2, False, "↓"),
    "LPIPS": (3, False, "↑"),
    "Sem-C": (3, False, "↑"),
    "Sem-D": (4, False, "↑"),
    "coverage": (1, True, ""),
    **dict.fromkeys(("ccc_valence", "ccc_arousal"), (3, False, "↑")),
    **dict.fromkeys(("rmse_valence", "rmse_arousal"), (3, False, "↓")),
}
_LABELS = {
    **{"balanced_accuracy": "balanced accuracy", "kl": "KL"},
    **{f"{name.lower()}_{axis}": f"{name} {axis}" for name in ("CCC", "RMSE") for axis in ("valence", "arousal")},
}
_SAME = 1e-6  # shares that differ by less are the same
SPLITS = {"test": "test", "validate": "val"}  # command: how its metrics begin
SPLIT_NAMES = {"test": "test", "val": "validation"}
HEADLINES = (
    *("accuracy", "balanced_accuracy", "chebyshev", "clark", "canberra", "kl", "cosine", "intersection"),
    *("ccc_valence", "ccc_arousal", "rmse_valence", "rmse_arousal"),
    *("Emo-A", "FID", "LPIPS", "Sem-C", "Sem-D"),
)
_NAME = re.compile(r"(?P<metric>[^\[/]+)(?:\[(?P<network>[^\]]*)\])?(?:/(?P<part>.+))?")


@dataclass(frozen=True)
class Name:
    """A metric's name in parts: ``Emo-A[miniature-clip]/awe`` is (Emo-A, miniature-clip, awe)."""

    metric: str
    network: str
    part: str


@dataclass(frozen=True)
class Tile:
    """A metric shown large."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: ``shares`` of each row in [0, 1], None where the row is empty, and ``counts``."""

    title: str
    names: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    counts: tuple[tuple[int, ...], ...]
    note: str


def parse(name: str) -> Name:
    """Split a metric's name; a name of another form is a metric of its own."""
    match = _NAME.fullmatch(name)
    return Name(match["metric"], match["network"] or "", match["part"] or "") if match else Name(name, "", "")


def label(metric: str, unit: bool = False) -> str:
    """Return a metric's label, with an arrow to its better side and, on request, its unit."""
    _, share, arrow = _FORMS.get(metric, (0, False, ""))
    return " ".join(filter(None, (_LABELS.get(metric, metric), "%" if share and unit else "", arrow)))


def shown(metric: str, value: float | None, unit: bool = False) -> str:
    """Return a value as text, on request with its unit; a dash for none."""
    if value is None:
        return "–"
    if metric not in _FORMS:
        return f"{value:.4g}"
    digits, share, _ = _FORMS[metric]
    number = round(100 * value, 4) if share else value  # float32 shares: 0.8837500 and 0.8837499 are both 88.38 %
    return f"{number:.{digits}f}{' %' if share and unit else ''}"


def without(metrics: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Return the metrics whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in metrics.items() if name.startswith(prefix)}


def overall(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the headline metrics over all emotions; the balanced accuracy where it differs from the accuracy."""
    found = {parse(name).metric: value for name, value in metrics.items() if not parse(name).part}
    if abs(found.get("accuracy", 0.0) - found.get("balanced_accuracy", 1.0)) < _SAME:  # classes of one size
        del found["balanced_accuracy"]
    return {metric: found[metric] for metric in HEADLINES if metric in found}


def networks(metrics: Iterable[str]) -> list[str]:
    """Return the networks that metrics were measured with."""
    return list(dict.fromkeys(parse(name).network for name in metrics if parse(name).network))


def tiles(metrics: Mapping[str, float], real: Mapping[str, float]) -> list[Tile]:
    """Return the headline metrics, real images' below generated ones'; names as in test.json without "test/"."""
    notes = {metric: f"real {shown(metric, value, True)}" for metric, value in overall(real).items()}
    own = overall(metrics)
    return [Tile(label(metric), shown(metric, value, True), notes.get(metric, "")) for metric, value in own.items()]


def attention(metrics: Mapping[str, float]) -> Table | None:
    """Return how much of the queries' attention lies where the mask of the image says that the object is."""
    shares = without(metrics, "coverage/")
    names = {name: f"{name} queries" for name in shares if name != "area"}
    if not names:
        return None
    names["area"] = "attention that is the same everywhere"
    rows = tuple((text, shown("coverage", shares[name], True)) for name, text in names.items() if name in shares)
    return Table("Attention inside the masks", ("", "share"), rows, "The mask says where the object is.")


def by_emotion(metrics: Mapping[str, float], emotions: Sequence[str] = ()) -> Table | None:
    """Return the metrics of single emotions, a row each; None where there are none."""
    cells: dict[str, dict[str, float]] = {}
    for name, value in metrics.items():
        parts = parse(name)
        if parts.part and parts.metric in HEADLINES and "/" not in parts.part:
            cells.setdefault(parts.part, {})[parts.metric] = value
    rows = [*(name for name in emotions if name in cells), *(name for name in cells if name not in emotions)]
    return _table("By emotion", "emotion", {row: cells[row] for row in rows}) if cells else None


def comparison(runs: Sequence[tuple[str, str, Mapping[str, float]]]) -> Table | None:
    """Return the headline metrics of several runs, a row each; None where fewer than two have any."""
    found = [(name, source, overall(metrics)) for name, source, metrics in runs if overall(metrics)]
    if len(found) < 2:
        return None
    table = _table("At a glance", "run", {str(place): metrics for place, (_, _, metrics) in enumerate(found)})
    rows = zip(found, table.rows, strict=True)
    lines = tuple((name, *values, source) for (name, source, _), (_, *values) in rows)
    return Table(table.title, (*table.columns, "metrics of"), lines)


def _table(title: str, first: str, rows: Mapping[str, Mapping[str, float]]) -> Table:
    """Return the headline metrics that any row has, a column each."""
    columns = [metric for metric in HEADLINES if any(metric in values for values in rows.values())]
    lines = tuple((row, *(shown(metric, values.get(metric)) for metric in columns)) for row, values in rows.items())
    return Table(title, (first, *(label(metric, unit=True) for metric in columns)), lines)


def confusion(folder: Path, command: str, notes: Notes) -> list[Matrix]:
    """Return the confusion matrix that a command left in a run folder; none where there is none that can be read."""
    path = folder / f"{command}_confusion.json"
    content = read_mapping(path, notes)
    if not content:
        return []
    try:
        names = tuple(str(name) for name in content["emotions"])
        counts = tuple(tuple(int(count) for count in row) for row in content["counts"])
        if [len(names)] * len(names) != [len(row) for row in counts]:
            raise ValueError(f"it has {len(names)} emotions but not as many rows and columns")
    except (KeyError, TypeError, ValueError) as error:
        notes.add(path, error)
        return []
    shares = tuple(tuple(count / sum(row) if sum(row) else None for count in row) for row in counts)
    note = f"{sum(map(sum, counts))} images. Rows are labels, columns predictions, numbers percent of the row."
    note = f"{note} {content.get('label_map', '')}".strip()
    return [Matrix(f"Confusion on the {SPLIT_NAMES[SPLITS[command]]} split", names, shares, counts, note)]
