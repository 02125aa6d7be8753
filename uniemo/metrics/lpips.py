"""How much images of one emotion differ to the eye (LPIPS-style)."""

from __future__ import annotations

from uniemo.metrics.pairs import PairMetric


class PairwiseDistance(PairMetric):
    """Mean perceptual distance of random pairs inside one emotion; higher is more diverse.

    The vectors are :func:`uniemo.metrics.networks.block_vectors`, whose squared Euclidean distance is LPIPS-style.

    Args:
        num_emotions: C.
        pairs: pairs of each emotion; all where fewer exist.
        seed: of the draw.
        average: ``mean`` over emotions, each with the same weight, or ``none`` for (C,) values.

    Example:
        >>> import torch
        >>> metric = PairwiseDistance(num_emotions=1)
        >>> metric.update(torch.eye(3), torch.zeros(3, dtype=torch.long), torch.arange(3))
        >>> metric.compute()
        tensor(2., dtype=torch.float64)
    """

    def weight(self, size: int) -> float:
        """Return 1: the vectors hold the averages over positions and blocks already."""
        return 1.0
