"""Full fine-tuning: all of CLIP's image tower and a linear layer on its class token."""

from __future__ import annotations

from typing import Any

from uniemo.baselines.base import ClassifierBaseline, ClipConfig
from uniemo.baselines.linear_probe import LinearClassifier
from uniemo.errors import Positive, Seed
from uniemo.models.clip import load_clip
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary

_ENCODER, _OPTIMIZER = ClipConfig(), RateConfig(lr=1e-5, weight_decay=1e-3)


class FineTune(ClassifierBaseline):
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
    model: LinearClassifier

    def __init__(
        self,
        encoder: ClipConfig = _ENCODER,
        optimizer: RateConfig = _OPTIMIZER,
        lr_head: Positive = 1e-3,
        seed: Seed = 0,
    ) -> None:
        super().__init__({"encoder": encoder, "lr_head": lr_head}, optimizer, seed)

    def make_model(self, vocabulary: Vocabulary) -> LinearClassifier:
        """Return tower and layer, all of which learn."""
        return LinearClassifier(load_clip(self.hparams.encoder["clip"]), len(vocabulary.emotions), learns=True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the tower's group and the layer's."""
        tower, head = self.model.tower, self.model.head
        return [{"params": [*tower.parameters()]}, {"params": [*head.parameters()], "lr": self.hparams.lr_head}]
