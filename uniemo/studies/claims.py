"""Whether what the paper claims was seen here, by one stated rule."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uniemo.studies.hits import Hits
from uniemo.studies.measured import Measured, Measurements
from uniemo.studies.significance import holm, over_seeds, over_seeds_and_pictures
from uniemo.studies.study import Check, Study

LEVEL = 0.05
SEEDS = 5  # fewer say nothing about the spread between trainings
RULE = (
    "Rows are compared in pairs of equal seed. Accuracy and Emo-A are tested over seeds and test pictures together "
    "(each picture's right or wrong answer of both rows; crossed analysis of variance, quasi-F with Satterthwaite's "
    "degrees of freedom), other metrics over seeds (Student's paired t); differences stand with their standard error "
    "and two-sided p. A claim with several comparisons holds where all of them do, so that its p is the largest of "
    "theirs. It is *seen* when the differences are in the claimed direction, *reversed* when they are in the other "
    f"one, at p < {LEVEL} after Holm's correction over all claims that could be tested, else *not seen*. With fewer "
    f"than {SEEDS} seeds nothing is tested: *too few seeds*."
)


@dataclass(frozen=True)
class Comparison:
    """Two rows in a column.

    Attributes:
        better: row that the claim puts first.
        than: the other row.
        column: the metric.
        in_paper: the same difference of the paper's numbers.
        difference: mean over seeds, positive in the claimed direction; None where not measured.
        seeds: pairs of equal seed.
        error: standard error of the difference; None with one seed, as is ``p``.
        p: two-sided, not corrected.
    """

    better: str
    than: str
    column: str
    in_paper: float | None
    difference: float | None = None
    seeds: int = 0
    error: float | None = None
    p: float | None = None

    @property
    def gain(self) -> str:
        """Difference, error and p as text, empty where not measured."""
        if self.difference is None:
            return ""
        tested = (
            "" if self.p is None else f" ± {self.error:.2g}, p {'< 0.0001' if self.p < 1e-4 else f'= {self.p:.2g}'}"
        )
        return f"{self.difference:+.4g}{tested}"


@dataclass(frozen=True)
class Claim:
    """A claim, what came of it, and its comparisons."""

    text: str
    verdict: str
    comparisons: list[Comparison]


def claims_of(measured: Sequence[tuple[Study, Measurements]]) -> dict[str, list[Claim]]:
    """Return the claims of studies by the studies' names; p values are corrected for the number of all of them."""
    compared = [
        (study.name, check.claim, compare(study, check, measurements))
        for study, measurements in measured
        for check in study.checks
    ]
    tested = [number for number, (_, _, found) in enumerate(compared) if min(one.seeds for one in found) >= SEEDS]
    corrected = dict(zip(tested, holm([claim_p(compared[number][2])[0] for number in tested]), strict=True))
    claims: dict[str, list[Claim]] = {study.name: [] for study, _ in measured}
    for number, (name, text, found) in enumerate(compared):
        claims[name].append(Claim(text, _verdict(found, corrected.get(number)), found))
    return claims


def compare(study: Study, check: Check, measurements: Measurements) -> list[Comparison]:
    """Return the comparisons of a claim."""
    return [_compare(study, check.better, than, name, measurements) for name in check.columns for than in check.than]


def claim_p(comparisons: Sequence[Comparison]) -> tuple[float, bool]:
    """Return a claim's two-sided p, and whether it leans to the claimed direction: the worst comparison counts."""
    claimed = [(one.p or 0.0) / 2 if (one.difference or 0.0) > 0 else 1 - (one.p or 0.0) / 2 for one in comparisons]
    seen, other = max(claimed), max(1 - p for p in claimed)
    return min(1.0, 2 * min(seen, other)), seen < other


def _verdict(comparisons: Sequence[Comparison], p: float | None) -> str:
    """Return what came of a claim; ``p`` is corrected, None where it could not be tested."""
    known = [one for one in comparisons if one.difference is not None]
    if len(known) < len(comparisons):
        return f"not measured ({len(known)} of {len(comparisons)} comparisons are)" if known else "not measured"
    if p is None:
        return f"too few seeds ({min(one.seeds for one in known)} of {SEEDS})"
    if p < LEVEL:
        return "seen" if claim_p(comparisons)[1] else "reversed"
    ahead = sum((one.difference or 0.0) > 0 for one in known)
    return "not seen" + (f" ({ahead} of {len(known)} in the claimed direction)" if len(known) > 1 else "")


def _compare(study: Study, better: str, than: str, name: str, measurements: Measurements) -> Comparison:
    """Compare two rows in a column."""
    column = study.column(name)
    sign = 1.0 if column.best == "high" else -1.0
    papers = [study.row(row).paper for row in (better, than)]
    in_paper = None
    if all(name in paper for paper in papers):
        in_paper = sign * (papers[0][name] - papers[1][name])
    rows = [measurements.get((row, name), Measured()) for row in (better, than)]
    seeds = sorted(rows[0].by_seed.keys() & rows[1].by_seed)
    differences = [sign * (rows[0].by_seed[seed] - rows[1].by_seed[seed]) for seed in seeds]
    if not differences:
        return Comparison(better, than, name, in_paper)
    mean = statistics.mean(differences)
    if len(seeds) == 1:
        return Comparison(better, than, name, in_paper, mean, 1)
    pairs = [(rows[0].hits.get(seed), rows[1].hits.get(seed)) for seed in seeds]
    crossed = _crossed(pairs)
    if crossed is None:
        error, p = over_seeds(differences)
    else:
        error, p = over_seeds_and_pictures(crossed)
        error *= 100 if column.percent else 1
    return Comparison(better, than, name, in_paper, mean, len(seeds), error, p)


def _crossed(pairs: Sequence[tuple[Hits | None, Hits | None]]) -> np.ndarray | None:
    """Return the differences of right answers (seeds, pictures); None unless all tests had the same pictures."""
    every = [hits for pair in pairs for hits in pair]
    if None in every or len({hits.pictures for hits in every if hits is not None}) > 1:
        return None
    return np.array([a.right.astype(float) - b.right for a, b in pairs if a is not None and b is not None])
