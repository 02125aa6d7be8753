"""How much the content of images of one emotion differs (Sem-D)."""

from __future__ import annotations

from uniemo.metrics.pairs import PairMetric


class SemanticDiversity(PairMetric):
    """Mean squared error between the image features of pairs of images of one emotion; higher is richer.

    The vectors are CLIP's image features (P, E), not normalised, as in EmoGen.

    Args:
        num_emotions: C.
        average: ``mean`` over emotions, each with the same weight, or ``none`` for (C,) values.

    Example:
        >>> import torch
        >>> metric = SemanticDiversity(num_emotions=1)
        >>> metric.update(torch.eye(4), torch.eye(4).roll(1, 0), torch.zeros(4, dtype=torch.long))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    @staticmethod
    def weight(size: int) -> float:
        """Return 1 / E: squared differences are averaged over features."""
        return 1.0 / size
