"""How much the content of images of one emotion differs (Sem-D)."""

from __future__ import annotations

from uniemo.metrics.base import PairMetric


class SemD(PairMetric):
    """Semantic diversity: mean squared error between the CLIP features of pairs of images of one emotion.

    At least 0, higher is richer. Takes the output ``sem_d``: image features (B, E), not normalised, as in EmoGen (Yang
    et al. 2024).

    Example:
        >>> import numpy as np, torch
        >>> from uniemo.metrics.pairs import PairPlan
        >>> pairs = PairPlan(np.array([0, 0]), np.array([1, 2]), np.array([0, 0]))
        >>> metric = SemD(pairs)
        >>> metric.update(torch.eye(4), emotion=torch.zeros(4, dtype=torch.long), index=torch.arange(4))
        >>> float(metric.compute()["Sem-D"][0, 0])
        0.5
    """

    name = "Sem-D"
    needs = ("sem_d",)

    def scale(self, size: int) -> float:
        """Return 1 / E: squared differences are averaged over features."""
        return 1.0 / size
