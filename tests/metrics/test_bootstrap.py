import numpy as np
import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.metrics.bootstrap import (
    bootstrap_interval,
    interval,
    jackknife_interval,
    resampled_counts,
    resampled_means,
)
from uniemo.metrics.fid import frechet_distance, frechet_distance_of_parts
from uniemo.metrics.pairs import ring_pairs


def test_counts_are_resamples():
    counts = resampled_counts(7, 50, np.random.default_rng(0))
    assert counts.shape == (50, 7)
    assert (counts.sum(axis=1) == 7).all()
    assert (counts == 0).any()


def test_mean_covers_the_truth_as_often_as_promised():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.exponential(2.0, 60), resamples=300, seed=trial)
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_groups_are_resampled_by_themselves():
    values, groups = np.repeat([0.0, 10.0], [30, 10]), np.repeat([0, 1], [30, 10])
    assert bootstrap_interval(values, groups) == (2.5, 2.5)  # nothing varies inside a group
    assert bootstrap_interval(values, groups, "group_mean") == (5.0, 5.0)
    low, high = bootstrap_interval(values)
    assert low < 2.5 < high
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)


def test_pairs_that_share_images_are_not_independent():
    """Distances made of what each image brings: the spread of their mean is that of the images."""
    rng = np.random.default_rng(0)
    covered, naive = 0, 0
    i, j = ring_pairs(60, 300)
    for _ in range(150):
        image = rng.normal(size=60)
        distance = (5 + image[i] + image[j] + 0.5 * rng.normal(size=300))[:, None]
        counts = resampled_counts(60, 200, rng)
        low, high = interval(resampled_means(distance, counts, (i, j))[:, 0])
        covered += low <= 5 <= high
        low, high = bootstrap_interval(distance[:, 0], resamples=200)
        naive += low <= 5 <= high
    assert covered / 150 >= 0.88
    assert naive / 150 < 0.75  # pairs taken for independent promise too much


def test_jackknife_of_a_mean_is_its_standard_error():
    rng = np.random.default_rng(0)
    fold = np.arange(200) % 10
    reach = []
    for _ in range(200):
        values = 10 + rng.normal(size=200)
        low, high = jackknife_interval(values.mean(), [values[fold != k].mean() for k in range(10)])
        reach.append((high - low) / 2)
    expected = 2.262 / np.sqrt(200)  # Student's t with 9 degrees of freedom, times the standard error
    assert np.sqrt(np.mean(np.square(reach))) == pytest.approx(expected, rel=0.1)
    assert jackknife_interval(0.01, [0, 0.1, 0.2])[0] == 0  # a distance is never below zero
    assert np.isnan(jackknife_interval(1.0, [1.0])).all()
    wide = jackknife_interval(1.0, [1.0, 1.1, 0.9])
    half = jackknife_interval(1.0, [1.0, 1.1, 0.9], scale=0.5)
    assert half[1] - 1 == pytest.approx((wide[1] - 1) / 2)


@pytest.mark.parametrize("count", [10, 40])  # fewer and more rows than features
def test_distance_of_parts(count):
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(100, 20, generator=generator).double() @ torch.randn(20, 20, generator=generator).double()
    rows = torch.randn(count, 20, generator=generator).double() + 1
    parts = torch.ones(3, count, dtype=torch.bool)
    parts[1, ::3] = False
    parts[2, 5:] = False
    got = frechet_distance_of_parts(real.mean(0), torch.cov(real.T), rows, parts)
    for part, distance in zip(parts, got, strict=True):
        expected = frechet_distance(real.mean(0), torch.cov(real.T), rows[part].mean(0), torch.cov(rows[part].T))
        assert float(distance) == pytest.approx(float(expected), rel=1e-6)


def test_fid_interval_covers_other_draws_of_the_same_generator():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(3000, 8, generator=generator).double()
    mean, covariance = real.mean(0), torch.cov(real.T)
    keep = torch.stack([torch.arange(200) % 10 != k for k in range(10)])
    draws = [torch.randn(200, 8, generator=generator).double() * 1.2 + 0.3 for _ in range(60)]
    values = [float(frechet_distance(mean, covariance, x.mean(0), torch.cov(x.T))) for x in draws]
    expected = np.mean(values)  # of sets of this size, its bias included
    intervals = [
        jackknife_interval(value, frechet_distance_of_parts(mean, covariance, x, keep))
        for value, x in zip(values, draws, strict=True)
    ]
    assert np.mean([low <= expected <= high for low, high in intervals]) >= 0.85


def test_refusals():
    for values, statistic in (([], "mean"), ([1.0, np.nan], "mean"), ([[1.0]], "mean"), ([1.0], "median")):
        with pytest.raises(UniEmoError, match=r"bootstrap needs|statistic must"):
            bootstrap_interval(values, statistic=statistic)
    assert np.isnan(interval([])).all()
