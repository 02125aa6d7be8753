"""A study: one table or figure of the paper, written as a YAML file (docs/studies.md)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Scale = Literal["miniature", "paper"]
SCALES: tuple[Scale, ...] = ("miniature", "paper")


@dataclass(frozen=True)
class Column:
    """A metric of a table.

    Attributes:
        name: heading.
        key: name of the result without ``test/`` and without the network in brackets.
        best: whether ``high`` or ``low`` is better; ``none`` for a column that describes rows and does not rank them.
        percent: measured as a share, shown in per cent, as the paper's number is.
        digits: after the decimal point.
        parameters: of the cells of this column.
        scale: the only one at which the column is shown; None for every one.
    """

    name: str
    key: str
    best: Literal["high", "low", "none"] = "high"
    percent: bool = False
    digits: int = 2
    parameters: dict[str, str] = field(default_factory=dict)
    scale: Scale | None = None


@dataclass(frozen=True)
class Row:
    """A method or a setting.

    Attributes:
        label: its name.
        note: second column, the paper's backbone for example.
        group: heading that it stands under.
        paper: the paper's numbers by column.
        cell: name of the cell that measures it; None where only the paper has numbers.
        parameters: of the cell.
        not_run: reason for not measuring it, by scale.
        only: columns that are measured; empty for all.
        reference: for a row that is no method but a reference, the prefix of its metrics in test.json: ``real`` for
            those of real test images. It is never the best of a column.
    """

    label: str
    note: str = ""
    group: str = ""
    paper: dict[str, float] = field(default_factory=dict)
    cell: str | None = None
    parameters: dict[str, str] = field(default_factory=dict)
    not_run: dict[str, str] = field(default_factory=dict)
    only: tuple[str, ...] = ()
    reference: str = ""

    @property
    def name(self) -> str:
        """Label and note, unique in a study."""
        return f"{self.label} {self.note}".strip()

    def runs(self, column: Column, scale: Scale) -> bool:
        """Whether the metric is measured at this scale."""
        return self.cell is not None and scale not in self.not_run and (not self.only or column.name in self.only)


@dataclass(frozen=True)
class Check:
    """A comparison that a claim makes: ``better`` is better than each of ``than`` in each column of ``columns``."""

    claim: str
    better: str
    than: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One command of a cell: its name, the folder it writes into, its arguments by when they count.

    With a ``scale`` it is run at that scale alone, with ``when`` only where the cell's parameters have these values.
    """

    run: str
    into: str
    args: dict[str, str]
    scale: Scale | None = None
    when: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """How a cell is made; ``seed`` replaces that of the row, None keeps it."""

    name: str
    steps: tuple[Step, ...]
    defaults: dict[str, str] = field(default_factory=dict)
    seed: int | None = None


@dataclass(frozen=True)
class Study:
    """A table or figure."""

    name: str
    title: str
    claim: str
    seeds: int
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    checks: tuple[Check, ...]
    recipes: dict[str, Recipe]
    parameters: dict[str, dict[str, dict[str, str]]]
    plot: dict[str, str] = field(default_factory=dict)
    picture: str = ""
    remarks: str = ""

    @property
    def number(self) -> str:
        """What the paper calls it: "Table IV"."""
        return self.title.partition(":")[0]

    @property
    def has_notes(self) -> bool:
        """Whether any row has a note."""
        return any(row.note for row in self.rows)

    def at(self, scale: Scale) -> Study:
        """Return the study with the columns of a scale."""
        return replace(self, columns=tuple(column for column in self.columns if column.scale in (None, scale)))

    def column(self, name: str) -> Column:
        """Return a column by its name."""
        return next(column for column in self.columns if column.name == name)

    def row(self, name: str) -> Row:
        """Return a row by label and note."""
        return next(row for row in self.rows if row.name == name)
