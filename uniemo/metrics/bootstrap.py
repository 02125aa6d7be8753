"""95 % intervals: the bootstrap for means, a grouped jackknife for the Fréchet distance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from uniemo.errors import UniEmoError

LEVEL = 0.95
RESAMPLES = 1000
FOLDS = 10

Array = NDArray[np.float64]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def resampled_counts(count: int, resamples: int, rng: np.random.Generator) -> Array:
    """Return how often each of ``count`` things is drawn in each resample, (R, n); every row sums to n."""
    drawn = rng.integers(count, size=(resamples, count)) + count * np.arange(resamples)[:, None]
    return np.bincount(drawn.ravel(), minlength=resamples * count).reshape(resamples, count).astype(np.float64)


def resampled_means(values: Array, counts: Array, pairs: Pairs | None = None) -> Array:
    """Return the weighted means (R, K) of values under resampled counts.

    Args:
        values: (m, K), of images or, with ``pairs``, of pairs of images.
        counts: (R, n) how often each image is drawn.
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
        count: n; the same n and seed give the same resamples, so that figures of the same images rise and fall as one.
        seed: of the draws.
        pairs: see :func:`resampled_means`.
        resamples: R.
    """
    rng = np.random.default_rng(seed)
    size = max(1, min(resamples, 1_000_000 // count))
    parts = [min(size, resamples - start) for start in range(0, resamples, size)]
    return np.concatenate([resampled_means(values, resampled_counts(count, part, rng), pairs) for part in parts])


def interval(means: ArrayLike, level: float = LEVEL) -> tuple[float, float]:
    """Return the percentile interval of resampled statistics (R,); NaN among them are left out."""
    finite = np.asarray(means, dtype=np.float64)
    finite = finite[np.isfinite(finite)]
    if not len(finite):
        return float("nan"), float("nan")
    low, high = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def bootstrap_interval(
    values: ArrayLike,
    groups: ArrayLike | None = None,
    statistic: str = "mean",
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float]:
    """Return the bootstrap interval of a mean.

    Args:
        values: (N,) one for each image.
        groups: (N,) labels; each group is resampled by itself, since how many images an emotion has was decided and
            not drawn. None is one group.
        statistic: ``mean`` over all images, or ``group_mean``, over groups with the same weight each.
        level: share of such intervals that hold the true value.
        resamples: R.
        seed: of the draws.

    Returns:
        (low, high).

    Raises:
        UniEmoError: no values, values that are not finite, an unknown statistic.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise UniEmoError(f"bootstrap needs finite values of shape (N,), N at least 1; got shape {values.shape}")
    if statistic not in ("mean", "group_mean"):
        raise UniEmoError(f"statistic must be mean or group_mean; got {statistic!r}")
    labels = np.zeros(len(values), dtype=np.int64) if groups is None else np.asarray(groups)
    means, sizes = {}, {}
    for number, label in enumerate(np.unique(labels)):
        part = values[labels == label][:, None]
        means[number] = bootstrap_means(part, len(part), (seed, number), resamples=resamples)[:, 0]
        sizes[number] = len(part) if statistic == "mean" else 1
    return interval(combined(means, sizes), level)


def combined(means: Mapping[int, Array], sizes: Mapping[int, int]) -> Array:
    """Return the weighted mean over groups of resampled statistics, each (R,)."""
    total = sum(sizes.values())
    return np.asarray(sum(means[label] * (sizes[label] / total) for label in means))


def jackknife_interval(
    value: float, without: ArrayLike, scale: float = 1.0, level: float = LEVEL
) -> tuple[float, float]:
    """Return an interval from what the statistic becomes without each of K random parts of the data.

    The bootstrap would not do for the Fréchet distance: resampled images repeat, and the distance rises as different
    images become fewer. Leaving parts out keeps them different; what that adds to every part cancels in the spread.

    Args:
        value: on all data; the interval's middle.
        without: (K,) on all but one part each.
        scale: factor on the spread, √(n₁ / n) where the parts come from n₁ of n images.
        level: share of such intervals that hold the true value; Student's t with K - 1 degrees of freedom.

    Returns:
        (low, high), low at least 0.
    """
    from scipy.special import stdtrit

    parts = np.asarray(without, dtype=np.float64)
    if len(parts) < 2:
        return float("nan"), float("nan")
    spread = np.sqrt((len(parts) - 1) / len(parts) * np.square(parts - parts.mean()).sum()) * scale
    reach = float(stdtrit(len(parts) - 1, (1 + level) / 2) * spread)
    return max(0.0, value - reach), value + reach
