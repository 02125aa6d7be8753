"""Whether what the paper claims was seen here, by one stated rule."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from uniemo.studies.measured import Measurements
from uniemo.studies.study import Check, Column, Study

RULE = (
    "A comparison counts as *seen* when the mean difference over seeds (pairs of equal seed) is in the claimed "
    "direction and larger than twice its standard error, as *reversed* when it is so in the other direction, as "
    "*within the spread* otherwise. With one seed there is no spread: *one seed, seen* or *one seed, not seen* say the "
    "sign alone. A claim is seen when all its comparisons are, in part when some are."
)


@dataclass(frozen=True)
class Comparison:
    """Two rows in a column.

    Attributes:
        better: row that the claim puts first.
        than: the other row.
        column: the metric.
        difference: mean over seeds, positive in the claimed direction; None where not measured.
        error: its standard error; None with one seed.
        verdict: as the rule says.
        in_paper: the same difference of the paper's numbers.
    """

    better: str
    than: str
    column: str
    difference: float | None
    error: float | None
    verdict: str
    in_paper: float | None

    @property
    def gain(self) -> str:
        """Difference and error as text, empty where not measured."""
        if self.difference is None:
            return ""
        return f"{self.difference:+.4g}" + ("" if self.error is None else f" ± {self.error:.2g}")


def compare(study: Study, check: Check, measurements: Measurements) -> list[Comparison]:
    """Return the comparisons of a claim."""
    return [
        _compare(study, check.better, than, study.column(name), measurements)
        for name in check.columns
        for than in check.than
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


def _compare(study: Study, better: str, than: str, column: Column, measurements: Measurements) -> Comparison:
    """Compare two rows in a column."""
    sign = 1.0 if column.best == "high" else -1.0
    papers = [study.row(name).paper for name in (better, than)]
    in_paper = None
    if all(column.name in paper for paper in papers):
        in_paper = sign * (papers[0][column.name] - papers[1][column.name])
    values = [measurements[name, column.name].by_seed for name in (better, than) if (name, column.name) in measurements]
    differences = []
    if len(values) == 2:
        differences = [sign * (values[0][seed] - values[1][seed]) for seed in sorted(values[0].keys() & values[1])]
    if not differences:
        return Comparison(better, than, column.name, None, None, "not measured", in_paper)
    mean = statistics.mean(differences)
    if len(differences) == 1:
        word = "one seed, seen" if mean > 0 else "one seed, not seen"
        return Comparison(better, than, column.name, mean, None, word, in_paper)
    error = statistics.stdev(differences) / math.sqrt(len(differences))
    word = "seen" if mean > 2 * error else "reversed" if mean < -2 * error else "within the spread"
    return Comparison(better, than, column.name, mean, error, word, in_paper)
