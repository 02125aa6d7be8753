"""How much images of one emotion differ to the eye (LPIPS)."""

from __future__ import annotations

from uniemo.metrics.base import PairMetric


class LPIPS(PairMetric):
    """Mean perceptual distance of pairs of images of one emotion; at least 0, higher is more diverse.

    Takes the output ``lpips``: vectors (B, V), the layers of an LPIPS network (Zhang et al. 2018) scaled such that the
    squared Euclidean distance of two vectors is LPIPS.

    Example:
        >>> import numpy as np, torch
        >>> from uniemo.metrics.pairs import PairPlan
        >>> pairs = PairPlan(np.array([0, 0]), np.array([1, 2]), np.array([0, 0]))
        >>> metric = LPIPS(pairs)
        >>> metric.update(torch.eye(3), emotion=torch.zeros(3, dtype=torch.long), index=torch.arange(3))
        >>> float(metric.compute()["LPIPS"][0, 0])
        2.0
    """

    name = "LPIPS"
    needs = ("lpips",)

    def scale(self, size: int) -> float:
        """Return 1: the vectors hold the averages over positions and layers already."""
        return 1.0
