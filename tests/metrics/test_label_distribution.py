"""The six measures of label distributions against their definitions, written out in plain Python."""

import math

import pytest
import torch

from uniemo.metrics.label_distribution import MEASURES, distribution_metrics


def by_hand(d, p):
    """Geng 2016, section 4.2, for one pair; terms of 0 / 0 and 0 · ln 0 are 0."""
    relative = [abs(a - b) / (a + b) if a + b else 0.0 for a, b in zip(d, p, strict=True)]
    return {
        "chebyshev": max(abs(a - b) for a, b in zip(d, p, strict=True)),
        "clark": math.sqrt(sum(value**2 for value in relative)),
        "canberra": sum(relative),
        "kl": sum(a * math.log(a / b) for a, b in zip(d, p, strict=True) if a),
        "cosine": sum(a * b for a, b in zip(d, p, strict=True)) / math.hypot(*d) / math.hypot(*p),
        "intersection": sum(map(min, d, p)),
    }


def pairs(count=23, classes=8):
    generator = torch.Generator().manual_seed(0)
    votes = torch.multinomial(torch.rand(count, classes, generator=generator), 11, True, generator=generator)
    target = torch.nn.functional.one_hot(votes, classes).float().mean(dim=1)  # 11 votes each, many emotions with none
    predicted = torch.randn(count, classes, generator=generator).softmax(dim=1)
    predicted[:, 3] = 0  # as where no class of the model stands for an emotion
    target[:, 3] = 0
    return predicted / predicted.sum(dim=1, keepdim=True), target / target.sum(dim=1, keepdim=True)


def test_means_are_those_by_hand_and_repeats_count_once():
    predicted, target = pairs()
    metrics = distribution_metrics()
    for rows in torch.randperm(23).split(10):
        metrics.update(predicted[rows], target[rows], rows)
    metrics.update(predicted[:4], target[:4], torch.arange(4))  # what a distributed sampler pads with
    found = metrics.compute()
    each = [by_hand(d, p) for d, p in zip(target.tolist(), predicted.tolist(), strict=True)]
    assert found.keys() == MEASURES.keys() == each[0].keys()
    for name, value in found.items():
        assert value.shape == ()
        assert float(value) == pytest.approx(sum(row[name] for row in each) / 23, rel=1e-5), name


@pytest.mark.parametrize("name", MEASURES)
def test_a_distribution_against_itself_and_the_farthest(name):
    kind = MEASURES[name]
    target = torch.eye(4)
    best, worst = kind(), kind()
    best.update(target, target, torch.arange(4))
    worst.update(target.roll(1, 0), target, torch.arange(4))
    bounds = {"chebyshev": 1, "clark": math.sqrt(2), "canberra": 2, "kl": math.log(1e6)}
    assert float(best.compute()) == pytest.approx(float(kind.higher_is_better), abs=1e-6)
    assert float(worst.compute()) == pytest.approx(bounds.get(name, 0), rel=1e-5)


def test_metrics_that_agree_at_first_do_not_share_their_state():
    metrics = distribution_metrics()
    metrics.update(torch.eye(2), torch.eye(2), torch.arange(2))  # all four distances are 0
    metrics.update(torch.tensor([[0.75, 0.25]]), torch.tensor([[0.25, 0.75]]), torch.tensor([2]))
    found = {name: float(value) * 3 for name, value in metrics.compute().items()}
    assert [found[name] for name in ("chebyshev", "clark", "canberra")] == pytest.approx([0.5, 0.5**0.5, 1.0])
