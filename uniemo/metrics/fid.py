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
    root = matrix_root(covariance1)
    return _distance(mean1, covariance1.trace(), mean2, covariance2.trace(), root @ covariance2 @ root)


def matrix_root(covariance: Tensor) -> Tensor:
    """Return the symmetric root (F, F) of a covariance; rounding errors below zero are taken as zero."""
    values, vectors = torch.linalg.eigh(covariance.double())
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _distance(mean1: Tensor, trace1: Tensor, mean2: Tensor, trace2: Tensor, product: Tensor) -> Tensor:
    """Return the distance, given a symmetric matrix with the non-zero eigenvalues of S1 S2."""
    values = torch.linalg.eigvalsh(product)
    # What rounding leaves of a zero, 1e-16 of the largest, would have a root of 1e-8 of its root: F of them add up.
    values = values.where(values > values[-1] * len(values) * torch.finfo(values.dtype).eps, 0.0)
    distance = (mean1 - mean2).square().sum() + trace1 + trace2 - 2 * values.sqrt().sum()
    return distance.clamp(min=0)


def frechet_distance_of_parts(mean: Tensor, covariance: Tensor, rows: Tensor, parts: Tensor) -> Tensor:
    """Return the distances of a Gaussian to several parts of one set of features.

    With n ≤ F rows it is enough to look at n × n: S2 = XᵀX / (n - 1) with centred rows X has rank below n, and S1 S2
    has the non-zero eigenvalues of X S1 Xᵀ / (n - 1). One such matrix serves all parts.

    Args:
        mean: (F,) of the Gaussian.
        covariance: (F, F).
        rows: (n, F).
        parts: (K, n) bool, which rows each part has; at least two.

    Returns:
        (K,) float64, as :func:`frechet_distance` of each part's mean and covariance.
    """
    mean, covariance, rows = mean.double(), covariance.double(), rows.double()
    offset = rows.mean(dim=0)
    centred = rows - offset  # (n, F)
    trace = covariance.trace()
    small = len(rows) <= rows.shape[1]
    if small:
        inner = centred @ covariance @ centred.T  # (n, n)
        square = centred.square().sum(dim=1)  # (n,)
    else:
        root, outer = matrix_root(covariance), centred.T @ centred  # (F, F)
    distances = []
    for keep in parts:
        n, middle = int(keep.sum()), centred[keep].mean(dim=0)
        if small:
            product = inner[keep][:, keep]
            product = product - product.mean(dim=0) - product.mean(dim=1, keepdim=True) + product.mean()
            product = (product + product.T) / (2 * (n - 1))
            spread = (square[keep].sum() - n * middle.square().sum()) / (n - 1)
        else:
            left = centred[~keep]
            scatter = (outer - left.T @ left - n * torch.outer(middle, middle)) / (n - 1)
            product, spread = root @ scatter @ root, scatter.trace()
        distances.append(_distance(mean, trace, offset + middle, spread, product))
    return torch.stack(distances)


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


def check_finite(values: Tensor, what: str, names: list[str] | None = None) -> None:
    """Raise UniEmoError when a row of (B, …) holds NaN or infinity.

    Args:
        values: what a network gave.
        what: named in the error.
        names: of the B images; None counts them.
    """
    bad = (~values.flatten(1).isfinite().all(dim=1)).nonzero()
    if len(bad):
        row = int(bad[0])
        raise UniEmoError(
            f"{what} must be finite; got NaN or infinity for image {names[row] if names else row}"
            f"{f' and {len(bad) - 1} more' if len(bad) > 1 else ''}: look at the image and at the network's weights"
        )


class FeatureStatistics:
    """Running sums of features by emotion: all that FID needs of a set of images, in memory that does not grow.

    Args:
        num_emotions: C.
        feature_dim: F.
        network: what the features come from (name, hash and view); sets of different ones are never compared.
        device: where the sums are kept, float64.

    Attributes:
        count: (C,) images of each emotion, int64.
        total: (C, F) sums of features.
        outer: (C, F, F) sums of their outer products.
    """

    def __init__(self, num_emotions: int, feature_dim: int, network: str, device: torch.device | str = "cpu") -> None:
        self.network = network
        self.count = torch.zeros(num_emotions, dtype=torch.long, device=device)
        self.total = torch.zeros(num_emotions, feature_dim, dtype=torch.float64, device=device)
        self.outer = torch.zeros(num_emotions, feature_dim, feature_dim, dtype=torch.float64, device=device)

    def update(self, features: Tensor, emotion: Tensor) -> None:
        """Add features (B, F) of images with class indices (B,)."""
        features = features.to(self.total)
        for label in emotion.unique().tolist():
            part = features[emotion.to(features.device) == label]
            self.count[label] += len(part)
            self.total[label] += part.sum(dim=0)
            self.outer[label].addmm_(part.T, part)

    def gaussian(self, emotion: int | None = None, what: str = "features") -> tuple[Tensor, Tensor]:
        """Return mean (F,) and covariance (F, F) of one emotion or, pooled, of all.

        Raises:
            UniEmoError: fewer than two images.
        """
        if emotion is None:
            return gaussian(self.total.sum(dim=0), self.outer.sum(dim=0), int(self.count.sum()), what)
        return gaussian(self.total[emotion], self.outer[emotion], int(self.count[emotion]), what)

    def state(self) -> dict[str, Tensor]:
        """Return the sums, fit for a safetensors file."""
        return {"count": self.count, "total": self.total, "outer": self.outer}

    @classmethod
    def from_state(cls, state: dict[str, Tensor], network: str) -> FeatureStatistics:
        """Rebuild from :meth:`state`."""
        statistics = cls(0, 0, network)
        statistics.count, statistics.total, statistics.outer = state["count"], state["total"], state["outer"]
        return statistics


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

        Raises:
            UniEmoError: a feature that is not finite.
        """
        check_finite(features, "features")
        side = "real" if real else "generated"
        features = features.double()
        getattr(self, f"{side}_sum").add_(features.sum(dim=0))
        getattr(self, f"{side}_outer").addmm_(features.T, features)
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
