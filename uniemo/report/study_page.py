"""A study arranged for a page: its table, its picture, what came of its claims, and the cells behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from uniemo.report.page import Picture, Table, embed
from uniemo.report.run_page import RunPage, duration, is_run, read_run
from uniemo.studies import tables
from uniemo.studies.cells import Cell, Setting, cells_of_row, with_parents
from uniemo.studies.claims import Claim, claims_of
from uniemo.studies.measured import Measurements, measured
from uniemo.studies.run_files import Notes
from uniemo.studies.study import Study
from uniemo.studies.study_files import with_packaged
from uniemo.studies.tables import Entry, Line
from uniemo.studies.work import Result, WorkFolder


@dataclass
class StudyPage:
    """A study in a page; what has not been measured is empty.

    Attributes:
        heading: of the table.
        lines: of the table.
        notes: below it.
        claims: each with a table of its comparisons.
        missing: names of the rows without a result.
        cells: of the rows and what they need.
        runs: their trainings and tests of the first seed, as far as the folders are there.
    """

    study: Study
    heading: list[Entry] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    picture: Picture | None = None
    claims: list[tuple[Claim, Table]] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    cells: Table | None = None
    runs: list[RunPage] = field(default_factory=list)


def read_study_pages(
    studies: Sequence[Study], setting: Setting, work: WorkFolder, with_runs: bool = True
) -> list[StudyPage]:
    """Collect what there is of studies; their claims are corrected for the number of all, as in RESULTS.md."""
    results = work.results()
    found = {study.name: (study, measured(study, setting, results)) for study in with_packaged(studies)}
    claims = claims_of(list(found.values()))
    return [_page(*found[study.name], claims[study.name], setting, work, results, with_runs) for study in studies]


def _page(
    study: Study,
    measurements: Measurements,
    claims: Sequence[Claim],
    setting: Setting,
    work: WorkFolder,
    results: Mapping[str, Result],
    with_runs: bool,
) -> StudyPage:
    """Collect what there is of a study."""
    notes = Notes()
    page = StudyPage(study, notes=[study.remarks] if study.remarks else [])
    if study.columns:
        page.heading, page.lines = tables.heading(study, measurements), tables.lines(study, measurements)
        page.notes = tables.notes(study, measurements, setting)
    picture = work.output(setting) / f"{study.name}.png"
    page.picture = embed(picture, study.title, notes) if picture.is_file() else None
    page.claims = [(claim, _comparisons(claim)) for claim in claims]
    done, page.missing = _cells(study, setting, results)
    page.cells = _cell_table(done, results) if done else None
    page.runs = _runs(study, setting, work) if with_runs else []
    page.notes += [f"{note}." for note in notes.lines]
    return page


def _comparisons(claim: Claim) -> Table:
    """Return the comparisons of a claim."""
    rows = tuple(
        (
            f"{one.better} against {one.than}",
            one.column,
            one.gain or "–",
            "–" if one.in_paper is None else f"{one.in_paper:+.4g}",
        )
        for one in claim.comparisons
    )
    return Table(claim.text, ("comparison", "metric", "gain here", "in the paper"), rows)


def _cells(study: Study, setting: Setting, results: Mapping[str, Result]) -> tuple[list[Cell], list[str]]:
    """Return the cells that have a result, with those that they needed, and the names of rows of which none has."""
    seeds = sorted({int(result["seed"]) for result in results.values()}) or [0]
    wanted, missing = [], []
    for row in study.rows:
        cells = [cell for seed in seeds for cell in cells_of_row(study, row, seed, setting)]
        found = [cell for cell in cells if cell.hash in results]
        wanted += found
        missing += [row.name] if cells and not found else []
    return [cell for cell in with_parents(wanted) if cell.hash in results], missing


def _cell_table(cells: list[Cell], results: Mapping[str, Result]) -> Table:
    """Return what was run for a study."""
    rows = []
    for cell in cells:
        result = results[cell.hash]
        spent, memory = duration(float(result["seconds"])), f"{result['peak_memory'] / 2**30:.1f} GiB"
        rows.append((cell.title, spent, memory, str(result["started"])[:16], str(result["commit"]), cell.hash))
    total = duration(sum(float(results[cell.hash]["seconds"]) for cell in cells))
    columns = ("cell", "time", "memory", "started", "commit", "folder in cells/")
    return Table(f"{len(cells)} cells, {total} of commands", columns, tuple(rows))


def _runs(study: Study, setting: Setting, work: WorkFolder) -> list[RunPage]:
    """Return what each row's cells of the first seed left: trainings, tests, generations."""
    runs: list[RunPage] = []
    seen: set[str] = set()
    for row in study.rows:
        for cell in cells_of_row(study, row, 0, setting):
            folders = {command.into: work.folder(cell) / command.into for command in cell.commands}
            for into, folder in folders.items():
                if cell.hash not in seen and folder.is_dir() and is_run(folder):
                    runs.append(read_run(folder, f"{row.name}: {into} ({cell.title})", f"run-{len(runs)}"))
            seen.add(cell.hash)
    return runs
