"""Stage 2: understanding and generation share their features (eq. 10)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from uniemo.cache import atomic_write
from uniemo.checkpoint import GENERATING, JOINT, PREFIX, UNDERSTANDING, CheckpointInfo, read_checkpoint
from uniemo.data.batch import EmotionBatch
from uniemo.errors import UniEmoError
from uniemo.miniature.paths import resolve
from uniemo.models.attributes import AttributeConfig, tables_from_file
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpaceConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.fusion import FusionConfig
from uniemo.models.head import HeadConfig
from uniemo.models.losses import ConditionLossConfig
from uniemo.modules.base import ModelConfig, UniEmoModule
from uniemo.modules.drawing import DrawingModule
from uniemo.modules.latents import latent_encoder
from uniemo.modules.optim import OptimizerConfig
from uniemo.modules.space import fit_space
from uniemo.modules.strategies import FrozenFSDPStrategy
from uniemo.modules.terms import LossConfig, generation_terms, joint_loss, understanding_terms
from uniemo.modules.transfer import Transfer, keeps_attributes
from uniemo.vocabulary import Vocabulary

_ENCODER, _HEAD, _ATTRIBUTES, _FUSION = EncoderConfig(), HeadConfig(), AttributeConfig(), FusionConfig()
_CONDITION, _DIFFUSION, _SPACE = ConditionLossConfig(), DiffusionConfig(), EmotionSpaceConfig()
_OPTIMIZER, _LOSS = OptimizerConfig(lr_clip=0.0), LossConfig()  # released code: CLIP is frozen from stage 2 on


class JointModule(UniEmoModule, DrawingModule):
    """Train queries, fusion and head with L_joint = γ1·L_U + γ2·L_cond + γ3·L(θ).

    Args:
        encoder: CLIP, queries and interactive blocks.
        head: emotion head.
        attributes: where P(emotion | attribute) comes from.
        fusion: how features become a condition.
        condition: which condition loss.
        diffusion: the frozen diffusion model.
        space: how features are drawn for an emotion.
        optimizer: learning rates by parameter group.
        loss: weights and forms of the losses.
        init_from: checkpoint of stage 1 or 2 to start from.
        space_images: training images per emotion for the emotion space of checkpoints written during the run; those
            that remain at its end get all of them.
        seed: of noise, dropout and drawn objects.
    """

    stage = JOINT
    init_stages: ClassVar[tuple[str, ...]] = (UNDERSTANDING, JOINT)

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
        space_images: int = 64,
        seed: int = 0,
    ) -> None:
        config = ModelConfig(encoder, head, attributes, fusion, condition, diffusion, space)
        super().__init__(config, optimizer, loss, init_from, seed)
        if space_images < 1:
            raise UniEmoError(f"model.space_images must be at least 1; got {space_images}")
        self.space_images = space_images
        self.hparams["space_images"] = space_images
        self.pretrained = False  # whether the weights at the start could already draw images
        self._tables_known = False
        self._full_spaces: dict[int, dict[str, Tensor]] = {}  # of all training images, by step, at the end of fit
        self._space_step = -1  # step whose weights the emotion space was built with

    def setup(self, stage: str) -> None:
        """Build the model; lend its VAE to data that keeps latents (Lightning's hook).

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        super().setup(stage)
        if stage == "fit" and self._data().cached_latents:
            self._data().lend_encoder(latent_encoder(self))

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return L_joint and its terms."""
        features = self.model.features(batch.images)
        logits = self.model.logits(features)
        step = self.global_step
        kinds = self.attribute_kinds
        terms = understanding_terms(self.model, features, logits, batch, self.loss, self.seed, step, kinds)
        terms |= generation_terms(self.model, features, logits, batch, self.seed, step)
        return joint_loss(terms, self.loss), terms

    # P(emotion | attribute) and emotion space.

    def _starting_names(self, data: Vocabulary, info: CheckpointInfo | None) -> Vocabulary:
        """Keep the checkpoint's scenes and objects on data without any, where P(emotion | attribute) can be known.

        That is so when the checkpoint brings it, or when it comes from the names themselves. Otherwise the model has no
        attributes and α is 1.
        """
        if info is None or not (info.stage in GENERATING or self.config.attributes.source in ("text", "table")):
            return data
        return keeps_attributes(info.vocabulary, data) or data

    def _initialise(self, state: dict[str, Tensor], info: CheckpointInfo) -> Transfer:
        """Load an earlier stage; a generating one brings its tables along, where they fit the names."""
        fitted = super()._initialise(state, info)
        self.pretrained = info.stage in GENERATING
        self._tables_known = self.pretrained and fitted.tables
        if self.pretrained and fitted.space:
            self._space_step = 0  # the checkpoint's emotion space fits until the first step
        return fitted

    def on_fit_start(self) -> None:
        """Find P(emotion | attribute), once: it is kept in the checkpoint."""
        if not self._tables_known:
            self._find_tables()
            self._tables_known = True

    def on_train_batch_start(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Share a UNet out again that was gathered to generate."""
        if isinstance(self.trainer.strategy, FrozenFSDPStrategy):
            self.trainer.strategy.scatter()
        super().on_train_batch_start(batch, batch_idx)

    def _find_tables(self) -> None:
        """Set the attribute bank's tables from the configured source (eq. 5).

        Without attributes there is nothing to find: no a* can be retrieved, and α is 1.
        """
        config = self.config.attributes
        if not (self.vocabulary.scenes or self.vocabulary.objects):
            return
        if config.source == "table":
            if config.table is None:
                raise UniEmoError("model.attributes.table must name a file for source table; got null")
            tables = tables_from_file(resolve(config.table), self.vocabulary)
        else:
            from uniemo.modules.tables import classifier_tables

            tables, accuracy = classifier_tables(
                config.source, self.config.encoder.clip, self.model.bank, self._data(), self.device
            )
            self._log_once("emo_a_classifier/accuracy", accuracy)
        tables = self.trainer.strategy.broadcast(tables)  # machines may round differently
        self.model.bank.set_tables(*(table.to(self.device) for table in tables))

    def build_space(self, images_per_emotion: int | None) -> None:
        """Fit the emotion space to the present weights; every rank encodes its share, all get the same space.

        Args:
            images_per_emotion: training images looked at, without augmentation; None takes all.
        """
        assert self.config.space is not None  # it is there in this stage
        with self._evaluating():
            loader = self._data().evaluation_loader("train", images_per_emotion)
            fit_space(self.model, loader, self.device, self.config.space.bank_size, self.seed)
        self._space_step = self.global_step

    def prepare_generation(self) -> None:
        """Bring what generation needs up to date; all ranks call this together, and may then draw what they like."""
        self._renew_space()
        if isinstance(self.trainer.strategy, FrozenFSDPStrategy):
            self.trainer.strategy.gather()

    def _renew_space(self) -> None:
        """Build the emotion space unless it fits the present weights."""
        if self.trainer.state.fn != "fit":
            return  # a loaded checkpoint brings its own
        if self._space_step != self.global_step:
            self.build_space(self.space_images)

    # Checkpoints.

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See that the emotion space fits the weights before they are written.

        Within an epoch, where a checkpoint is there to resume from, the latest one will do: building it takes longer
        than writing the file.
        """
        if self._space_step < 0 or self.trainer.is_last_batch or "optimizer_states" not in checkpoint:
            self._renew_space()
        super().on_save_checkpoint(checkpoint)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint of this stage brings tables and emotion space along."""
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
            present = {name: value.clone() for name, value in self.model.trained_state_dict(self.clip_tuned).items()}
            self.model.load_trained_state_dict({name.removeprefix(PREFIX): value for name, value in state.items()})
            self.build_space(None)
            self._full_spaces[step] = {
                f"{PREFIX}{name}": value.cpu()
                for name, value in self.model.trained_state_dict(self.clip_tuned).items()
                if name.startswith("space.")
            }
            self.model.load_trained_state_dict(present)
            self._space_step = -1
        if self.trainer.is_global_zero:
            with atomic_write(path) as temporary:
                about = {**content["uniemo"], "complete": True}
                full = {**state, **self._full_spaces[step]}
                torch.save({**content, "uniemo": about, "state_dict": full}, temporary)

    def _data(self) -> Any:  # noqa: ANN401
        """Return the trainer's data module."""
        return self.trainer.datamodule

    def _log_once(self, name: str, value: float) -> None:
        """Log a figure that belongs to the run, not to a step."""
        for logger in self.loggers:
            logger.log_metrics({name: value}, step=self.global_step)
