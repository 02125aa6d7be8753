"""Paired tests of a difference between two rows, and Holm's correction for the number of claims."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def over_seeds(differences: Sequence[float]) -> tuple[float, float]:
    """Return the standard error of the mean and the two-sided p of Student's paired t, from two differences on."""
    error = float(np.std(differences, ddof=1)) / math.sqrt(len(differences))
    return error, _two_sided(float(np.mean(differences)), error, len(differences) - 1)


def over_seeds_and_pictures(differences: NDArray[np.float64]) -> tuple[float, float]:
    """Return the standard error of the mean and the two-sided p, where seeds and pictures are both a sample.

    The rows of all seeds answer the same pictures: errors of both kinds are crossed. Their variances are those of a
    two-way analysis of variance; the ratio is the quasi-F of Clark (1973, "The language-as-fixed-effect fallacy"), with
    Satterthwaite's degrees of freedom. A test over seeds alone takes the pictures for all there are; one over pictures
    alone, such as McNemar's, takes the trained models for the method. Flipping the signs of five seeds cannot go below
    p = 0.0625, and resampling them underestimates their variance.

    Args:
        differences: (S, N) of S ≥ 2 seeds and N ≥ 2 pictures, each -1, 0 or 1.
    """
    seeds, pictures = differences.shape
    mean, by_seed, by_picture = differences.mean(), differences.mean(axis=1), differences.mean(axis=0)
    rest = differences - by_seed[:, None] - by_picture[None, :] + mean
    squares = np.array([pictures * by_seed.var(ddof=1), seeds * by_picture.var(ddof=1), 0.0])  # mean squares
    freedom = np.array([seeds - 1, pictures - 1, (seeds - 1) * (pictures - 1)])
    squares[2] = (rest**2).sum() / freedom[2]
    total = max(squares[0] + squares[1] - squares[2], squares[0], squares[1])  # a variance component is not negative
    if total == 0:
        return 0.0, _two_sided(float(mean), 0.0, seeds - 1)
    degrees = max(total**2 / float((squares**2 / freedom).sum()), seeds - 1)
    error = math.sqrt(total / differences.size)
    return error, _two_sided(float(mean), error, degrees)


def holm(values: Sequence[float]) -> list[float]:
    """Return p values corrected for their number: the chance of any false claim stays below the level (Holm 1979)."""
    order = sorted(range(len(values)), key=values.__getitem__)
    corrected, largest = [0.0] * len(values), 0.0
    for place, row in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - place) * values[row]))
        corrected[row] = largest
    return corrected


def _two_sided(mean: float, error: float, degrees: float) -> float:
    """Return the p of a mean; of one without any spread 0, or 1 where the mean is 0."""
    from scipy.stats import t

    if error == 0:
        return float(mean == 0)
    return float(2 * t.sf(abs(mean) / error, degrees))
