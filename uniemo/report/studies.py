"""A study arranged for a page: its table, its picture, what came of its claims, and the cells behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from uniemo.report.figures import Table
from uniemo.report.parts import duration
from uniemo.report.pictures import Picture, embed
from uniemo.report.reading import Notes, is_run
from uniemo.report.runs import RunPage, read_run
from uniemo.studies import tables
from uniemo.studies.cells import Cell, Setting, cell_of, with_parents
from uniemo.studies.checks import Comparison, compare, verdict
from uniemo.studies.ledger import Record
from uniemo.studies.measured import Measured, measured
from uniemo.studies.measured import Table as Numbers
from uniemo.studies.study import Check, Column, Row, Study
from uniemo.studies.work import WorkFolder

_AGAINST = ("reversed", "not seen", "one seed, not seen")  # how verdicts begin


@dataclass(frozen=True)
class Claim:
    """A claim, what came of it (``kind``: ``seen``, ``unseen`` or neither), and its comparisons."""

    text: str
    verdict: str
    kind: str
    comparisons: Table


@dataclass(frozen=True)
class Line:
    """A row of a study's table: ``cells`` are (text, small text below, class); ``group`` is a heading above, if any."""

    group: str
    cells: tuple[tuple[str, str, str], ...]


@dataclass
class StudyPage:
    """A study in a page; what has not been measured is empty.

    Attributes:
        heading: of the table, each with its class.
        lines: of the table.
        notes: below it.
        missing: sentence about rows without a result, empty when all are there.
        cells: of the rows and what they need.
        runs: their trainings and tests of the first seed, as far as the folders are there.
    """

    name: str
    anchor: str
    title: str
    claim: str
    heading: list[tuple[str, str]] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    picture: Picture | None = None
    claims: list[Claim] = field(default_factory=list)
    cells: Table | None = None
    runs: list[RunPage] = field(default_factory=list)
    missing: str = ""


def read_study_page(study: Study, setting: Setting, work: WorkFolder, with_runs: bool = True) -> StudyPage:
    """Collect what there is of a study.

    Args:
        study: rows and columns.
        setting: scale and extent.
        work: folder of ``uniemo reproduce``.
        with_runs: show the runs behind it too.
    """
    records = work.ledger.read()
    numbers, notes = measured(study, setting, records), Notes()
    page = StudyPage(study.name, f"study-{study.name}", study.title, study.claim)
    if study.columns:
        page.heading, page.lines = _table(study, numbers)
        page.notes = tables.notes(study, numbers, setting)
    else:
        page.notes = [study.remarks] if study.remarks else []
    drawn = work.output(setting) / f"{study.name}.png"
    if drawn.is_file():
        page.picture = embed(drawn, study.title, notes)
    page.claims = [_claim(study, check, numbers) for check in study.checks]
    done, left = _cells(study, setting, records)
    page.cells = _cell_table(done, records)
    page.missing = _missing(left, study)
    page.runs = _runs(study, setting, work) if with_runs else []
    page.notes += [f"{note}." for note in notes.lines]
    return page


def _table(study: Study, numbers: Numbers) -> tuple[list[tuple[str, str]], list[Line]]:
    """Return heading and lines: ours and the paper's numbers in columns of their own."""
    arrows, noted = {"high": "↑", "low": "↓"}, any(row.note for row in study.rows)
    heading = [("method", "text"), *([("", "text")] if noted else [])]
    printed = {name for row in study.rows for name in row.paper}
    for column in study.columns:
        name = f"{column.name}{' %' if column.percent else ''} {arrows[column.best]}"
        heading += [(name, ""), *([("paper", "paper")] if column.name in printed else [])]
    lines, group = [], ""
    for row in study.rows:
        cells = [(row.label, "", "text"), *([(row.note, "", "text")] if noted else [])]
        for column in study.columns:
            cells.append(_number(numbers.get((row.name, column.name)), column, _best(column, numbers)))
            if column.name in printed:
                paper = row.paper.get(column.name)
                cells.append(("–" if paper is None else f"{paper:.{column.digits}f}", "", "paper"))
        lines.append(Line(row.group if row.group != group else "", tuple(cells)))
        group = row.group
    return heading, lines


