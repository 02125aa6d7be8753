"""Stage 1: classify the emotion, supervised by scenes and objects too (eq. 9)."""

from __future__ import annotations

from torch import Tensor

from uniemo.checkpoint import UNDERSTANDING, CheckpointInfo
from uniemo.data.batch import EmotionBatch
from uniemo.errors import Seed
from uniemo.models.attributes import AttributeConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules import stage_model
from uniemo.modules.base import EmotionModule
from uniemo.modules.optim import OptimizerConfig
from uniemo.modules.stage_losses import LossConfig, understanding_loss, understanding_terms
from uniemo.modules.stage_model import ModelConfig

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
    make_model = stage_model.make_model
    input_sizes = stage_model.input_sizes
    parameter_groups = stage_model.parameter_groups
    attention = stage_model.attention
    outputs = stage_model.outputs
    trained_state = stage_model.trained_state
    load_trained_state = stage_model.load_trained_state

    def __init__(
        self,
        encoder: EncoderConfig = _ENCODER,
        head: HeadConfig = _HEAD,
        attributes: AttributeConfig = _ATTRIBUTES,
        optimizer: OptimizerConfig = _OPTIMIZER,
        loss: LossConfig = _LOSS,
        init_from: str | None = None,
        seed: Seed = 0,
    ) -> None:
        config = ModelConfig(encoder, head, attributes)
        super().__init__({**config.given(), "loss": loss, "init_from": init_from}, optimizer, seed)
        self.config = config
        self.loss = loss
        self.clip_tuned = False  # whether the CLIP tower differs from its public weights and belongs in checkpoints

    def initialise(self, state: dict[str, Tensor], info: CheckpointInfo) -> None:
        """Load another run of this stage."""
        stage_model.start_from(self, state, info)

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L_U and its terms."""
        features = self.model.features(batch.images)
        logits = self.model.logits(features)
        step, kinds = self.global_step, self.attribute_kinds
        terms = understanding_terms(self.model, features, logits, batch, self.loss, self.seed, step, kinds)
        return understanding_loss(terms, self.loss), terms
