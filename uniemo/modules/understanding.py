"""Stage 1: classify the emotion, supervised by scenes and objects too (eq. 9)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from uniemo.checkpoint import UNDERSTANDING, CheckpointInfo
from uniemo.data.batch import EmotionBatch
from uniemo.models.attributes import AttributeConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules.base import EmotionModule
from uniemo.modules.losses import LossConfig, understanding_loss, understanding_terms
from uniemo.modules.optim import OptimizerConfig, model_parameters, parameter_groups
from uniemo.modules.stage import ModelConfig, attention_maps, build_model, holds_tower, input_sizes, start_from
from uniemo.vocabulary import Vocabulary

_ENCODER, _HEAD, _ATTRIBUTES = EncoderConfig(), HeadConfig(), AttributeConfig()
_OPTIMIZER, _LOSS = OptimizerConfig(), LossConfig()


class UnderstandingModule(EmotionModule):
    """Train encoder and head with L_U = λ1·L_S + λ2·L_O + λ3·L_cls; L_S and L_O only on data with scenes and objects.

    Args:
        encoder: CLIP, queries and interactive blocks.
        head: emotion head.
        attributes: how scenes and objects are embedded; where their emotions come from matters from stage 2 on.
        optimizer: learning rates by parameter group.
        loss: weights and forms of the losses.
        init_from: checkpoint of this stage to start from.
        seed: of dropout and sampled objects.
    """

    stage = UNDERSTANDING
    init_stages = (UNDERSTANDING,)
    optimizer: OptimizerConfig
    model: UniEmoModel

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
        config = ModelConfig(encoder, head, attributes)
        super().__init__({**config.given(), "loss": loss, "init_from": init_from}, optimizer, seed)
        self.config = config
        self.loss = loss
        self.clip_tuned = False  # whether the CLIP tower differs from its public weights and belongs in checkpoints

    def make_model(self, vocabulary: Vocabulary) -> UniEmoModel:
        """Return the model, with what does not learn frozen."""
        self.clip_tuned = self.optimizer.lr_clip > 0
        return build_model(vocabulary, self.config, self.optimizer, self.attribute_kinds)

    def input_sizes(self) -> dict[str, int]:
        """Return the image sizes that CLIP and the diffusion model take, in pixels."""
        return input_sizes(self.model)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return AdamW's groups: tower, queries, head, fusion."""
        return parameter_groups(model_parameters(self.model), self.optimizer)

    def attention(self, images: Tensor) -> dict[str, Tensor]:
        """Return maps (B, h, w) of the query sets "scene" and "object", each summing to 1."""
        return attention_maps(self.model, images)

    def initialise(self, state: dict[str, Tensor], info: CheckpointInfo) -> None:
        """Load another run of this stage."""
        self.clip_tuned |= holds_tower(start_from(self, state, info).state)

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L_U and its terms."""
        features = self.model.features(batch.images)
        logits = self.model.logits(features)
        step, kinds = self.global_step, self.attribute_kinds
        terms = understanding_terms(self.model, features, logits, batch, self.loss, self.seed, step, kinds)
        return understanding_loss(terms, self.loss), terms

    def trained_state(self) -> dict[str, Tensor]:
        """Return the model's state without its frozen backbones."""
        return self.model.trained_state_dict(self.clip_tuned)

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Load a checkpoint's state; a tuned CLIP tower in it will be in later checkpoints too."""
        self.model.load_trained_state_dict(state)
        self.clip_tuned |= holds_tower(state)
