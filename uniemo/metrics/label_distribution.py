"""The six measures of predicted against true label distributions (Geng, "Label Distribution Learning", TKDE 2016).

Four distances and two similarities of rows d (true) and p (predicted) over C classes, each row with the sum one.
"""

from __future__ import annotations

from abc import abstractmethod

import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection

from uniemo.metrics.split import SplitMean

LOWEST = 1e-6  # probability that log p takes where p is smaller, as torchmetrics' KLDivergence does


def chebyshev(predicted: Tensor, target: Tensor) -> Tensor:
    """Return max |d - p| of each row, (B,) in [0, 1], of two (B, C)."""
    return (target - predicted).abs().amax(dim=1)


def relative_differences(predicted: Tensor, target: Tensor) -> Tensor:
    """Return |d - p| / (d + p), (B, C) in [0, 1]; 0 where both are 0."""
    total = target + predicted
    return (target - predicted).abs() / total.where(total > 0, 1)


def clark(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the root of Σ (d - p)² / (d + p)² of each row, (B,) in [0, √C], of two (B, C)."""
    return relative_differences(predicted, target).square().sum(dim=1).sqrt()


def canberra(predicted: Tensor, target: Tensor) -> Tensor:
    """Return Σ |d - p| / (d + p) of each row, (B,) in [0, C], of two (B, C)."""
    return relative_differences(predicted, target).sum(dim=1)


def kullback_leibler(predicted: Tensor, target: Tensor) -> Tensor:
    """Return Σ d ln(d / p) of each row in nats, (B,), of two (B, C); p counts as at least ``LOWEST``."""
    return F.kl_div(predicted.clamp(min=LOWEST).log(), target, reduction="none").sum(dim=1)


def cosine(predicted: Tensor, target: Tensor) -> Tensor:
    """Return the cosine of the angle between d and p of each row, (B,) in [0, 1], of two (B, C)."""
    return F.cosine_similarity(predicted, target, dim=1)


def intersection(predicted: Tensor, target: Tensor) -> Tensor:
    """Return Σ min(d, p) of each row, (B,) in [0, 1], of two (B, C)."""
    return predicted.minimum(target).sum(dim=1)


class LabelDistributionMetric(SplitMean):
    """The mean of one measure over a split, each sample counted once."""

    @staticmethod
    @abstractmethod
    def measure(predicted: Tensor, target: Tensor) -> Tensor:
        """Return the measure of each row, (B,), of two (B, C)."""

    def update(self, predicted: Tensor, target: Tensor, sample_id: Tensor) -> None:  # type: ignore[override]
        """Add a batch: (B, C) predicted and true distributions, and ids, unique in the split."""
        super().update(self.measure(predicted.float(), target)[:, None], sample_id)

    def compute(self) -> Tensor:
        """Return the mean, a scalar."""
        return super().compute().squeeze(0)


class Chebyshev(LabelDistributionMetric):
    """Mean of :func:`chebyshev`."""

    higher_is_better = False
    measure = staticmethod(chebyshev)


class Clark(LabelDistributionMetric):
    """Mean of :func:`clark`."""

    higher_is_better = False
    measure = staticmethod(clark)


class Canberra(LabelDistributionMetric):
    """Mean of :func:`canberra`."""

    higher_is_better = False
    measure = staticmethod(canberra)


class KullbackLeibler(LabelDistributionMetric):
    """Mean of :func:`kullback_leibler`."""

    higher_is_better = False
    measure = staticmethod(kullback_leibler)


class Cosine(LabelDistributionMetric):
    """Mean of :func:`cosine`."""

    higher_is_better = True
    measure = staticmethod(cosine)


class Intersection(LabelDistributionMetric):
    """Mean of :func:`intersection`."""

    higher_is_better = True
    measure = staticmethod(intersection)


MEASURES: dict[str, type[LabelDistributionMetric]] = {  # by the names under which they are logged
    "chebyshev": Chebyshev,
    "clark": Clark,
    "canberra": Canberra,
    "kl": KullbackLeibler,
    "cosine": Cosine,
    "intersection": Intersection,
}


def distribution_metrics() -> MetricCollection:
    """Return the six."""
    metrics = {name: measure() for name, measure in MEASURES.items()}
    return MetricCollection(metrics, compute_groups=False)  # those that agree on the first batch would share one value
