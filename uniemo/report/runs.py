"""A run folder, or a folder of runs, arranged for a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uniemo.errors import UniEmoError
from uniemo.report import figures as figure
from uniemo.report import parts
from uniemo.report.charts import Chart, chart
from uniemo.report.figures import Table, Tile
from uniemo.report.pictures import Picture, embed
from uniemo.report.reading import Notes, Series, is_run, numbers, read_curves, read_json, read_yaml
from uniemo.studies.work import WorkFolder

_INDEXES = {"index.jsonl": "Drawn by uniemo generate", "kept.jsonl": "Kept by uniemo filter"}
_DRAWN = {  # of test_generation.json; null is the checkpoint's own choice
    "images_per_emotion": "images drawn of each emotion",
    "steps": "denoising steps",
    "guidance": "guidance",
    "space": "emotion space",
}


@dataclass
class RunPage:
    """One run in a page; what its folder does not hold is empty.

    Attributes:
        name: heading.
        anchor: for links within the page.
        lead: one line that says what it is.
        figures: those of tiles and comparison, without the split's name.
        source: where they come from.
        networks: that figures of images were measured with.
        configuration: the whole config.yaml.
    """

    name: str
    anchor: str
    lead: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    source: str = ""
    networks: list[str] = field(default_factory=list)
    tiles: list[Tile] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    matrices: list[parts.Matrix] = field(default_factory=list)
    charts: list[Chart] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)
    configuration: str = ""
    facts: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunsPage:
    """Runs of one folder; ``comparison`` where there are several, ``pictures`` that lie beside them."""

    title: str
    path: str
    runs: list[RunPage]
    comparison: Table | None
    pictures: list[Picture]


def read_runs(folder: Path) -> RunsPage:
    """Read a run folder, or a folder whose folders are runs.

    Raises:
        UniEmoError: it is neither.
    """
    inside = [path for path in sorted(folder.iterdir()) if path.is_dir() and is_run(path)]
    inside.sort(key=lambda path: max(file.stat().st_mtime for file in path.iterdir()))  # in the order of their making
    found = [folder, *inside] if is_run(folder) else inside
    if not found and WorkFolder(folder).cells.is_dir():
        raise UniEmoError(
            f"RUN must be a run's folder; {folder} is the work folder of uniemo reproduce: give the name of a study, "
            f"or all, with --work {folder}"
        )
    if not found:
        raise UniEmoError(
            f"RUN must be a folder that uniemo fit, test, generate or filter wrote, or a folder of such; {folder} "
            "holds no figures, events, configuration or index: give for example runs/joint"
        )
    runs = [read_run(path, path.resolve().name, f"run-{place}") for place, path in enumerate(found, 1)]
    beside = [] if is_run(folder) else [embed(path, path.stem, Notes()) for path in sorted(folder.glob("*.png"))]
    return RunsPage(
        title=folder.resolve().name,
        path=str(folder),
        runs=runs,
        comparison=figure.comparison([(run.name, run.source, run.figures) for run in runs]),
        pictures=[picture for picture in beside if picture is not None],
    )


def read_run(folder: Path, name: str, anchor: str) -> RunPage:
    """Read one run folder: what uniemo fit, validate, test, generate or filter wrote.

    Args:
        folder: of the run.
        name: heading.
        anchor: name for links.
    """
    notes = Notes()
    config, curves = read_yaml(folder / "config.yaml", notes), read_curves(folder, notes)
    page = RunPage(name, anchor)
    _add_figures(page, folder, curves, notes)
    page.charts = [chart(series) for series in parts.in_order(curves)]
    page.pictures = parts.pictures(folder, notes)
    for file, title in _INDEXES.items():
        table = parts.index_table(folder / file, title, notes)
        page.tables += [] if table is None else [table]
    page.settings = parts.main_settings(config)
    if config:
        page.configuration = (folder / "config.yaml").read_text(encoding="utf-8")
    page.facts += parts.environment(folder, curves, notes)
    page.lead = _lead(page, config)
    page.notes = notes.lines
    return page


def _add_figures(page: RunPage, folder: Path, curves: Mapping[str, Series], notes: Notes) -> None:
    """Add tiles, tables and matrices: those of the test, else of a validation, else of the last epoch's validation."""
    emotions: tuple[str, ...] = ()
    for command, split in parts.SPLITS.items():
        content = read_json(folder / f"{command}.json", notes)
        matrix = parts.matrix(folder, command, str(content.get("label_map", "")), notes)
        if matrix is not None:
            page.matrices.append(matrix)
            emotions = emotions or matrix.names
        values = figure.without(numbers(content), f"{split}/")
        if values and not page.figures:
            page.figures, page.source = values, f"{parts.SPLIT_NAMES[split]} split"
    if not page.figures:
        page.figures = parts.last_values(curves, "val/")
        page.source = "last validation" if page.figures else ""
    generation = read_json(folder / "test_generation.json", notes)
    sides = {side: numbers(generation.get(side) or {}) for side in ("generated", "real")}
    page.figures = {**sides["generated"], **page.figures}
    real = {**sides["real"], **figure.without(page.figures, "real/")}
    page.tiles = figure.tiles(page.figures, real)
    page.networks = figure.networks(page.figures)
    tables = (figure.by_emotion(page.figures, emotions), figure.attention(page.figures))
    page.tables += [table for table in tables if table is not None]
    page.facts += [(name, parts.as_text(generation[key])) for key, name in _DRAWN.items() if generation.get(key)]


def _lead(page: RunPage, config: Mapping[str, Any]) -> str:
    """Return one line about a run: module, data, where its figures come from."""
    classes = [str((config.get(part) or {}).get("class_path", "")).rpartition(".")[2] for part in ("model", "data")]
    words = [" on ".join(filter(None, classes))]
    words += [f"figures of the {page.source}" if page.source else ""]
    words += [f"networks behind the figures of images: {', '.join(page.networks)}" if page.networks else ""]
    text = "; ".join(filter(None, words))
    return f"{text[:1].upper()}{text[1:]}." if text else ""
