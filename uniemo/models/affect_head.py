"""Valence and arousal of an image: the head beside the emotion head, its loss, and scales."""

from __future__ import annotations

import torch
from torch import Tensor

from uniemo.distributed import gather_rows
from uniemo.models.head import EmotionHead

Scale = tuple[float, float]  # least and greatest value


class AffectHead(EmotionHead):
    """The layers of the emotion head, from the (B, D) class token to (B, 2) valence and arousal.

    They are shares of their scale, in (0, 1): 0 is the least value of the data's scale, 1 the greatest.
    """

    def __init__(self, width: int, hidden: int | None = 768, dropout: float = 0.5) -> None:
        super().__init__(width, 2, hidden, dropout)

    def forward(self, cls: Tensor) -> Tensor:
        """Return (B, 2) valence and arousal of (B, D) class tokens, in (0, 1)."""
        return super().forward(cls).sigmoid()


def to_scale(shares: Tensor, scale: Scale) -> Tensor:
    """Return the values on a scale that shares of it in [0, 1] stand for."""
    low, high = scale
    return low + (high - low) * shares


def to_shares(values: Tensor, scale: Scale) -> Tensor:
    """Undo :func:`to_scale`."""
    low, high = scale
    return (values - low) / (high - low)


def affect_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Return one less the concordance correlation coefficient (Lin, 1989), the mean of valence's and arousal's.

    The coefficient 2·cov / (var + var' + (mean - mean')²) is over the rated images of all ranks together; a batch with
    fewer than two has no loss.

    Args:
        predicted: (B, 2) shares of the scale.
        target: (B, 2) likewise, NaN for images that were not rated.

    Returns:
        A scalar in [0, 2], the same on every rank, whose gradient, averaged over ranks, is that of one process with the
        whole batch (:mod:`uniemo.distributed`).
    """
    rows, _ = gather_rows(torch.cat([predicted.float(), target.float()], dim=1))  # (all images, 4)
    rows = rows[rows[:, 2:].isfinite().all(dim=1)]
    if len(rows) < 2:
        return 0 * predicted.float().sum()
    mean, centred = rows.mean(dim=0), rows - rows.mean(dim=0)
    (x, y), (mean_x, mean_y) = centred.split(2, dim=1), mean.split(2)  # (N, 2) and (2,) each
    spread = (x.square() + y.square()).mean(dim=0) + (mean_x - mean_y).square()  # (2,)
    concordance = 2 * (x * y).mean(dim=0) / spread.clamp(min=1e-8)  # all images alike, and well predicted: 0
    return (1 - concordance).mean()
