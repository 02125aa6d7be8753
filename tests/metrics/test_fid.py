import numpy as np
import pytest
import torch
from cleanfid.fid import frechet_distance as clean_fid
from torchmetrics.image.fid import FrechetInceptionDistance

from uniemo.metrics import FID, FeatureStatistics
from uniemo.metrics.fid import frechet_estimates
from uniemo.metrics.frechet import frechet_distance, frechet_distance_of_parts


def _features(seed, n=200, size=12):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=generator)
    return torch.randn(n, size, generator=generator) @ mix + torch.randn(size, generator=generator)


def _fid(real, generated, batch=64):
    metric = FID(1)
    for part in real.split(batch):
        metric.update_real(part, torch.zeros(len(part), dtype=torch.long))
    for rows in torch.arange(len(generated)).split(batch):
        metric.update(generated[rows], emotion=torch.zeros_like(rows), index=rows)
    return float(metric.compute()["FID"][0, 0])


@pytest.mark.parametrize("n", [200, 5])  # with 5 samples of 12 features the covariance is singular
def test_agrees_with_clean_fid(n):
    real, generated = _features(0, n), _features(1, n)
    arrays = real.double().numpy(), generated.double().numpy()
    reference = clean_fid(*(f(x) for x in arrays for f in (lambda x: x.mean(0), lambda x: np.cov(x, rowvar=False))))
    assert _fid(real, generated) == pytest.approx(float(reference), rel=1e-4)


class Pooled(torch.nn.Module):
    """Features (B, 12) of images in [0, 1], for torchmetrics."""

    num_features = 12

    def forward(self, images):
        return torch.nn.functional.adaptive_avg_pool2d(images.double(), 2).flatten(1)


def test_agrees_with_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    real, generated = (torch.rand(60, 3, 8, 8, generator=generator) ** power for power in (1, 2))
    theirs = FrechetInceptionDistance(feature=Pooled(), normalize=True).set_dtype(torch.float64)
    theirs.update(real, real=True)
    theirs.update(generated, real=False)
    assert _fid(Pooled()(real), Pooled()(generated)) == pytest.approx(float(theirs.compute()), rel=1e-4)


def test_known_gaussians_in_closed_form():
    """Samples whose mean and covariance are exact: FID = |m1 - m2|² + Σ (s1 - s2)² where the axes agree."""
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 4)).reshape(4, -1).T  # 16 points, mean 0
    scale = np.sqrt(15 / 16)  # the covariance is unbiased: n / (n - 1)
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    std1, std2 = np.array([1.0, 2.0, 3.0, 0.5]), np.array([2.0, 2.0, 1.0, 0.0])
    mean1, mean2 = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 1.0, 0.0, 3.5])
    sides = [torch.from_numpy(corners * scale * s @ turn.T + m) for s, m in ((std1, mean1), (std2, mean2))]
    expected = np.square(mean1 - mean2).sum() + np.square(std1 - std2).sum()
    assert _fid(*sides) == pytest.approx(expected, rel=1e-6)


def test_identity_symmetry_and_order():
    real, generated = _features(0), _features(1)
    assert _fid(real, real) == pytest.approx(0, abs=1e-6)
    distance = _fid(real, generated)
    assert _fid(generated, real) == pytest.approx(distance, rel=1e-5)
    shuffled = generated[torch.randperm(len(generated), generator=torch.Generator().manual_seed(0))]
    assert _fid(real, shuffled, batch=7) == pytest.approx(distance, rel=1e-5)
    assert _fid(real.double() + 100, generated.double() + 100) == pytest.approx(distance, rel=1e-4)


def test_sums_and_kept_rows_give_the_same_value():
    """Of more images than features are kept, the value comes from the sums; the interval from the rows alone."""
    real, generated = _features(0), _features(1)
    emotion = torch.zeros(200, dtype=torch.long)
    sums = [FeatureStatistics.zeros(2, 12), FeatureStatistics.zeros(2, 12)]
    for one, features in zip(sums, (real, generated), strict=True):
        one.update(features, emotion)
    every = frechet_estimates(*sums, generated, emotion)
    some = frechet_estimates(*sums, generated[:100], emotion[:100])
    assert some[:2, 0].tolist() == pytest.approx(every[:2, 0].tolist(), rel=1e-5)
    assert every[2].isnan().all()
    assert (every[0, 1] < every[0, 0]) & (every[0, 0] < every[0, 2])


@pytest.mark.parametrize("count", [10, 40])  # fewer and more rows than features
def test_distance_of_parts(count):
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(100, 20, generator=generator).double() @ torch.randn(20, 20, generator=generator).double()
    rows = torch.randn(count, 20, generator=generator).double() + 1
    parts = torch.ones(3, count, dtype=torch.bool)
    parts[1, :3] = False
    parts[2, 5:] = False
    got = frechet_distance_of_parts(real.mean(0), torch.cov(real.T), rows, parts)
    for part, distance in zip(parts, got, strict=True):
        expected = frechet_distance(real.mean(0), torch.cov(real.T), rows[part].mean(0), torch.cov(rows[part].T))
        assert float(distance) == pytest.approx(float(expected), rel=1e-6)


@pytest.mark.parametrize(("real", "generated"), [(1, 5), (5, 1)])
def test_too_few_samples(real, generated):
    with pytest.raises(ValueError, match="at least 2 images on either side; got 1"):
        _fid(_features(0, real), _features(1, generated))
