"""How much images of one emotion differ to the eye (LPIPS)."""

from __future__ import annotations

from uniemo.metrics.pairs import PairMetric


class PairwiseDistance(PairMetric):
    """Mean perceptual distance of pairs of images of one emotion; higher is more diverse.

    The vectors are the ``maps`` of a network of role ``lpips`` (their squared Euclidean distance is LPIPS) or
    :func:`uniemo.metrics.clip_networks.block_vectors` (an LPIPS-style distance).

    Args:
        num_emotions: C.
        average: ``mean`` over emotions, each with the same weight, or ``none`` for (C,) values.

    Example:
        >>> import torch
        >>> metric = PairwiseDistance(num_emotions=1)
        >>> metric.update(torch.eye(3), torch.eye(3).roll(1, 0), torch.zeros(3, dtype=torch.long))
        >>> metric.compute()
        tensor(2., dtype=torch.float64)
    """

    @staticmethod
    def weight(size: int) -> float:
        """Return 1: the vectors hold the averages over positions and layers already."""
        return 1.0
