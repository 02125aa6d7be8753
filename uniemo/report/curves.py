"""Curves of a run's TensorBoard events, plotted as SVG."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uniemo.report.page import data_uri
from uniemo.studies.run_files import Notes

EVENTS = "events.out.tfevents.*"
MOST_POINTS = 300  # more are averaged in pairs, triples …
_LINE, _AXES = "#3a78c9", "#858e99"  # readable on light and dark pages


@dataclass(frozen=True)
class Curve:
    """A logged scalar: ``points`` are (step, value), finite, by step; ``seconds`` is the time from first to last."""

    name: str
    points: tuple[tuple[int, float], ...]
    seconds: float = 0.0


@dataclass(frozen=True)
class Chart:
    """A plotted curve.

    Attributes:
        title: what it shows.
        uri: holds the SVG.
        last: the last value, as text.
        summary: one sentence, for those who cannot see it.
        averaged: how many points stand behind each one shown.
    """

    title: str
    uri: str
    last: str
    summary: str
    averaged: int


def read_curves(folder: Path, notes: Notes) -> dict[str, Curve]:
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
        found[name] = Curve(name, tuple(sorted(steps.items())), scalars[-1].wall_time - scalars[0].wall_time)
    return found


def charts(curves: Mapping[str, Curve]) -> list[Chart]:
    """Plot the curves that are worth it: validation metrics over all emotions, losses, then others."""

    def order(name: str) -> tuple[int, bool, str]:
        group = 0 if name.startswith("val/") else 1 if name.startswith("loss/") else 2
        return group, name not in ("val/accuracy", "loss/total"), name

    names = [name for name, curve in curves.items() if len(curve.points) > 1 and name.count("/") < 2]
    return [chart(curves[name]) for name in sorted(names, key=order) if name != "epoch"]


def chart(curve: Curve) -> Chart:
    """Plot a curve of at least two points."""
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    group, _, rest = curve.name.partition("/")
    title = {"val": f"{rest}, validation", "loss": f"loss: {rest}"}.get(group, curve.name).replace("_", " ")
    points, averaged = thinned(curve.points)
    figure = Figure(figsize=(3.2, 1.7), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*zip(*points, strict=True), color=_LINE, linewidth=1.5, marker="o" if len(points) <= 40 else "", ms=3)
    axes.spines[:].set_visible(False)
    axes.grid(axis="y", color=_AXES, alpha=0.3)
    axes.tick_params(colors=_AXES, labelsize=8, length=0)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "uniemo", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    first, last = curve.points[0], curve.points[-1]
    summary = f"{title}: from {first[1]:.4g} at step {first[0]} to {last[1]:.4g} at step {last[0]}"
    return Chart(title, data_uri(buffer.getvalue(), "svg+xml"), f"{last[1]:.4g}", summary, averaged)


def thinned(points: Sequence[tuple[int, float]]) -> tuple[list[tuple[float, float]], int]:
    """Return at most MOST_POINTS points, means of neighbours where there are more, and how many each stands for."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[start : start + size] for start in range(0, len(points), size)]
    means = [(sum(step for step, _ in group) / len(group), sum(v for _, v in group) / len(group)) for group in groups]
    return means, size
