"""How much the content of images of one emotion differs (Sem-D)."""

from __future__ import annotations

from uniemo.metrics.pairs import PairMetric


class SemanticDiversity(PairMetric):
    """Mean squared error between the image features of random pairs inside one emotion; higher is richer.

    The vectors are image features (B, E), not normalised, as in EmoGen.

    Args:
        num_emotions: C.
        pairs: pairs of each emotion; all where fewer exist.
        seed: of the draw.
        average: ``mean`` over emotions, each with the same weight, or ``none`` for (C,) values.

    Example:
        >>> import torch
        >>> metric = SemanticDiversity(num_emotions=1)
        >>> metric.update(torch.eye(4), torch.zeros(4, dtype=torch.long), torch.arange(4))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    def weight(self, size: int) -> float:
        """Return 1 / E: squared differences are averaged over features."""
        return 1.0 / size
