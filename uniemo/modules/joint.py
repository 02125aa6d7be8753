"""Stage 2: understanding and generation share their features (eq. 10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from uniemo.cache import save_tensors
from uniemo.checkpoint import GENERATING, JOINT, PREFIX, UNDERSTANDING, CheckpointInfo, read_checkpoint
from uniemo.data.batch import EmotionBatch
from uniemo.errors import Count, Seed, UniEmoError
from uniemo.miniature.paths import resolve
from uniemo.models.attributes import AttributeConfig, tables_from_file
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpaceConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.fusion import FusionConfig
from uniemo.models.head import HeadConfig
from uniemo.models.losses import ConditionLossConfig
from uniemo.models.state import LOWER_RATE, TO_WRITE, check_finite
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules import generator, stage_model
from uniemo.modules.base import EmotionModule
from uniemo.modules.optim import OptimizerConfig
from uniemo.modules.space import fit_space
from uniemo.modules.stage_losses import LossConfig, generation_terms, joint_loss, understanding_terms
from uniemo.modules.stage_model import ModelConfig
from uniemo.modules.strategies import FrozenFSDPStrategy
from uniemo.modules.transfer import kept_attributes
from uniemo.vocabulary import Vocabulary

_ENCODER, _HEAD, _ATTRIBUTES, _FUSION = EncoderConfig(), HeadConfig(), AttributeConfig(), FusionConfig()
_CONDITION, _DIFFUSION, _SPACE = ConditionLossConfig(), DiffusionConfig(), EmotionSpaceConfig()
_OPTIMIZER, _LOSS = OptimizerConfig(lr_clip=0.0), LossConfig()  # released code: CLIP is frozen from stage 2 on


class JointModule(EmotionModule):
    """Train queries, fusion and head with L_joint = γ1·L_U + γ2·L_cond + γ3·L(θ).

    Args:
        encoder: CLIP, queries and interactive blocks.
        head: emotion head.
        attributes: where P(emotion | attribute) comes from.
        fusion: how features become a condition.
        condition: which condition loss.
        diffusion: the frozen diffusion model.
        space: how features are sampled for an emotion.
        optimizer: learning rates by parameter group.
        loss: weights and forms of the losses; with γ2 and γ3 of 0 generation takes no part, a control for what it does
            to understanding (with several processes set ``lr_fusion`` to 0 too: DDP wants each parameter in the loss).
        init_from: checkpoint of stage 1 or 2 to start from.
        space_images: training images per emotion for the emotion space of checkpoints written during the run; those
            that remain at its end get all of them.
        seed: of noise, dropout and sampled objects.
    """

    stage = JOINT
    init_stages: ClassVar[tuple[str, ...]] = (UNDERSTANDING, JOINT)
    optimizer: OptimizerConfig
    model: UniEmoModel
    make_model = stage_model.make_model
    input_sizes = stage_model.input_sizes
    parameter_groups = stage_model.parameter_groups
    attention = stage_model.attention
    outputs = stage_model.outputs
    trained_state = stage_model.trained_state
    load_trained_state = stage_model.load_trained_state
    generate = generator.generate
    sampling = generator.sampling

    def __init__(
        self,
        encoder: EncoderConfig = _ENCODER,
        head: HeadConfig = _HEAD,
        attributes: AttributeConfig = _ATTRIBUTES,
        fusion: FusionConfig = _FUSION,
        condition: ConditionLossConfig = _CONDITION,
        diffusion: DiffusionConfig = _DIFFUSION,
        space: EmotionSpaceConfig = _SPACE,
        optimizer: OptimizerConfig = _OPTIMIZER,
        loss: LossConfig = _LOSS,
        init_from: str | None = None,
        space_images: Count = 64,
        seed: Seed = 0,
    ) -> None:
        config = ModelConfig(encoder, head, attributes, fusion, condition, diffusion, space)
        own = {"loss": loss, "init_from": init_from, "space_images": space_images}
        super().__init__({**config.given(), **own}, optimizer, seed)
        self.config = config
        self.loss = loss
        self.space_images = space_images
        self.clip_tuned = False  # whether the CLIP tower differs from its public weights and belongs in checkpoints
        self.pretrained = False  # whether the weights at the start could already generate images
        self._tables_known = False
        self._full_spaces: dict[int, dict[str, Tensor]] = {}  # of all training images, by step, at the end of fit
        self._space_step = -1  # step whose weights the emotion space was built with

    def setup(self, stage: str) -> None:
        """Build the model; give its VAE to data that caches latents (Lightning's hook)."""
        super().setup(stage)
        if stage == "fit" and self.trainer.datamodule.cached_latents:
            self.trainer.datamodule.set_latent_encoder(generator.latent_encoder(self))

    def starting_vocabulary(self, data: Vocabulary, info: CheckpointInfo | None) -> Vocabulary:
        """Keep the checkpoint's scenes and objects on data without any, where P(emotion | attribute) can be known.

        That is so when the checkpoint has it, or when it comes from the names themselves. Otherwise the model has no
        attributes and α is 1.
        """
        if info is None or not (info.stage in GENERATING or self.config.attributes.source in ("text", "table")):
            return data
        return kept_attributes(info.vocabulary, data) or data

    def initialise(self, state: dict[str, Tensor], info: CheckpointInfo) -> None:
        """Load an earlier stage; a generating one has tables and an emotion space, used where they fit the names."""
        fitted = stage_model.start_from(self, state, info)
        self.pretrained = info.stage in GENERATING
        self._tables_known = self.pretrained and fitted.tables
        space = self.model.space
        assert space is not None  # this stage has one
        whole = len(space.mixture_emotion) > 0 or self.model.space_config.kind != "mixture"  # not of earlier versions
        if self.pretrained and fitted.space and whole:
            self._space_step = 0  # the checkpoint's emotion space fits until the first step

    # Training.

    def on_fit_start(self) -> None:
        """Find P(emotion | attribute), once: it is kept in the checkpoint."""
        if not self._tables_known:
            self._find_tables()
            self._tables_known = True

    def on_train_batch_start(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Shard a UNet again that was gathered to generate."""
        if isinstance(self.trainer.strategy, FrozenFSDPStrategy):
            self.trainer.strategy.scatter()
        super().on_train_batch_start(batch, batch_idx)

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L_joint and its terms."""
        features = self.model.features(batch.images)
        logits = self.model.logits(features)
        step, kinds = self.global_step, self.attribute_kinds
        terms = understanding_terms(self.model, features, logits, batch, self.loss, self.seed, step, kinds)
        if self.loss.generation:
            terms |= generation_terms(self.model, features, logits, batch, self.seed, step)
        return joint_loss(terms, self.loss), terms

    def _find_tables(self) -> None:
        """Set P(emotion | attribute) from the configured source (eq. 5); without attributes α is 1."""
        config = self.config.attributes
        if not (self.vocabulary.scenes or self.vocabulary.objects):
            return
        if config.source == "table":
            if config.table is None:
                raise UniEmoError("model.attributes.table must name a file for source table; got null")
            tables = tables_from_file(resolve(config.table), self.vocabulary)
        else:
            from uniemo.modules.coefficient_tables import classifier_tables

            clip, data = self.config.encoder.clip, self.trainer.datamodule
            tables, accuracy = classifier_tables(config.source, clip, self.model.bank, data, self.device)
            for logger in self.loggers:
                logger.log_metrics({"emo_a_classifier/accuracy": accuracy}, step=self.global_step)
        tables = self.trainer.strategy.broadcast(tables)  # machines may round differently
        self.model.bank.set_tables(*(table.to(self.device) for table in tables))

    # Generation.

    def build_space(self, images_per_emotion: int | None) -> None:
        """Fit the emotion space to the present weights; every rank encodes its share, all get the same space.

        None takes all training images, which are not augmented.
        """
        with generator.evaluating(self.model):
            loader = self.trainer.datamodule.evaluation_loader("train", images_per_emotion)
            fit_space(self.model, loader, self.device, self.seed)
        self._space_step = self.global_step

    def prepare_generation(self) -> None:
        """Bring emotion space and UNet up to date; all ranks call this together, and may then generate on their own."""
        self._update_space()
        if isinstance(self.trainer.strategy, FrozenFSDPStrategy):
            self.trainer.strategy.gather()

    def _update_space(self) -> None:
        """Build the emotion space in training unless it fits the present weights."""
        if self.trainer.state.fn == "fit" and self._space_step != self.global_step:
            self.build_space(self.space_images)

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Update the emotion space before the weights are written.

        Within an epoch, where a checkpoint is only there to resume from, the latest one will do: building it takes
        longer than writing the file.
        """
        if self._space_step < 0 or self.trainer.is_last_batch or "optimizer_states" not in checkpoint:
            self._update_space()
        super().on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compare the file with this module; it holds P(emotion | attribute)."""
        super().on_load_checkpoint(checkpoint)
        self._tables_known = True

    @torch.no_grad()
    def complete_checkpoint(self, path: Path) -> None:
        """Rewrite a checkpoint of this run with the emotion space of all training images."""
        content, _ = read_checkpoint(path, (self.stage,))
        if content["uniemo"].get("complete"):
            return
        state, step = content["state_dict"], int(content["global_step"])
        if step not in self._full_spaces:  # best and last are often of the same step
            present = {name: value.clone() for name, value in self.trained_state().items()}
            self.model.load_trained_state_dict({name.removeprefix(PREFIX): value for name, value in state.items()})
            self.build_space(None)
            self._full_spaces[step] = {
                f"{PREFIX}{name}": value.cpu()
                for name, value in self.trained_state().items()
                if name.startswith("space.")
            }
            check_finite(self._full_spaces[step], TO_WRITE, LOWER_RATE)  # the rest is as it was read
            self.model.load_trained_state_dict(present)
            self._space_step = -1
        if self.trainer.is_global_zero:
            content["uniemo"]["complete"] = True
            content["state_dict"] = {**state, **self._full_spaces[step]}
            save_tensors(path, content)
