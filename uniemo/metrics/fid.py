"""Fréchet distance between two sets of features (FID)."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from uniemo.errors import UniEmoError


def frechet_distance(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> Tensor:
    """Return ‖m1 - m2‖² + tr(S1 + S2 - 2 (S1 S2)^½) of two Gaussians.

    The trace of the root is taken from the eigenvalues of S1^½ S2 S1^½, which is symmetric: no complex numbers, and no
    trouble with the singular covariances of few samples.

    Args:
        mean1: (F,).
        covariance1: (F, F).
        mean2: (F,).
        covariance2: (F, F).

    Returns:
        Scalar float64, at least 0.
    """
    mean1, covariance1, mean2, covariance2 = (x.double() for x in (mean1, covariance1, mean2, covariance2))
    values, vectors = torch.linalg.eigh(covariance1)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    inner = torch.linalg.eigvalsh(root @ covariance2 @ root).clamp(min=0)
    distance = (mean1 - mean2).square().sum() + covariance1.trace() + covariance2.trace() - 2 * inner.sqrt().sum()
    return distance.clamp(min=0)


def gaussian(total: Tensor, outer: Tensor, count: int, what: str = "features") -> tuple[Tensor, Tensor]:
    """Return mean and unbiased covariance from running sums.

    Args:
        total: (F,) sum of features, float64.
        outer: (F, F) sum of their outer products, float64.
        count: n.
        what: named in the error.

    Returns:
        (F,) and (F, F), float64.

    Raises:
        UniEmoError: n < 2.
    """
    if count < 2:
        raise UniEmoError(f"FID needs at least 2 {what} images; got {count}: evaluate more")
    mean = total / count
    return mean, (outer - count * torch.outer(mean, mean)) / (count - 1)


class FrechetDistance(Metric):
    """Fréchet distance between the features of real and of generated images, in memory that does not grow.

    Args:
        feature_dim: F.

    Example:
        >>> import torch
        >>> metric = FrechetDistance(feature_dim=1)
        >>> metric.update(torch.tensor([[0.0], [2.0]]), real=True)
        >>> metric.update(torch.tensor([[1.0], [3.0]]), real=False)
        >>> metric.compute()
        tensor(1., dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = False
    full_state_update = False

    def __init__(self, feature_dim: int) -> None:
        super().__init__()
        self.feature_dim = feature_dim
        for side in ("real", "generated"):
            self.add_state(f"{side}_sum", torch.zeros(feature_dim, dtype=torch.float64), dist_reduce_fx="sum")
            self.add_state(
                f"{side}_outer", torch.zeros(feature_dim, feature_dim, dtype=torch.float64), dist_reduce_fx="sum"
            )
            self.add_state(f"{side}_count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, features: Tensor, real: bool) -> None:
        """Add features.

        Args:
            features: (B, F).
            real: whether they come from real images.
        """
        side = "real" if real else "generated"
        features = features.double()
        getattr(self, f"{side}_sum").add_(features.sum(dim=0))
        getattr(self, f"{side}_outer").add_(features.T @ features)
        getattr(self, f"{side}_count").add_(len(features))

    def statistics(self, real: bool) -> tuple[Tensor, Tensor]:
        """Return mean (F,) and covariance (F, F) of one side.

        Raises:
            UniEmoError: fewer than two images on that side.
        """
        side = "real" if real else "generated"
        total, outer, count = (getattr(self, f"{side}_{name}") for name in ("sum", "outer", "count"))
        return gaussian(total, outer, int(count), side)

    def compute(self) -> Tensor:
        """Return the distance; UniEmoError with fewer than two images on either side."""
        return frechet_distance(*self.statistics(True), *self.statistics(False))
