"""What was measured: the ledger's figures by row, column and seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from uniemo.studies.cells import Setting, cell_of
from uniemo.studies.ledger import Record
from uniemo.studies.study import Column, Row, Study


@dataclass(frozen=True)
class Measured:
    """A figure over seeds, as shown: shares in per cent where the column says so.

    Attributes:
        by_seed: value by seed; a cell that is the same for every seed counts once.
        network: that the figure was measured with, empty where none was.
    """

    by_seed: dict[int, float] = field(default_factory=dict)
    network: str = ""

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.mean(self.by_seed.values())

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; None for fewer than two."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None


Table = dict[tuple[str, str], Measured]  # by row name and column name; without what was not measured


def measured(study: Study, setting: Setting, records: Mapping[str, Record]) -> Table:
    """Collect a study's figures.

    Args:
        study: whose rows and columns count.
        setting: scale and extent; at paper scale with the data folder that the cells were run with.
        records: of the ledger, by hash.

    Returns:
        What there is, for every seed that the ledger knows.
    """
    seeds = sorted({int(record["seed"]) for record in records.values()})
    table = {}
    for row in study.rows:
        for column in study.columns:
            found = _over_seeds(study, row, column, seeds, setting, records)
            if found.by_seed:
                table[row.name, column.name] = found
    return table


def _over_seeds(
    study: Study, row: Row, column: Column, seeds: list[int], setting: Setting, records: Mapping[str, Record]
) -> Measured:
    """Collect one figure."""
    values: dict[str, tuple[int, float]] = {}
    network = ""
    key = f"{row.reference}/{column.key}" if row.reference else column.key
    for seed in seeds:
        cell = cell_of(study, row, column, seed, setting)
        figure = None if cell is None or cell.hash not in records else find_figure(records[cell.hash]["figures"], key)
        if cell is not None and figure is not None and cell.hash not in values:
            network, value = figure
            values[cell.hash] = (cell.seed, 100 * value if column.percent else value)
    return Measured(dict(values.values()), network)


def find_figure(figures: Mapping[str, float], key: str) -> tuple[str, float] | None:
    """Return the network in brackets and the value of a test figure; None where there is none.

    Args:
        figures: of test.json, such as ``test/accuracy`` or ``test/FID[miniature-clip]``.
        key: ``accuracy``, ``FID`` or ``real/Emo-A``.
    """
    for name, value in figures.items():
        base, _, network = name.removeprefix("test/").partition("[")
        if name.startswith("test/") and base == key and (not network or network.endswith("]")):
            return network.rstrip("]"), float(value)
    return None


def networks(table: Table) -> list[str]:
    """Return the names of the networks behind a table's figures."""
    return sorted({one.network for one in table.values() if one.network})
