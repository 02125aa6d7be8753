"""Figures plotted from measured metrics, as PNG and PDF."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from uniemo.cache import atomic_write
from uniemo.studies.cells import Setting
from uniemo.studies.measured import Measured, Measurements
from uniemo.studies.study import Study

_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")  # Okabe and Ito: distinct to all eyes
_WIDTH = 0.8  # of a group of points


def plot_study(study: Study, measurements: Measurements, setting: Setting, stem: Path) -> list[Path]:
    """Plot a study: one line or colour for each ``lines``, ``x`` along the axis, spread as error bars.

    Returns:
        The files, none where nothing was measured.
    """
    from matplotlib.figure import Figure

    column, points = study.column(study.plot["metric"]), study.plot["kind"] == "points"
    rows = [row for row in study.rows if (row.name, column.name) in measurements]
    if not rows:
        return []
    values = {
        (getattr(row, study.plot["lines"]), getattr(row, study.plot["x"])): measurements[row.name, column.name]
        for row in rows
    }
    names, places = list(dict.fromkeys(name for name, _ in values)), list(dict.fromkeys(place for _, place in values))
    figure = Figure(figsize=(6.4, 4.0), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    for number, name in enumerate(names):
        known = [(position, values[name, place]) for position, place in enumerate(places) if (name, place) in values]
        shift = (number - (len(names) - 1) / 2) * _WIDTH / len(names) if points else 0.0
        at, means = [position + shift for position, _ in known], [value.mean for _, value in known]
        errors = [math.nan if value.spread is None else value.spread for _, value in known]
        # no bars: their lengths would mislead on an axis that is cut
        form: dict[str, Any] = {"fmt": "o", "markersize": 8, "capsize": 4} if points else {"marker": "o", "capsize": 3}
        axes.errorbar(at, means, yerr=errors, label=name, color=_COLOURS[number % len(_COLOURS)], **form)
        for middle, (_, value) in zip(at, known if points else (), strict=points):
            text = f"{value.mean:.1f} ({len(value.by_seed)})"
            axes.annotate(text, (middle, value.mean), (9, 0), textcoords="offset points", va="center", fontsize=8)
    if points:
        axes.set_xlim(-0.6, len(places) - 0.4)
    one_clip = setting.scale == "miniature" and study.plot["x"] == "note" and len(places) == 1
    axes.set_xticks(range(len(places)), ["the miniature's CLIP"] if one_clip else places)
    axes.set_xlabel(study.plot.get("xlabel", ""))
    axes.set_ylabel(f"{column.name}{' [%]' if column.percent else ''}, axis cut")
    axes.set_ylim(*_limits(list(values.values())))
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(study.title, fontsize=10)
    if len(names) > 1:
        figure.legend(frameon=False, loc="outside lower center", ncols=len(names))
    files = [stem.with_suffix(ending) for ending in (".png", ".pdf")]
    for file in files:
        undated = {"CreationDate": None} if file.suffix == ".pdf" else None  # equal metrics give equal files
        with atomic_write(file) as path:
            figure.savefig(path, metadata=undated)
    return files


def _limits(values: list[Measured]) -> tuple[float, float]:
    """Return the ends of the axis, cut so that differences can be seen."""
    low = min(value.mean - (value.spread or 0.0) for value in values)
    high = max(value.mean + (value.spread or 0.0) for value in values)
    margin = max(0.25 * (high - low), 0.01 * abs(high), 1e-6)
    return low - 2 * margin, high + margin
