"""The mixture of Gaussians of an emotion's features, against sums written out here."""

import math

import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.models.mixture import Mixture, fit_mixture


def modes(count, images, distance=20.0, width=6, seed=0):
    """Images around ``count`` far modes, (count · images, width), and the mode of each."""
    generator = torch.Generator().manual_seed(seed)
    centre = distance * torch.randn(count, width, generator=generator)
    label = torch.arange(count).repeat_interleave(images)
    return centre[label] + torch.randn(len(label), width, generator=generator), label


def test_density_is_the_sum_over_components():
    generator = torch.Generator().manual_seed(1)
    weight = torch.tensor([0.2, 0.8])
    mean, std = torch.randn(2, 3, generator=generator), 0.5 + torch.rand(2, 3, generator=generator)
    points = torch.randn(5, 3, generator=generator)
    found = Mixture(weight, mean, std).log_density(points)
    for point, value in zip(points.tolist(), found.tolist(), strict=True):
        density = 0.0
        for k in range(2):
            part = float(weight[k])
            for x, m, s in zip(point, mean[k].tolist(), std[k].tolist(), strict=True):
                part *= math.exp(-((x - m) ** 2) / (2 * s * s)) / (s * math.sqrt(2 * math.pi))
            density += part
        assert value == pytest.approx(math.log(density), rel=1e-5)


def test_components_are_the_modes_with_shrunk_variances():
    rows, label = modes(3, 10)
    rows, label = rows[:25], label[:25]  # 10, 10 and 5 images
    found = fit_mixture(rows, components=3)
    wanted = [rows[label == mode].double() for mode in range(3)]
    pooled = sum(((part - part.mean(0)) ** 2).sum(0) for part in wanted) / (25 - 3)
    for part in wanted:
        k = int((found.mean - part.mean(0)).abs().sum(1).argmin())
        assert float(found.weight[k]) == pytest.approx(len(part) / 25)
        torch.testing.assert_close(found.mean[k], part.mean(0))
        variance = (((part - part.mean(0)) ** 2).sum(0) + 8 * pooled) / (len(part) - 1 + 8)
        torch.testing.assert_close(found.std[k], variance.sqrt())


def test_as_many_components_as_make_held_out_images_likeliest():
    assert len(fit_mixture(modes(8, 25)[0]).weight) in (8, 16)  # k-means may cut a mode in two
    assert len(fit_mixture(torch.randn(200, 6, generator=torch.Generator().manual_seed(0))).weight) == 1
    assert len(fit_mixture(modes(8, 1)[0]).weight) <= 2  # eight images show no eight modes


def test_the_same_seed_gives_the_same_mixture():
    rows, _ = modes(5, 12)
    first, again, other = fit_mixture(rows, 3), fit_mixture(rows, 3), fit_mixture(rows, 4)
    for name in ("weight", "mean", "std"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.mean, other.mean)


def test_few_images():
    rows, _ = modes(3, 1)
    found = fit_mixture(rows)
    torch.testing.assert_close(found.mean, rows.double().mean(0, keepdim=True))
    torch.testing.assert_close(found.std[0], rows.double().std(0) * math.sqrt((2 + 8) / (3 - 1 + 8)))
    one = fit_mixture(rows[:1])
    assert torch.equal(one.mean, rows[:1].double())
    assert not one.std.any()
    assert fit_mixture(rows, components=8).weight.tolist() == pytest.approx([1 / 3] * 3)  # never more than images


def test_equal_images_and_constant_axes():
    assert fit_mixture(torch.ones(40, 3)).std.tolist() == [[0, 0, 0]]
    rows, _ = modes(4, 20)
    rows[:, 0] = 2.0
    found = fit_mixture(rows)
    assert (found.mean[:, 0] == 2).all()
    assert found.log_density(rows.double()).isfinite().all()
    with pytest.raises(UniEmoError, match="training has diverged"):
        fit_mixture(torch.tensor([[1.0, math.nan]]))
