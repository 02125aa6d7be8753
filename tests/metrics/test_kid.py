import numpy as np
import pytest
import torch
from cleanfid.fid import kernel_distance
from scipy.stats import t as student
from torchmetrics.image.kid import poly_mmd

from uniemo.metrics import FID
from uniemo.metrics.kid import kernel_estimates, kernel_sums


def features(seed, n, size=12):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(n, size, generator=generator).double() + seed / 10


def kid(real, generated, emotions=1, real_emotion=None, emotion=None, folds=10, intervals=True):
    real_emotion = torch.zeros(len(real), dtype=torch.long) if real_emotion is None else real_emotion
    emotion = torch.zeros(len(generated), dtype=torch.long) if emotion is None else emotion
    fold = torch.zeros_like(emotion)
    for label in range(emotions):
        fold[emotion == label] = torch.arange(int((emotion == label).sum())) % folds
    return kernel_estimates(real, real_emotion, generated, emotion, fold, emotions, intervals)


def by_hand(real, generated):
    """The unbiased estimate, pair by pair."""
    x, y = real.numpy(), generated.numpy()
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    inside = [(k(a, a).sum() - np.trace(k(a, a))) / (len(a) * (len(a) - 1)) for a in (x, y)]
    return sum(inside) - 2 * k(x, y).mean()


def test_agrees_with_torchmetrics_and_clean_fid():
    real, generated = features(0, 40), features(1, 40)
    value = float(kid(real, generated)[0, 0])
    assert value == pytest.approx(float(poly_mmd(real, generated)), rel=1e-9)
    # their subsets of all images are all images
    theirs = kernel_distance(real.numpy(), generated.numpy(), num_subsets=2, max_subset_size=40)
    assert value == pytest.approx(float(theirs), rel=1e-9)
    assert value == pytest.approx(by_hand(real, generated), rel=1e-9)


def test_each_emotion_and_unequal_sides():
    real, generated = features(0, 50), features(1, 31)
    real_emotion, emotion = torch.arange(50) % 3, torch.arange(31) % 2
    found = kid(real, generated, 3, real_emotion, emotion)
    assert float(found[0, 0]) == pytest.approx(by_hand(real, generated), rel=1e-9)
    for label in (0, 1):
        expected = by_hand(real[real_emotion == label], generated[emotion == label])
        assert float(found[1 + label, 0]) == pytest.approx(expected, rel=1e-9)
    assert found[3].isnan().all()


def test_the_interval_leaves_out_a_fold_at_a_time():
    real, generated = features(0, 40), features(1, 25)
    value, low, high = kid(real, generated)[0].tolist()
    without = np.array([by_hand(real, generated[torch.arange(25) % 10 != k]) for k in range(10)])
    reach = student.ppf(0.975, 9) * np.sqrt(0.9 * ((without - without.mean()) ** 2).sum())
    assert (low, high) == pytest.approx((value - reach, value + reach), rel=1e-9)
    assert kid(real, generated, intervals=False)[0, 1:].isnan().all()


def test_it_is_unbiased_and_may_be_negative():
    """Two samples of one distribution: zero on average, below zero about as often as above, and so is the interval."""
    values = [
        kid(features(0, 20), features(0, 220)[20 + 10 * k : 30 + 10 * k], intervals=False)[0, 0] for k in range(20)
    ]
    assert min(values) < 0 < max(values)
    assert float(torch.stack(values).mean()) == pytest.approx(0, abs=0.01)
    assert kid(features(0, 20), features(0, 20))[0, 1] < 0


def test_sums_do_not_depend_on_the_stretch(monkeypatch):
    first, second = features(0, 25), features(1, 9)
    groups = torch.arange(25) % 4, torch.arange(9) % 2
    whole = kernel_sums(first, groups[0], second, groups[1], (4, 2))
    monkeypatch.setattr("uniemo.metrics.kid._STRETCH", 4)
    torch.testing.assert_close(kernel_sums(first, groups[0], second, groups[1], (4, 2)), whole)


def test_the_first_real_images_of_each_emotion_are_kept(monkeypatch):
    """Whichever rank has seen them: two ranks keep the first of their own images, of all only the first count."""
    monkeypatch.setattr("uniemo.metrics.fid.ROWS", 6)
    real, generated = features(0, 40).float(), features(1, 12).float()
    emotion = (torch.arange(40) // 2) % 2
    metric = FID(2)
    for rank in (1, 0):
        part = FID(2)
        rows = torch.arange(rank, 40, 2)
        part.update_real(real[rows], emotion[rows], rows)
        assert sum(map(len, part.real_rows)) == 12
        for state in ("real_rows", "real_index", "real_emotion"):
            getattr(metric, state).extend(getattr(part, state))
        for name, sums in part._sums("real").sums().items():
            metric._sums("real", 12).sums()[name] += sums
    metric.update(generated, emotion=torch.arange(12) % 2, index=torch.arange(12))
    kept = torch.cat([real[emotion == label][:6] for label in (0, 1)])
    found = metric.compute()
    assert torch.equal(metric.real.rows, kept)
    assert float(found["KID"][0, 0]) == pytest.approx(by_hand(kept.double(), generated.double()), rel=1e-5)
    again = FID(2)
    again.load_real(metric.real)
    again.update(generated, emotion=torch.arange(12) % 2, index=torch.arange(12))
    for name, estimates in again.compute().items():
        torch.testing.assert_close(estimates, found[name], equal_nan=True)
