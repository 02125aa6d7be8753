import numpy as np
import pytest
import torch

from uniemo.metrics.bootstrap import grouped_means, interval, jackknife_interval, resampled_counts, resampled_means
from uniemo.metrics.frechet import frechet_distance, frechet_distance_of_parts
from uniemo.metrics.pairs import ring_pairs


def mean_of(values, **options):
    """Return value, low and high end of the mean over one group."""
    values = np.asarray(values)[:, None]
    return grouped_means(values, np.zeros(len(values), dtype=np.int64), **options)[0, 0]


def test_mean_covers_the_truth_as_often_as_promised():
    rng = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        _, low, high = mean_of(rng.exponential(2.0, 60), seed=trial)
        covered += low <= 2.0 <= high
    assert 0.88 <= covered / 200 <= 0.99


def test_groups_are_resampled_by_themselves():
    values, groups = np.repeat([0.0, 10.0], [30, 10])[:, None], np.repeat([0, 2], [30, 10])
    found = grouped_means(values, groups)[0]
    assert found[[0, 1, 3]].tolist() == [[2.5] * 3, [0.0] * 3, [10.0] * 3]  # nothing varies inside a group
    assert np.isnan(found[2]).all()
    assert grouped_means(values, groups, equal_weights=True)[0, 0].tolist() == [5.0] * 3
    assert np.isnan(grouped_means(values, groups, seed=None)[0, :, 1:]).all()
    middle, low, high = mean_of(values[:, 0])
    assert low < middle < high
    np.testing.assert_array_equal(mean_of(values[:, 0], seed=1), mean_of(values[:, 0], seed=1))


def test_pairs_that_share_images_are_not_independent():
    """Distances made of what each image brings: the spread of their mean is that of the images."""
    rng = np.random.default_rng(0)
    covered, naive = 0, 0
    i, j = ring_pairs(60, 300)
    for _ in range(100):
        image = rng.normal(size=60)
        distance = 5 + image[i] + image[j] + 0.5 * rng.normal(size=300)
        counts = resampled_counts(60, 200, rng)
        low, high = interval(resampled_means(distance[:, None], counts, (i, j))[:, 0])
        covered += low <= 5 <= high
        low, high = interval(resampled_means(distance[:, None], resampled_counts(300, 200, rng))[:, 0])
        naive += low <= 5 <= high
    assert covered / 100 >= 0.88
    assert naive / 100 < 0.75  # pairs taken for independent promise too much
    same = mean_of(distance, images=(i, j, np.array([60])))
    assert same[0] == pytest.approx(distance.mean())
    assert same[1] < same[0] < same[2]


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


def test_fid_interval_covers_other_samples_of_the_same_generator():
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(3000, 8, generator=generator).double()
    mean, covariance = real.mean(0), torch.cov(real.T)
    keep = torch.stack([torch.arange(200) % 10 != k for k in range(10)])
    samples = [torch.randn(200, 8, generator=generator).double() * 1.2 + 0.3 for _ in range(60)]
    values = [float(frechet_distance(mean, covariance, x.mean(0), torch.cov(x.T))) for x in samples]
    expected = np.mean(values)  # of sets of this size, its bias included
    intervals = [
        jackknife_interval(value, frechet_distance_of_parts(mean, covariance, x, keep))
        for value, x in zip(values, samples, strict=True)
    ]
    assert np.mean([low <= expected <= high for low, high in intervals]) >= 0.85
    assert np.isnan(interval([])).all()
