"""Full fine-tuning: all of CLIP's image tower and a head on its class token."""

from __future__ import annotations

from typing import Any

from uniemo.baselines.base import ClassifierBaseline, ClipConfig
from uniemo.baselines.linear_probe import LinearClassifier
from uniemo.errors import PartialShare, Positive, Seed, Width
from uniemo.models.clip import load_clip
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary

_ENCODER, _OPTIMIZER = ClipConfig(), RateConfig(lr=1e-5, weight_decay=1e-3)


class FineTune(ClassifierBaseline):
    """Train the image tower and a head on it; no queries, no scenes, no objects.

    Args:
        encoder: which CLIP.
        optimizer: of the tower.
        lr_head: learning rate of the head, which starts from scratch.
        hidden: units of the head's hidden layer, UniEmo's head then; null for a linear layer.
        dropout: share of hidden units left out in training.
        seed: of the head's first weights and dropout.

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
        hidden: Width | None = None,
        dropout: PartialShare = 0.5,
        seed: Seed = 0,
    ) -> None:
        arguments = {"encoder": encoder, "lr_head": lr_head, "hidden": hidden, "dropout": dropout}
        super().__init__(arguments, optimizer, seed)

    def make_model(self, vocabulary: Vocabulary) -> LinearClassifier:
        """Return tower and head, all of which learn."""
        clip, classes = load_clip(self.hparams.encoder["clip"]), len(vocabulary.emotions)
        return LinearClassifier(clip, classes, True, self.hparams.hidden, self.hparams.dropout)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the tower's group and the head's."""
        tower, head = self.model.tower, self.model.head
        return [{"params": [*tower.parameters()]}, {"params": [*head.parameters()], "lr": self.hparams.lr_head}]
