"""Fréchet distance between two sets of features (FID)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from uniemo.errors import UniEmoError
from uniemo.metrics.base import SuiteMetric, require_finite
from uniemo.metrics.bootstrap import FOLDS, jackknife_interval
from uniemo.metrics.pairs import EvaluationPlan
from uniemo.metrics.split import first_of_each

ROWS = 1000  # features kept of each emotion, for the intervals alone; 8 × 1000 × 2048 take 65 MB


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


@dataclass
class FeatureStatistics:
    """Sums of features by emotion: all that FID needs of a set of images, in memory that does not grow.

    Attributes:
        network: what the features come from (name, hash and view); sets of different ones are never compared.
        count: (C,) images of each emotion.
        total: (C, F) sums of features, float64.
        outer: (C, F, F) sums of their outer products, float64.
    """

    network: str
    count: Tensor
    total: Tensor
    outer: Tensor

    @classmethod
    def zeros(
        cls, num_emotions: int, feature_dim: int, network: str = "", device: torch.device | str = "cpu"
    ) -> FeatureStatistics:
        """Return the sums of no images."""
        shapes = (num_emotions,), (num_emotions, feature_dim), (num_emotions, feature_dim, feature_dim)
        return cls(network, *(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))

    def update(self, features: Tensor, emotion: Tensor) -> None:
        """Add features (B, F) of images with class indices (B,)."""
        features = features.to(self.total.device).double()
        for label in emotion.unique().tolist():
            part = features[emotion.to(features.device) == label]
            self.count[label] += len(part)
            self.total[label] += part.sum(dim=0)
            self.outer[label].addmm_(part.T, part)

    def gaussian(self, emotion: int | None = None) -> tuple[Tensor, Tensor]:
        """Return mean (F,) and unbiased covariance (F, F) of one emotion or, pooled, of all; of at least two images."""
        part = slice(None) if emotion is None else slice(emotion, emotion + 1)
        count, total, outer = (sums[part].sum(dim=0) for sums in (self.count, self.total, self.outer))
        mean = total / count
        return mean, (outer - count * torch.outer(mean, mean)) / (count - 1)

    def state(self) -> dict[str, Tensor]:
        """Return the sums by name."""
        return {"count": self.count, "total": self.total, "outer": self.outer}


class FID(SuiteMetric):
    """Fréchet distance between real and generated images (Heusel et al. 2017); at least 0, lower is better.

    Over all images the sums over emotions are pooled. Takes the output ``fid``: features (B, F). The real images are
    taken as given: the interval says what other images of the same generator would give. It comes from leaving out each
    tenth of the (at most 1,000) features that are kept of each emotion.

    Attributes:
        real: sums of the real images of all ranks, after :meth:`compute`.

    Example:
        >>> import torch
        >>> metric = FID(num_emotions=1)
        >>> emotion = torch.tensor([0, 0])
        >>> metric.update_real(torch.tensor([[0.0], [2.0]]), emotion)
        >>> metric.update(torch.tensor([[1.0], [3.0]]), emotion=emotion, index=torch.tensor([0, 1]))
        >>> round(float(metric.compute()["FID"][0, 0]), 6)
        1.0
    """

    name = "FID"
    needs = ("fid",)
    higher_is_better = False
    rows: list[Tensor]
    index: list[Tensor]
    emotion: list[Tensor]

    def __init__(self, num_emotions: int) -> None:
        super().__init__(dist_sync_fn=_gather_or_sum)
        self.num_emotions = num_emotions
        self.real: FeatureStatistics | None = None
        self._kept: Tensor | None = None
        for state in ("rows", "index", "emotion"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def setup(self, plan: EvaluationPlan, protocol: str) -> None:
        """Learn which images are the first of their emotion; without a plan, all features are kept."""
        self._kept = torch.from_numpy(plan.slot < ROWS)

    def _statistics(self, side: str, feature_dim: int = 0) -> FeatureStatistics:
        """Return the states of one side, ``real`` or ``generated``; the first features say how wide they are."""
        if not hasattr(self, "generated_outer"):
            for name in ("real", "generated"):
                for key, zeros in FeatureStatistics.zeros(self.num_emotions, feature_dim).state().items():
                    self.add_state(f"{name}_{key}", zeros, dist_reduce_fx="sum")
            self.to(self.device)
        return FeatureStatistics("", *(getattr(self, f"{side}_{key}") for key in ("count", "total", "outer")))

    def update(self, *outputs: Tensor, emotion: Tensor, index: Tensor) -> None:
        """Add generated images by their features (B, F)."""
        (features,) = outputs
        require_finite(features, index)
        self._statistics("generated", features.shape[1]).update(features, emotion)
        kept = slice(None) if self._kept is None else self._kept[index]
        for state, values in ((self.rows, features.float()), (self.index, index), (self.emotion, emotion)):
            state.append(values.to(self.device)[kept if isinstance(kept, slice) else kept.to(self.device)])

    def update_real(self, features: Tensor, emotion: Tensor) -> None:
        """Add real images by their features (B, F) and class indices (B,)."""
        require_finite(features, torch.arange(len(features)))
        self._statistics("real", features.shape[1]).update(features, emotion)

    def load_real(self, statistics: FeatureStatistics) -> None:
        """Add real images by their sums; in a distributed run on one rank alone."""
        real = self._statistics("real", statistics.total.shape[1])
        for key, sums in statistics.state().items():
            real.state()[key].add_(sums.to(self.device))

    def compute(self) -> dict[str, Tensor]:
        """Return the distance, nothing without real images; UniEmoError with fewer than two images on a side."""
        self.real = self._statistics("real")
        if not self.real.count.any():
            self.real = None
            return {}
        generated = self._statistics("generated")
        fewest = min(int(side.count.sum()) for side in (self.real, generated))
        if fewest < 2:
            raise UniEmoError(f"FID needs at least 2 images on either side; got {fewest}: evaluate more")
        rows = first_of_each(dim_zero_cat(self.index))
        kept, emotion = dim_zero_cat(self.rows)[rows], dim_zero_cat(self.emotion)[rows]
        distance = frechet_estimates(self.real, generated, kept, emotion, self.seed is not None)
        return {"FID": distance}


def frechet_estimates(
    real: FeatureStatistics, generated: FeatureStatistics, rows: Tensor, emotion: Tensor, intervals: bool = True
) -> Tensor:
    """Return the Fréchet distance and its interval, of all images and of each emotion that both sides have.

    Args:
        real: sums of real images.
        generated: sums of generated images.
        rows: (n, F) features of some generated images, for the intervals.
        emotion: (n,) their class indices.
        intervals: whether to work intervals out.

    Returns:
        (1 + C, 3): value, low and high end.
    """
    fold = torch.zeros_like(emotion)
    for label in emotion.unique().tolist():
        fold[emotion == label] = torch.arange(int((emotion == label).sum()), device=fold.device) % FOLDS
    result = torch.full((1 + len(real.count), 3), torch.nan, dtype=torch.float64)
    for label in (None, *((real.count >= 2) & (generated.count >= 2)).nonzero().flatten().tolist()):
        mean, covariance = real.gaussian(label)
        mine = torch.ones_like(emotion, dtype=torch.bool) if label is None else emotion == label
        part, folds = rows[mine], fold[mine]
        count = int(generated.count.sum() if label is None else generated.count[label])
        keep = torch.stack([folds != k for k in range(int(folds.max()) + 1)])  # (K, n)
        if not intervals or int(keep.sum(dim=1).min()) < 2:
            keep = keep[:0]
        if len(part) == count:
            keep = torch.cat([keep.new_ones(1, count), keep])
            value, *without = frechet_distance_of_parts(mean, covariance, part, keep).tolist()
        else:
            value = float(frechet_distance(mean, covariance, *generated.gaussian(label)))
            without = frechet_distance_of_parts(mean, covariance, part, keep).tolist() if len(keep) else []
        low, high = jackknife_interval(value, without, math.sqrt(len(part) / count))
        result[0 if label is None else 1 + label] = torch.tensor([value, low, high], dtype=torch.float64)
    return result


def _gather_or_sum(state: Tensor, group: Any = None) -> list[Tensor]:  # noqa: ANN401
    """Return what all ranks have: rows one after the other, sums (float64) added up, since R of them are large."""
    if state.dtype != torch.float64:
        return gather_all_tensors(state, group)
    total = state.clone()
    dist.all_reduce(total, group=group)
    return [total]
