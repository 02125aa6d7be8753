"""The emotion head: class token to emotion logits."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn

from uniemo.errors import PartialShare, Width, check_ranges


@dataclass
class HeadConfig:
    """Shape of the emotion head.

    Attributes:
        hidden: units of the hidden layer; None for a single linear layer.
        dropout: share of hidden units left out in training.
    """

    hidden: Width | None = 768
    dropout: PartialShare = 0.5

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.head.")


class EmotionHead(nn.Sequential):
    """Linear, ReLU, dropout, linear from the (B, D) class token to (B, C) logits; one linear layer without ``hidden``.

    The layers are named ``fc0`` and ``fc1`` as in the released checkpoints.
    """

    def __init__(self, width: int, num_classes: int, hidden: int | None = 768, dropout: float = 0.5) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        if hidden is not None:
            layers["fc0"] = nn.Linear(width, hidden)
            layers["relu"] = nn.ReLU()
            layers["dropout"] = nn.Dropout(dropout)
        layers["fc1"] = nn.Linear(width if hidden is None else hidden, num_classes)
        super().__init__(layers)

    def forward(self, cls: Tensor) -> Tensor:
        """Return (B, C) logits of (B, D) class tokens."""
        return super().forward(cls)
