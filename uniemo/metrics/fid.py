"""Fréchet distance between two sets of features (FID), and beside it the kernel distance (KID)."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat
from torchmetrics.utilities.distributed import gather_all_tensors

from uniemo.errors import UniEmoError
from uniemo.metrics.base import SuiteMetric, require_finite
from uniemo.metrics.bootstrap import FOLDS, jackknife_interval
from uniemo.metrics.frechet import frechet_distance, frechet_distance_of_parts
from uniemo.metrics.kid import kernel_estimates
from uniemo.metrics.pairs import EvaluationPlan
from uniemo.metrics.split import first_of_each

ROWS = 1000  # features kept of each emotion, for intervals and KID; 8 × 1000 × 2048 take 65 MB


@dataclass
class FeatureStatistics:
    """Sums of features by emotion and the first features: all that FID and KID need of a set of images.

    Memory does not grow with the images.

    Attributes:
        network: what the features come from (name, hash and view); sets of different ones are never compared.
        count: (C,) images of each emotion.
        total: (C, F) sums of features, float64.
        outer: (C, F, F) sums of their outer products, float64.
        rows: (n, F) features of the first :data:`ROWS` images of each emotion, float32.
        labels: (n,) their class indices.
    """

    network: str
    count: Tensor
    total: Tensor
    outer: Tensor
    rows: Tensor
    labels: Tensor

    @classmethod
    def zeros(cls, num_emotions: int, feature_dim: int, network: str = "") -> FeatureStatistics:
        """Return the sums of no images."""
        shapes = (num_emotions,), (num_emotions, feature_dim), (num_emotions, feature_dim, feature_dim)
        count, total, outer = (torch.zeros(shape, dtype=torch.float64) for shape in shapes)
        return cls(network, count, total, outer, torch.zeros(0, feature_dim), torch.zeros(0, dtype=torch.long))

    def update(self, features: Tensor, emotion: Tensor) -> Tensor:
        """Add features (B, F) of images with class indices (B,) to the sums.

        Returns:
            (B,) bool, which features are to be kept as rows.
        """
        features, emotion = features.to(self.total.device).double(), emotion.to(self.total.device)
        kept = torch.zeros_like(emotion, dtype=torch.bool)
        for label in emotion.unique().tolist():
            mine = (emotion == label).nonzero().flatten()
            kept[mine[: max(0, ROWS - int(self.count[label]))]] = True
            part = features[mine]
            self.count[label] += len(part)
            self.total[label] += part.sum(dim=0)
            self.outer[label].addmm_(part.T, part)
        return kept

    def gaussian(self, emotion: int | None = None) -> tuple[Tensor, Tensor]:
        """Return mean (F,) and unbiased covariance (F, F) of one emotion or, pooled, of all; of at least two images."""
        part = slice(None) if emotion is None else slice(emotion, emotion + 1)
        count, total, outer = (sums[part].sum(dim=0) for sums in (self.count, self.total, self.outer))
        mean = total / count
        return mean, (outer - count * torch.outer(mean, mean)) / (count - 1)

    def cpu(self) -> FeatureStatistics:
        """Return the statistics on the CPU."""
        return FeatureStatistics(self.network, *(value.cpu() for value in self.state().values()))

    def sums(self) -> dict[str, Tensor]:
        """Return the sums by name."""
        return {"count": self.count, "total": self.total, "outer": self.outer}

    def state(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        return {**self.sums(), "rows": self.rows, "labels": self.labels}


class FID(SuiteMetric):
    """Fréchet distance between real and generated images (Heusel et al. 2017); at least 0, lower is better.

    Beside it KID, the kernel distance, which is unbiased where images are fewer than features
    (:func:`uniemo.metrics.kid.kernel_estimates`), between the first 1,000 images of each emotion on either side. Takes
    the output ``fid``: features (B, F). Over all images the sums over emotions are pooled. The real images are taken as
    given: intervals say what other images of the same generator would give. They come from leaving out each tenth of
    the (at most 1,000) features that are kept of each emotion.

    Attributes:
        real: statistics of the real images of all ranks, after :meth:`compute`.

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
    real_rows: list[Tensor]
    real_index: list[Tensor]
    real_emotion: list[Tensor]

    def __init__(self, num_emotions: int) -> None:
        super().__init__(dist_sync_fn=_gather_or_sum)
        self.num_emotions = num_emotions
        self.real: FeatureStatistics | None = None
        self._kept: Tensor | None = None
        for state in ("rows", "index", "emotion"):
            self.add_state(state, default=[], dist_reduce_fx="cat")
            self.add_state(f"real_{state}", default=[], dist_reduce_fx="cat")

    def setup(self, plan: EvaluationPlan, protocol: str) -> None:
        """Learn which images are the first of their emotion; without a plan, all features are kept."""
        self._kept = torch.from_numpy(plan.slot < ROWS)

    def _sums(self, side: str, feature_dim: int = 0) -> FeatureStatistics:
        """Return the states of one side, ``real`` or ``generated``; the first features say how wide they are."""
        if not hasattr(self, "generated_outer"):
            for name in ("real", "generated"):
                for key, value in FeatureStatistics.zeros(self.num_emotions, feature_dim).sums().items():
                    # torchmetrics keeps a copy of what it is given: one number in place of 270 MB
                    self.add_state(f"{name}_{key}", value.new_zeros(()).expand_as(value), dist_reduce_fx="sum")
                    setattr(self, f"{name}_{key}", value.to(self.device))
        if len(self.real_rows) == 0:  # a rank without real images has tensors to bring together, too
            self._keep_real(torch.zeros(0, self.real_total.shape[1]), *torch.zeros(2, 0, dtype=torch.long))
        count, total, outer = (getattr(self, f"{side}_{key}") for key in ("count", "total", "outer"))
        return FeatureStatistics("", count, total, outer, *torch.zeros(2, 0))

    def _keep_real(self, rows: Tensor, emotion: Tensor, index: Tensor) -> None:
        """Keep features (n, F) of real images with class indices (n,) and numbers (n,)."""
        for state, values in ((self.real_rows, rows.float()), (self.real_emotion, emotion), (self.real_index, index)):
            state.append(values.to(self.device))

    def update(self, *outputs: Tensor, emotion: Tensor, index: Tensor) -> None:
        """Add generated images by their features (B, F)."""
        (features,) = outputs
        require_finite(features, index)
        self._sums("generated", features.shape[1]).update(features, emotion)
        kept = slice(None) if self._kept is None else self._kept[index]
        for state, values in ((self.rows, features.float()), (self.index, index), (self.emotion, emotion)):
            state.append(values.to(self.device)[kept if isinstance(kept, slice) else kept.to(self.device)])

    def update_real(self, features: Tensor, emotion: Tensor, index: Tensor | None = None) -> None:
        """Add real images by their features (B, F) and class indices (B,).

        Args:
            features: (B, F).
            emotion: (B,).
            index: (B,) number of each among all ranks' real images, which says which are the first; None counts them,
                where one process has all.
        """
        require_finite(features, torch.arange(len(features)))
        sums = self._sums("real", features.shape[1])
        if index is None:
            first = int(sums.count.sum())
            index = torch.arange(first, first + len(features))
        kept = sums.update(features, emotion)
        self._keep_real(*(values.to(self.device)[kept] for values in (features, emotion, index)))

    def load_real(self, statistics: FeatureStatistics) -> None:
        """Add real images by their statistics; in a distributed run on one rank alone."""
        real = self._sums("real", statistics.total.shape[1])
        for key, sums in statistics.sums().items():
            real.sums()[key].add_(sums.to(self.device))
        self._keep_real(statistics.rows, statistics.labels, torch.arange(len(statistics.rows)))

    def real_statistics(self, network: str = "") -> FeatureStatistics | None:
        """Return the statistics of all ranks' real images, None without any; states have been brought together."""
        sums = self._sums("real")
        if not sums.count.any():
            return None
        rows, index, emotion = (dim_zero_cat(part) for part in (self.real_rows, self.real_index, self.real_emotion))
        order = first_of_each(index)
        first = torch.cat([order[emotion[order] == label][:ROWS] for label in range(self.num_emotions)])
        return replace(sums, network=network, rows=rows[first], labels=emotion[first])

    def compute(self) -> dict[str, Tensor]:
        """Return both distances, nothing without real images; UniEmoError with fewer than two images on a side."""
        self.real = self.real_statistics()
        if self.real is None:
            return {}
        generated = self._sums("generated")
        fewest = min(int(side.count.sum()) for side in (self.real, generated))
        if fewest < 2:
            raise UniEmoError(f"FID needs at least 2 images on either side; got {fewest}: evaluate more")
        first = first_of_each(dim_zero_cat(self.index))
        rows, emotion = dim_zero_cat(self.rows)[first], dim_zero_cat(self.emotion)[first]
        intervals = self.seed is not None
        fold = _folds(emotion)
        kernel = kernel_estimates(self.real.rows, self.real.labels, rows, emotion, fold, self.num_emotions, intervals)
        return {"FID": frechet_estimates(self.real, generated, rows, emotion, intervals), "KID": kernel}


def _folds(emotion: Tensor) -> Tensor:
    """Return which tenth of its emotion's rows each of (n,) rows is in: by turns, as they come."""
    fold = torch.zeros_like(emotion)
    for label in emotion.unique().tolist():
        fold[emotion == label] = torch.arange(int((emotion == label).sum()), device=fold.device) % FOLDS
    return fold


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
    fold = _folds(emotion)
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
