"""Full fine-tuning: all of CLIP's image tower and a linear layer on its class token."""

from __future__ import annotations

from typing import Any

from torch import nn

from uniemo.baselines.base import ClipBaseline, ClipConfig
from uniemo.baselines.linear_probe import LinearReading
from uniemo.errors import UniEmoError
from uniemo.models.clip import ClipParts
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary

_ENCODER, _OPTIMIZER = ClipConfig(), RateConfig(lr=1e-5, weight_decay=1e-3)


class FineTune(ClipBaseline):
    """Train the image tower and a linear layer on it; no queries, no scenes, no objects.

    Args:
        encoder: which CLIP.
        optimizer: of the tower.
        lr_head: learning rate of the layer, which starts from scratch.
        seed: of the layer's first weights.

    Raises:
        UniEmoError: ``lr_head`` not above 0.
    """

    method = "fine_tune"

    def __init__(
        self,
        encoder: ClipConfig = _ENCODER,
        optimizer: RateConfig = _OPTIMIZER,
        lr_head: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__(encoder, {"lr_head": lr_head}, optimizer, seed)
        if not lr_head > 0:
            raise UniEmoError(f"model.lr_head must be above 0; got {lr_head}")
        self.lr_head = lr_head

    def network(self, clip: ClipParts, vocabulary: Vocabulary) -> nn.Module:
        """Return tower and layer, all of which learn."""
        return LinearReading(clip, len(vocabulary.emotions), learns=True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the tower's group and the layer's."""
        tower, head = self.model.get_submodule("tower"), self.model.get_submodule("head")
        return [{"params": list(tower.parameters())}, {"params": list(head.parameters()), "lr": self.lr_head}]