def _number(value: Measured | None, column: Column, best: float | None) -> tuple[str, str, str]:
    """Return the cell of a figure: mean, below it spread and number of seeds, bold where it is the best."""
    if value is None:
        return "–", "", ""
    seeds = f"({len(value.by_seed)})"
    below = seeds if value.spread is None else f"± {value.spread:.{column.digits}f} {seeds}"
    return f"{value.mean:.{column.digits}f}", below, "best" if value.mean == best else ""


def _best(column: Column, numbers: Numbers) -> float | None:
    """Return the best mean of a column; None where nothing was measured."""
    means = [value.mean for (_, name), value in numbers.items() if name == column.name]
    return (max if column.best == "high" else min)(means, default=None)


def _claim(study: Study, check: Check, numbers: Numbers) -> Claim:
    """Return a claim and its comparisons."""
    comparisons = compare(study, check, numbers)
    text = verdict(comparisons)
    kind = "seen" if text in ("seen", "one seed, seen") else "unseen" if text.startswith(_AGAINST) else ""
    rows = tuple((f"{one.better} against {one.than}", one.column, *_gains(one), one.verdict) for one in comparisons)
    columns = ("comparison", "figure", "gain here", "in the paper", "")
    return Claim(check.claim, text, kind, Table(check.claim, columns, rows))


def _gains(one: Comparison) -> tuple[str, str]:
    """Return the gain here, with its standard error, and the paper's."""
    here = "–" if one.difference is None else f"{one.difference:+.4g}"
    if one.error is not None:
        here += f" ± {one.error:.2g}"
    return here, "–" if one.in_paper is None else f"{one.in_paper:+.4g}"


def _cells(study: Study, setting: Setting, records: Mapping[str, Record]) -> tuple[list[Cell], list[Row]]:
    """Return the cells that have a result, with those that they needed, and the rows of which none has."""
    seeds = sorted({int(record["seed"]) for record in records.values()}) or [0]
    wanted: dict[str, Cell] = {}
    left = []
    for row in study.rows:
        columns: list[Column | None] = list(study.columns) or [None]
        cells = [cell for seed in seeds for column in columns if (cell := cell_of(study, row, column, seed, setting))]
        found = [cell for cell in cells if cell.hash in records]
        wanted |= {cell.hash: cell for cell in found}
        if cells and not found:
            left.append(row)
    done = [cell for cell in with_parents(list(wanted.values())) if cell.hash in records]
    return done, left


def _runs(study: Study, setting: Setting, work: WorkFolder) -> list[RunPage]:
    """Return what each row's cells of the first seed left: trainings, tests, generations."""
    runs: list[RunPage] = []
    seen: set[str] = set()
    columns: list[Column | None] = list(study.columns) or [None]
    for row in study.rows:
        for column in columns:
            cell = cell_of(study, row, column, 0, setting)
            if cell is None or cell.hash in seen:
                continue
            seen.add(cell.hash)
            for command in cell.commands:
                folder = work.folder(cell) / command.into
                if folder.is_dir() and is_run(folder):
                    runs.append(read_run(folder, f"{row.name}: {command.into} ({cell.title})", f"run-{len(runs)}"))
    return runs


def _cell_table(cells: Sequence[Cell], records: Mapping[str, Record]) -> Table | None:
    """Return what was run for a study."""
    if not cells:
        return None
    rows = []
    for cell in cells:
        record = records[cell.hash]
        memory = f"{record['peak_memory'] / 2**30:.1f} GiB"
        spent = duration(float(record["seconds"]))
        rows.append((cell.title, spent, memory, str(record["started"])[:16], str(record["commit"]), cell.hash))
    total = duration(sum(float(records[cell.hash]["seconds"]) for cell in cells))
    columns = ("cell", "time", "memory", "started", "commit", "folder in cells/")
    return Table(f"{len(cells)} cells, {total} of commands", columns, tuple(rows))


def _missing(left: Sequence[Row], study: Study) -> str:
    """Return a sentence about rows that could be there and are not."""
    if not left:
        return ""
    names = ", ".join(row.name for row in left)
    return f"Not measured yet: {names}. uniemo reproduce {study.name} measures them."
