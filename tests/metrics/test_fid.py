import numpy as np
import pytest
import torch
from cleanfid.fid import frechet_distance as clean_fid

from uniemo.errors import UniEmoError
from uniemo.metrics import FrechetDistance, frechet_distance


def _features(seed, n=200, size=12):
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(size, size, generator=generator)
    return torch.randn(n, size, generator=generator) @ mix + torch.randn(size, generator=generator)


def _metric(real, generated, batch=64):
    metric = FrechetDistance(real.shape[1])
    for part in real.split(batch):
        metric.update(part, real=True)
    for part in generated.split(batch):
        metric.update(part, real=False)
    return metric


@pytest.mark.parametrize("n", [200, 5])  # with 5 samples of 12 features the covariance is singular
def test_agrees_with_clean_fid(n):
    real, generated = _features(0, n), _features(1, n)
    arrays = real.double().numpy(), generated.double().numpy()
    reference = clean_fid(*(f(x) for x in arrays for f in (lambda x: x.mean(0), lambda x: np.cov(x, rowvar=False))))
    assert float(_metric(real, generated).compute()) == pytest.approx(float(reference), rel=1e-4)


def test_closed_form_gaussians():
    mean1, mean2 = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0.0, 2.0, 5.0])
    std1, std2 = torch.tensor([1.0, 2.0, 0.0]), torch.tensor([3.0, 2.0, 1.0])
    expected = (mean1 - mean2).square().sum() + (std1 - std2).square().sum()  # commuting covariances
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    first, second = (turn @ torch.diag(std.double() ** 2) @ turn.T for std in (std1, std2))
    assert float(frechet_distance(mean1, first, mean2, second)) == pytest.approx(float(expected), abs=1e-6)


def test_identity_symmetry_and_order():
    real, generated = _features(0), _features(1)
    assert float(_metric(real, real).compute()) == pytest.approx(0, abs=1e-6)
    distance = float(_metric(real, generated).compute())
    assert float(_metric(generated, real).compute()) == pytest.approx(distance, rel=1e-9)
    shuffled = generated[torch.randperm(len(generated), generator=torch.Generator().manual_seed(0))]
    assert float(_metric(real, shuffled, batch=7).compute()) == pytest.approx(distance, rel=1e-9)


def test_far_from_the_origin_keeps_its_precision():
    real, generated = _features(0), _features(1)
    shifted = _metric(real.double() + 100, generated.double() + 100).compute()
    assert float(shifted) == pytest.approx(float(_metric(real, generated).compute()), rel=1e-4)


def test_two_ranks_equal_one():
    real, generated = _features(0), _features(1)
    ranks = [_metric(real[:80], generated[:150]), _metric(real[80:], generated[150:])]
    together = FrechetDistance(real.shape[1])
    assert set(together._reductions.values()) == {torch.sum} or all(
        reduction.__name__ == "dim_zero_sum" for reduction in together._reductions.values()
    )
    for name in together._defaults:
        setattr(together, name, sum(getattr(rank, name) for rank in ranks))
    together._update_count = 1
    assert float(together.compute()) == pytest.approx(float(_metric(real, generated).compute()), rel=1e-9)


def test_too_few_samples():
    for real, generated, side in ((1, 5, "real"), (5, 1, "generated")):
        with pytest.raises(UniEmoError, match=rf"at least 2 {side} images; got 1"):
            _metric(_features(0, real), _features(1, generated)).compute()
