"""Figures drawn from measured numbers, as PNG and PDF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uniemo.cache import atomic_write
from uniemo.studies.cells import Setting
from uniemo.studies.measured import Measured, Table
from uniemo.studies.study import Row, Study

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FORMATS = ("png", "pdf")
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # Okabe and Ito: told apart by all eyes
_WIDTH = 0.8  # of a group of points


def draw(study: Study, table: Table, setting: Setting, stem: Path) -> list[Path]:
    """Draw a study's plot: one line or colour for each ``lines``, ``x`` along the axis, spread as error bars.

    Args:
        study: with ``plot``.
        table: what was measured; rows without a figure are left out.
        setting: scale and extent.
        stem: path without its ending.

    Returns:
        The files, none where nothing was measured.
    """
    column = study.column(study.plot["figure"])
    rows = [row for row in study.rows if (row.name, column.name) in table]
    if not rows:
        return []
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    values = {(_of(row, study.plot["lines"]), _of(row, study.plot["x"])): table[row.name, column.name] for row in rows}
    lines, places = (list(dict.fromkeys(_of(row, study.plot[key]) for row in rows)) for key in ("lines", "x"))
    (_points if study.plot["kind"] == "points" else _curves)(axes, values, lines, places)
    if setting.scale == "miniature" and study.plot["x"] == "note" and len(places) == 1:
        axes.set_xticks([0], ["the miniature's CLIP"])
    else:
        axes.set_xticks(range(len(places)), places)
    axes.set_xlabel(study.plot.get("xlabel", ""))
    axes.set_ylabel(f"{column.name}{' [%]' if column.percent else ''}, axis cut")
    axes.set_ylim(*_limits(list(values.values())))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(study.title, fontsize=10)
    if len(lines) > 1:
        figure.legend(frameon=False, loc="outside lower center", ncols=len(lines))
    files = [stem.with_suffix(f".{ending}") for ending in FORMATS]
    for file in files:
        dated: dict[str, Any] = {"metadata": {"CreationDate": None}} if file.suffix == ".pdf" else {}
        with atomic_write(file) as path:
            figure.savefig(path, **dated)  # equal numbers give equal files
    return files


def _of(row: Row, part: str) -> str:
    """Return a row's label or note."""
    return row.label if part == "label" else row.note


def _points(axes: Axes, values: dict[tuple[str, str], Measured], lines: list[str], places: list[str]) -> None:
    """Draw groups of points, the number beside each; no bars, whose lengths would mislead on an axis that is cut."""
    step = _WIDTH / len(lines)
    for number, line in enumerate(lines):
        known = [(position, values[line, place]) for position, place in enumerate(places) if (line, place) in values]
        at = [position + (number - (len(lines) - 1) / 2) * step for position, _ in known]
        means = [value.mean for _, value in known]
        errors = [math.nan if value.spread is None else value.spread for _, value in known]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.errorbar(at, means, yerr=errors, fmt="o", markersize=8, capsize=4, label=line, color=colour)
        for middle, (_, value) in zip(at, known, strict=True):
            text = f"{value.mean:.1f} ({len(value.by_seed)})"
            axes.annotate(text, (middle, value.mean), (9, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set_xlim(-0.6, len(places) - 0.4)


def _curves(axes: Axes, values: dict[tuple[str, str], Measured], lines: list[str], places: list[str]) -> None:
    """Draw a line for each, with error bars where there are several seeds."""
    for number, line in enumerate(lines):
        known = [(position, values[line, place]) for position, place in enumerate(places) if (line, place) in values]
        at, heights = [position for position, _ in known], [value.mean for _, value in known]
        errors = [math.nan if value.spread is None else value.spread for _, value in known]
        colour = _COLOURS[number % len(_COLOURS)]
        axes.errorbar(at, heights, yerr=errors, marker="o", capsize=3, label=line, color=colour)


def _limits(values: list[Measured]) -> tuple[float, float]:
    """Return the axis' ends: what differs should be seen, so it is cut, as its label says."""
    low = min(value.mean - (value.spread or 0.0) for value in values)
    high = max(value.mean + (value.spread or 0.0) for value in values)
    margin = max(0.25 * (high - low), 0.01 * abs(high), 1e-6)
    return low - 2 * margin, high + margin
