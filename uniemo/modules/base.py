"""What the three modules share: building the model, ``init_from``, parameter groups, attention maps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from uniemo.checkpoint import PREFIX, CheckpointInfo, check_backbones, check_stage, plain_config, read_checkpoint
from uniemo.errors import UniEmoError
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules.config import ModelConfig
from uniemo.modules.emotion import say
from uniemo.modules.examined import ExaminedModule
from uniemo.modules.optim import OptimizerConfig, freeze, model_parameters, parameter_groups
from uniemo.modules.terms import LossConfig
from uniemo.modules.transfer import Transfer, check_sizes, misfit, same_tower, transfer
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.base import EmotionDataModule


class UniEmoModule(ExaminedModule):
    """A stage of training around a :class:`uniemo.models.uniemo.UniEmoModel`.

    Subclasses say which losses they sum. On data without scene or object names there is no L_S or no L_O.

    Args:
        config: the model's parts.
        optimizer: learning rates by parameter group; 0 freezes a group.
        loss: weights and forms of the losses.
        init_from: checkpoint to start from, of a stage in ``init_stages``.
        seed: of noise, dropout and what else is drawn in training.
    """

    init_stages: ClassVar[tuple[str, ...]]
    optimizer: OptimizerConfig
    model: UniEmoModel  # from setup on

    def __init__(
        self, config: ModelConfig, optimizer: OptimizerConfig, loss: LossConfig, init_from: str | None, seed: int
    ) -> None:
        plain = config.plain() | {"optimizer": plain_config(optimizer), "loss": plain_config(loss)}
        super().__init__({**plain, "init_from": init_from}, optimizer, seed, init_from)
        self.config = config
        self.loss = loss
        self.clip_tuned = False  # whether the CLIP tower differs from its public weights and belongs in checkpoints

    # Building.

    def check(self) -> None:
        """Raise UniEmoError for what can be found wrong before any work."""
        if self.init_from is not None:
            _, info = read_checkpoint(self.init_from)
            check_stage(info, self.init_stages)

    def check_data(self, data: EmotionDataModule) -> None:
        """Raise UniEmoError unless the data's images have the sizes that the networks take."""
        check_sizes(self.model, data, self.config)

    def prepare(self, data: EmotionDataModule, initialise: bool, vocabulary: Vocabulary | None = None) -> None:
        """Build the model for the data and load ``init_from``; mistakes in the configuration show here.

        Args:
            data: gives the vocabulary and the size of images.
            initialise: load ``init_from``, where it is set.
            vocabulary: names of a checkpoint whose weights will be loaded; None takes the data's.
        """
        content, info = None, None
        if initialise and self.init_from is not None:
            content, info = read_checkpoint(self.init_from, self.init_stages)
        super().prepare(data, initialise, vocabulary or self._starting_names(data.vocabulary, info))
        if content is not None and info is not None:
            self._initialise(content["state_dict"], info)

    def make_model(self, vocabulary: Vocabulary) -> UniEmoModel:
        """Return the model, what does not learn frozen."""
        config = self.config
        model = UniEmoModel.build(vocabulary, config.encoder, config.head, config.attributes, config.generation())
        freeze(model_parameters(model), self.optimizer)
        for kind, projection in (("scene", model.scene_projection), ("object", model.object_projection)):
            if projection is not None and kind not in self.attribute_kinds:
                projection.requires_grad_(False)  # no loss would hold it in CLIP's text space
        self.clip_tuned = self.optimizer.lr_clip > 0
        return model

    def backbones(self) -> dict[str, str]:
        """Return the names of the frozen networks by kind."""
        return self.config.backbones()

    def description(self) -> dict[str, Any]:
        """Return the model's configuration by part."""
        return self.config.plain()

    def _starting_names(self, data: Vocabulary, info: CheckpointInfo | None) -> Vocabulary:
        """Return the names to train on: the data's, unless a subclass keeps some of the checkpoint ``init_from``."""
        return data

    def _initialise(self, state: dict[str, Tensor], info: CheckpointInfo) -> Transfer:
        """Load the weights of an earlier stage; what does not fit this data's names starts anew and is named."""
        check_backbones(info, self.config.backbones())
        names = {name.removeprefix(PREFIX): value for name, value in state.items()}
        own = self.model.trained_state_dict()
        fitted = transfer(names, own, info.vocabulary, self.vocabulary)
        try:
            self.load_trained_state(fitted.state, shared_only=True)
        except UniEmoError as error:
            words = misfit(self.config, info, same_tower(names, own))
            if not words:
                raise
            raise UniEmoError(f"the model must have the sizes of init_from {info.path}: add {words}") from error
        if fitted.note:
            say(f"init_from {info.path}: {fitted.note}")
        return fitted

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return AdamW's groups: tower, queries, head, fusion."""
        return parameter_groups(model_parameters(self.model), self.optimizer)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) emotion logits of CLIP-normalised images (B, 3, R, R)."""
        model = self.model
        return model.logits(model.features(images))

    # What callbacks ask for (callbacks/protocol.py).

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Return (B, C) probabilities of CLIP-normalised images (B, 3, R, R)."""
        return self.model.classify(images)

    @torch.no_grad()
    def attention(self, images: Tensor) -> dict[str, Tensor]:
        """Return maps (B, h, w) of the query sets, mean over queries, each summing to 1."""
        features = self.model.features(images, attention=True)
        maps = {"scene": features.scene_attention, "object": features.object_attention}
        height, width = self.model.encoder.grid
        return {
            name: weights.float().mean(dim=1).unflatten(1, (height, width))  # (B, h, w)
            for name, weights in maps.items()
            if weights is not None
        }

    # Checkpoints.

    def trained_state(self) -> dict[str, Tensor]:
        """Return the model's state without its frozen backbones."""
        return self.model.trained_state_dict(self.clip_tuned)

    def load_trained_state(self, state: dict[str, Tensor], shared_only: bool = False) -> None:
        """Load a checkpoint's state; a tuned CLIP tower in it will be in later checkpoints too.

        Args:
            state: names without the module's prefix.
            shared_only: leave parts out that either side lacks.
        """
        self.model.load_trained_state_dict(state, shared_only)
        self.clip_tuned |= any(name.startswith("encoder.visual.") for name in state)
