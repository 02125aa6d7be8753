"""What was measured: the results' metrics by row, column and seed."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from uniemo.studies.cells import Setting, cell_of
from uniemo.studies.hits import Hits, unpack
from uniemo.studies.study import Column, Row, Study
from uniemo.studies.work import Result


@dataclass(frozen=True)
class Measured:
    """A metric over seeds, as shown: shares in per cent where the column says so.

    Attributes:
        by_seed: value by seed; a cell that is the same for every seed counts once.
        network: that the metric was measured with, empty where none was.
        sampler: how features of the generated images were sampled; empty where none were, or where the result, of an
            earlier version, does not say.
        hits: right answers behind it by seed, where it is the share of them and they are known.
    """

    by_seed: dict[int, float] = field(default_factory=dict)
    network: str = ""
    sampler: str = ""
    hits: dict[int, Hits] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return statistics.mean(self.by_seed.values())

    @property
    def spread(self) -> float | None:
        """Standard deviation over seeds; None for fewer than two."""
        return statistics.stdev(self.by_seed.values()) if len(self.by_seed) > 1 else None


Measurements = dict[tuple[str, str], Measured]  # by row name and column name; without what was not measured


def measured(study: Study, setting: Setting, results: Mapping[str, Result]) -> Measurements:
    """Collect a study's metrics; at paper scale ``setting`` has the data folder that the cells were run with.

    Returns:
        What there is, for every seed of the results.
    """
    seeds = sorted({int(result["seed"]) for result in results.values()})
    found = {
        (row.name, column.name): _over_seeds(study, row, column, seeds, setting, results)
        for row in study.rows
        for column in study.columns
    }
    return {place: one for place, one in found.items() if one.by_seed}


def _over_seeds(
    study: Study, row: Row, column: Column, seeds: list[int], setting: Setting, results: Mapping[str, Result]
) -> Measured:
    """Collect one metric."""
    values: dict[int, float] = {}
    right: dict[int, Hits] = {}
    network, sampler = "", ""
    key = f"{row.reference}/{column.key}" if row.reference else column.key
    for seed in seeds:
        cell = cell_of(study, row, column, seed, setting)
        found = None if cell is None or cell.hash not in results else find_metric(results[cell.hash]["figures"], key)
        if cell is not None and found is not None:
            network, value = found
            sampler = "" if row.reference else results[cell.hash].get("sampler") or ""
            values[cell.seed] = 100 * value if column.percent else value
            hits = unpack(results[cell.hash], key)
            right |= {} if hits is None else {cell.seed: hits}
    return Measured(values, network, sampler, right)


def find_metric(metrics: Mapping[str, float], key: str) -> tuple[str, float] | None:
    """Return the network in brackets and the value of a test metric; None where there is none.

    Args:
        metrics: of test.json, such as ``test/accuracy`` or ``test/FID[miniature-clip]``.
        key: ``accuracy``, ``FID`` or ``real/Emo-A``.
    """
    for name, value in metrics.items():
        base, _, network = name.removeprefix("test/").partition("[")
        if name.startswith("test/") and base == key and (not network or network.endswith("]")):
            return network.rstrip("]"), float(value)
    return None


def networks(measurements: Measurements) -> list[str]:
    """Return the names of the networks behind metrics."""
    return sorted({one.network for one in measurements.values() if one.network})


def samplers(measurements: Measurements) -> dict[str, str]:
    """Return by row how the features of the images that its metrics are of were sampled, where that is known."""
    return {row: one.sampler for (row, _), one in measurements.items() if one.network and one.sampler}
