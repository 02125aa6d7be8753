"""Curves as drawings: the geometry that the template turns into SVG, so that colours follow the page's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uniemo.report.reading import Series

WIDTH, HEIGHT = 320, 170  # of the drawing, in its own units
LEFT, RIGHT, TOP, BOTTOM = 42, 10, 10, 24  # room for ticks
MOST_POINTS = 300  # more are averaged in pairs, triples …


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: ``at`` in the drawing's units."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A curve to draw.

    Attributes:
        title: what it shows.
        path: the line, an SVG path.
        dots: (x, y) of the points, where they are few enough to be told apart.
        x_ticks: steps.
        y_ticks: values.
        last: the last value, as text.
        summary: one sentence, for those who cannot see it.
        averaged: how many points stand behind each one shown.
    """

    title: str
    path: str
    dots: tuple[tuple[float, float], ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    last: str
    summary: str
    averaged: int

    width, height, left, right, top, bottom = WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM


def chart(series: Series) -> Chart:
    """Return the drawing of a curve of at least two points."""
    points, averaged = _thinned(series.points)
    steps, values = [step for step, _ in points], [value for _, value in points]
    x_marks, y_marks = _marks(min(steps), max(steps), whole=True), _marks(min(values), max(values))
    low, high = min(*values, *y_marks), max(*values, *y_marks)

    def x(step: float) -> float:
        return round(LEFT + (step - min(steps)) / (max(steps) - min(steps)) * (WIDTH - LEFT - RIGHT), 1)

    def y(value: float) -> float:
        return round(HEIGHT - BOTTOM - (value - low) / ((high - low) or 1.0) * (HEIGHT - TOP - BOTTOM), 1)

    places = tuple((x(step), y(value)) for step, value in points)
    first, last = series.points[0], series.points[-1]
    return Chart(
        title=_title(series.name),
        path="M" + " L".join(f"{across:g} {down:g}" for across, down in places),
        dots=places if len(places) <= 40 else (),
        x_ticks=tuple(Tick(x(mark), _short(mark)) for mark in x_marks if min(steps) <= mark <= max(steps)),
        y_ticks=tuple(Tick(y(mark), _short(mark)) for mark in y_marks),
        last=f"{last[1]:.4g}",
        summary=f"{_title(series.name)}: from {first[1]:.4g} at step {first[0]} to {last[1]:.4g} at step {last[0]}",
        averaged=averaged,
    )


def _title(name: str) -> str:
    """Return what a logged figure is called: "val/accuracy" is accuracy, validation."""
    group, _, rest = name.partition("/")
    return {"val": f"{rest}, validation", "loss": f"loss: {rest}"}.get(group, name).replace("_", " ")


def _thinned(points: Sequence[tuple[int, float]]) -> tuple[list[tuple[float, float]], int]:
    """Return at most MOST_POINTS points, means of neighbours where there are more, and how many each stands for."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = [(sum(step for step, _ in group) / len(group), sum(v for _, v in group) / len(group)) for group in groups]
    return means, size


def _marks(low: float, high: float, whole: bool = False) -> list[float]:
    """Return a few round numbers from about ``low`` to about ``high``."""
    from matplotlib.ticker import MaxNLocator

    return [float(mark) for mark in MaxNLocator(nbins=4, integer=whole).tick_values(low, high)]


def _short(value: float) -> str:
    """Return a number for an axis: 12, 0.25, 5k."""
    value = 0.0 if abs(value) < 1e-12 else value
    return f"{value / 1000:g}k" if abs(value) >= 10_000 else f"{value:.4g}"
