"""What an emotion space is fitted to: sums over all training images, and a choice of them."""

from __future__ import annotations

import torch
from torch import Tensor


class FeatureSums:
    """Sums over images by emotion, from which means and deviations follow; in float64, on the CPU.

    Attributes:
        count: (C,) images.
        total: (C, D) sums of the features, by kind.
        squares: (C, D) sums of their squares, by kind.
    """

    def __init__(self, num_emotions: int) -> None:
        self.count = torch.zeros(num_emotions, dtype=torch.float64)
        self.total: dict[str, Tensor] = {}
        self.squares: dict[str, Tensor] = {}

    def add(self, features: dict[str, Tensor], emotion: Tensor) -> None:
        """Add images: (B, D) features of each kind, and their emotions (B,) int64."""
        emotion = emotion.cpu()
        self.count += torch.bincount(emotion, minlength=len(self.count))
        for kind, value in features.items():
            rows = value.cpu().double()
            for sums, part in ((self.total, rows), (self.squares, rows.square())):
                zeros = part.new_zeros(len(self.count), part.shape[1])
                sums.setdefault(kind, zeros.clone()).add_(zeros.index_add_(0, emotion, part))

    def moments(self, kind: str) -> tuple[Tensor, Tensor]:
        """Return means and standard deviations (C, D); zero for an emotion without images."""
        count = self.count.clamp(min=1).unsqueeze(1)
        mean = self.total[kind] / count
        return mean, (self.squares[kind] / count - mean.square()).clamp(min=0).sqrt()


def kept_rows(emotion: Tensor, num_emotions: int, bank: int, mixture: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return which of N images the mixtures are fitted to, and which of those the bank keeps.

    Args:
        emotion: (N,) int64.
        num_emotions: C.
        bank: most images of each emotion in the bank.
        mixture: most images of each emotion that a mixture is fitted to, at least ``bank``.
        seed: of the choice.

    Returns:
        (M,) int64 places in ``emotion`` (N,), by emotion and in order; (M,) bool.
    """
    generator = torch.Generator().manual_seed(seed)
    kept, banked = [], []
    for index in range(num_emotions):
        members = torch.nonzero(emotion == index).flatten()
        order = torch.randperm(len(members), generator=generator)
        chosen = order[: max(bank, mixture)].sort().values
        kept.append(members[chosen])
        banked.append(torch.isin(chosen, order[:bank]))
    return torch.cat(kept), torch.cat(banked)
