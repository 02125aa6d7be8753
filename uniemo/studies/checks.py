"""Whether what the paper claims was seen here, by one stated rule."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from uniemo.studies.measured import Measured, Table
from uniemo.studies.study import Check, Column, Study

RULE = (
    "A comparison counts as *seen* when the mean difference over seeds (pairs of equal seed) is in the claimed "
    "direction and larger than twice its standard error, as *reversed* when it is so in the other direction, as "
    "*within the spread* otherwise. With one seed there is no spread: *one seed, seen* or *one seed, not seen* say the "
    "sign alone. A claim is seen when all its comparisons are, in part when some are."
)


@dataclass(frozen=True)
class Comparison:
    """One comparison: better row, other row, column, difference in the claimed direction, and what came of it."""

    better: str
    than: str
    column: str
    difference: float | None
    error: float | None
    verdict: str
    in_paper: float | None


def compare(study: Study, check: Check, table: Table) -> list[Comparison]:
    """Return the comparisons of a claim."""
    return [
        _compare(study, check.better, than, study.column(name), table) for name in check.columns for than in check.than
    ]


def verdict(comparisons: list[Comparison]) -> str:
    """Return what came of a claim: its comparisons' verdict where they agree, else how many were seen."""
    known = [comparison.verdict for comparison in comparisons if comparison.difference is not None]
    if not known:
        return "not measured"
    if len(set(known)) == 1 and len(known) == len(comparisons):
        return known[0]
    seen = sum(one in ("seen", "one seed, seen") for one in known)
    missing = len(comparisons) - len(known)
    remarks = f", {missing} not measured" if missing else ""
    remarks += ", one seed" if any(one.startswith("one seed") for one in known) else ""
    return f"{'in part' if seen else 'not seen'} ({seen} of {len(comparisons)} comparisons{remarks})"


def _compare(study: Study, better: str, than: str, column: Column, table: Table) -> Comparison:
    """Compare two rows in a column."""
    sign = 1.0 if column.best == "high" else -1.0
    numbers = [study.row(name).paper.get(column.name) for name in (better, than)]
    in_paper = None if None in numbers else sign * (float(numbers[0] or 0) - float(numbers[1] or 0))
    pair = [table.get((name, column.name)) for name in (better, than)]
    if pair[0] is None or pair[1] is None:
        return Comparison(better, than, column.name, None, None, "not measured", in_paper)
    differences = [sign * difference for difference in _differences(pair[0], pair[1])]
    if not differences:
        return Comparison(better, than, column.name, None, None, "not measured", in_paper)
    mean = statistics.mean(differences)
    if len(differences) == 1:
        word = "one seed, seen" if mean > 0 else "one seed, not seen"
        return Comparison(better, than, column.name, mean, None, word, in_paper)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    word = "seen" if mean > 2 * error else "reversed" if mean < -2 * error else "within the spread"
    return Comparison(better, than, column.name, mean, error, word, in_paper)


def _differences(first: Measured, second: Measured) -> list[float]:
    """Return the differences by seed, of the seeds that both have."""
    seeds = sorted(set(first.by_seed) & set(second.by_seed))
    return [first.by_seed[seed] - second.by_seed[seed] for seed in seeds]
