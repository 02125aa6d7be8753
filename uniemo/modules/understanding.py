"""Stage 1: learn to tell the emotion, with scenes and objects as witnesses (eq. 9)."""

from __future__ import annotations

from torch import Tensor

from uniemo.checkpoint import UNDERSTANDING
from uniemo.data.batch import EmotionBatch
from uniemo.models.attributes import AttributeConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.modules.base import ModelConfig, UniEmoModule
from uniemo.modules.optim import OptimizerConfig
from uniemo.modules.terms import LossConfig, understanding_loss, understanding_terms

_ENCODER, _HEAD, _ATTRIBUTES = EncoderConfig(), HeadConfig(), AttributeConfig()
_OPTIMIZER, _LOSS = OptimizerConfig(), LossConfig()


class UnderstandingModule(UniEmoModule):
    """Train encoder and head with L_U = λ1·L_S + λ2·L_O + λ3·L_cls; L_S and L_O only on data with scenes and objects.

    Args:
        encoder: CLIP, queries and interactive blocks.
        head: emotion head.
        attributes: how scenes and objects are embedded; where their emotions come from matters from stage 2 on.
        optimizer: learning rates by parameter group.
        loss: weights and forms of the losses.
        init_from: checkpoint of this stage to start from.
        seed: of dropout and drawn objects.
    """

    stage = UNDERSTANDING
    init_stages = (UNDERSTANDING,)

    def __init__(
        self,
        encoder: EncoderConfig = _ENCODER,
        head: HeadConfig = _HEAD,
        attributes: AttributeConfig = _ATTRIBUTES,
        optimizer: OptimizerConfig = _OPTIMIZER,
        loss: LossConfig = _LOSS,
        init_from: str | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(ModelConfig(encoder, head, attributes), optimizer, loss, init_from, seed)

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L_U and its terms."""
        features = self.model.features(batch.images)
        logits = self.model.logits(features)
        step, kinds = self.global_step, self.attribute_kinds
        terms = understanding_terms(self.model, features, logits, batch, self.loss, self.seed, step, kinds)
        return understanding_loss(terms, self.loss), terms
