"""Means with 95 % intervals: the bootstrap for means, a grouped jackknife for the Fréchet distance.

scipy.stats.bootstrap does not fit: images of an emotion, and pairs that share images, are resampled by group, and the
resamples of one emotion are the same for every metric, so that metrics rise and fall as one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

LEVEL = 0.95
RESAMPLES = 1000
FOLDS = 10

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Pairs = tuple[Indices, Indices]


def resampled_counts(count: int, resamples: int, rng: np.random.Generator) -> Array:
    """Return how often each of ``count`` items is sampled in each resample, (R, n); every row sums to n."""
    chosen = rng.integers(count, size=(resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(chosen.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)


def resampled_means(values: Array, counts: Array, pairs: Pairs | None = None) -> Array:
    """Return the weighted means (R, K) of values under resampled counts.

    Args:
        values: (m, K), of images or, with ``pairs``, of pairs of images.
        counts: (R, n) how often each image is sampled.
        pairs: the two images (m,), (m,) of each pair. A pair counts as often as the product of its images' counts,
            since pairs that share an image are not independent; the interval errs on the wide side.
    """
    weights = counts if pairs is None else counts[:, pairs[0]] * counts[:, pairs[1]]  # (R, m)
    with np.errstate(invalid="ignore"):  # a resample may hold no pair at all: NaN, left out by interval
        return weights @ values / weights.sum(axis=1, keepdims=True)


def bootstrap_means(
    values: Array, count: int, seed: int | tuple[int, ...], pairs: Pairs | None = None, resamples: int = RESAMPLES
) -> Array:
    """Return the means (R, K) of resampled values, in memory that does not grow with them.

    Args:
        values: (m, K), of ``count`` images or, with ``pairs``, of pairs of them.
        count: n; the same n and seed give the same resamples.
        seed: of the resamples.
        pairs: see :func:`resampled_means`.
        resamples: R.
    """
    rng = np.random.default_rng(seed)
    size = max(1, min(resamples, 1_000_000 // count))
    parts = [min(size, resamples - start) for start in range(0, resamples, size)]
    return np.concatenate([resampled_means(values, resampled_counts(count, part, rng), pairs) for part in parts])


def interval(means: ArrayLike) -> tuple[float, float]:
    """Return the 95 % percentile interval of resampled statistics (R,); NaN among them are left out."""
    finite = np.asarray(means, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def grouped_means(
    values: Array,
    group: Indices,
    seed: int | None = 0,
    images: tuple[Indices, Indices, Indices] | None = None,
    equal_weights: bool = False,
) -> NDArray[np.float64]:
    """Return means with intervals, over all values and of each group.

    Groups (emotions) are resampled by themselves: how many images an emotion has was decided, not sampled.

    Args:
        values: (m, K), of images or of pairs of images.
        group: (m,) class index of each.
        seed: of the resamples; None works out no intervals.
        images: of pairs that share images, the number of each pair's two images inside its group, (m,) each, and the
            number of images of each group (C,): images are resampled then. None resamples the values.
        equal_weights: give each group, rather than each value, the same weight in the mean over all.

    Returns:
        (K, 1 + C, 3): value, low and high end, over all and of each group; NaN for groups without values.
    """
    labels = np.unique(group)
    sizes = np.bincount(group)
    result = np.full((values.shape[1], 1 + len(sizes), 3), np.nan)
    over_all: Array | float = 0.0
    weights = np.where(sizes > 0, 1, 0) if equal_weights else sizes
    for label in labels.tolist():
        rows = np.flatnonzero(group == label)
        means = np.empty((0, values.shape[1]))
        if seed is not None and images is None:
            means = bootstrap_means(values[rows], len(rows), (seed, label))
        elif seed is not None and images is not None:
            pairs = images[0][rows], images[1][rows]
            means = bootstrap_means(values[rows], int(images[2][label]), (seed, label), pairs)
        result[:, 1 + label] = _estimates(values[rows].mean(axis=0), means)
        over_all = over_all + means * (weights[label] / weights.sum())
    whole = result[:, 1 + labels, 0].mean(axis=1) if equal_weights else values.mean(axis=0)
    result[:, 0] = _estimates(whole, np.asarray(over_all))
    return result


def _estimates(value: Array, means: Array) -> Array:
    """Return (K, 3) values (K,) and the ends of their intervals from resampled means (R, K)."""
    return np.array([(middle, *interval(means[:, k])) for k, middle in enumerate(value)])


def jackknife_interval(
    value: float, without: ArrayLike, scale: float = 1.0, lowest: float = 0.0
) -> tuple[float, float]:
    """Return a 95 % interval from what the statistic becomes without each of K random parts of the data.

    The bootstrap would not do for the Fréchet distance: resampled images repeat, and the distance rises as different
    images become fewer. Leaving parts out keeps them different; what that adds to every part cancels in the spread.

    Args:
        value: on all data; the interval's middle.
        without: (K,) on all but one part each.
        scale: factor on the spread, √(n₁ / n) where the parts come from n₁ of n images.
        lowest: what the statistic cannot fall below.

    Returns:
        (low, high), low at least ``lowest``, by Student's t with K - 1 degrees of freedom.
    """
    from scipy.special import stdtrit

    parts = np.asarray(without, dtype=np.float64)
    if len(parts) < 2:
        return float("nan"), float("nan")
    spread = np.sqrt((len(parts) - 1) / len(parts) * np.square(parts - parts.mean()).sum()) * scale
    reach = float(stdtrit(len(parts) - 1, (1 + LEVEL) / 2) * spread)
    return max(lowest, value - reach), value + reach
