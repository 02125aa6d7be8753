"""What the modules of UniEmo's three stages share: the model, its checkpoints, ``init_from``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from uniemo.checkpoint import PREFIX, CheckpointInfo, check_backbones
from uniemo.errors import UniEmoError
from uniemo.models.attributes import AttributeConfig, Kind
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpaceConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.fusion import FusionConfig
from uniemo.models.head import HeadConfig
from uniemo.models.losses import ConditionLossConfig
from uniemo.models.state import TOWER
from uniemo.models.uniemo import GenerationParts, UniEmoModel
from uniemo.modules import optim
from uniemo.modules.accuracy import print_once
from uniemo.modules.transfer import Transfer, mismatch, same_tower, transfer
from uniemo.vocabulary import Vocabulary


@dataclass(frozen=True)
class ModelConfig:
    """The parts of a model; those of stages 2 and 3 are None in stage 1."""

    encoder: EncoderConfig
    head: HeadConfig
    attributes: AttributeConfig
    fusion: FusionConfig | None = None
    condition: ConditionLossConfig | None = None
    diffusion: DiffusionConfig | None = None
    space: EmotionSpaceConfig | None = None

    def given(self) -> dict[str, object]:
        """Return the parts that are there, by name."""
        return {name: part for name, part in vars(self).items() if part is not None}

    def generation(self) -> GenerationParts | None:
        """Return the parts of stages 2 and 3, None in stage 1."""
        if self.fusion is None or self.diffusion is None or self.space is None or self.condition is None:
            return None
        return GenerationParts(self.fusion, self.diffusion, self.space, self.condition)


class StageModule(Protocol):
    """What the functions below need of a stage's module, whose methods they are."""

    config: ModelConfig
    optimizer: optim.OptimizerConfig
    model: UniEmoModel
    clip_tuned: bool

    @property
    def attribute_kinds(self) -> tuple[Kind, ...]: ...  # noqa: D102
    @property
    def vocabulary(self) -> Vocabulary: ...  # noqa: D102
    def backbones(self) -> dict[str, str]: ...  # noqa: D102
    def description(self) -> dict[str, Any]: ...  # noqa: D102


def make_model(module: StageModule, vocabulary: Vocabulary) -> UniEmoModel:
    """Build the model; freeze groups with a learning rate of 0, and the projections of attributes that the data lacks.

    No loss would hold those in CLIP's text space.
    """
    config, kinds = module.config, module.attribute_kinds
    model = UniEmoModel.build(vocabulary, config.encoder, config.head, config.attributes, config.generation())
    optim.freeze(optim.model_parameters(model), module.optimizer)
    for kind, projection in (("scene", model.scene_projection), ("object", model.object_projection)):
        if projection is not None and kind not in kinds:
            projection.requires_grad_(False)
    module.clip_tuned = module.optimizer.lr_clip > 0
    return model


def input_sizes(module: StageModule) -> dict[str, int]:
    """Return the image sizes that CLIP and the diffusion model take, in pixels."""
    sizes = {"clip": module.model.encoder.image_size}
    if module.model.diffusion is not None:
        sizes["diffusion"] = module.model.diffusion.image_size
    return sizes


def parameter_groups(module: StageModule) -> list[dict[str, Any]]:
    """Return AdamW's groups: tower, queries, head, fusion."""
    return optim.parameter_groups(optim.model_parameters(module.model), module.optimizer)


def outputs(module: StageModule, images: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the emotion logits of images, and (B, 2) valence and arousal or None."""
    return module.model.outputs(images)


@torch.no_grad()
def attention(module: StageModule, images: Tensor) -> dict[str, Tensor]:
    """Return maps (B, h, w) of the query sets "scene" and "object", means over queries, each summing to 1."""
    model = module.model
    features = model.features(images, attention=True)
    height, width = model.encoder.grid
    return {
        name: weights.float().mean(dim=1).unflatten(1, (height, width))  # (B, h, w)
        for name, weights in (("scene", features.scene_attention), ("object", features.object_attention))
        if weights is not None
    }


def trained_state(module: StageModule) -> dict[str, Tensor]:
    """Return the model's state without its frozen backbones."""
    return module.model.trained_state_dict(module.clip_tuned)


def load_trained_state(module: StageModule, state: dict[str, Tensor], shared_only: bool = False) -> None:
    """Load a checkpoint's state, or what both sides have; a tuned CLIP tower will be in later checkpoints too."""
    module.model.load_trained_state_dict(state, shared_only)
    module.clip_tuned |= any(name.startswith(TOWER) for name in state)


def start_from(module: StageModule, state: dict[str, Tensor], info: CheckpointInfo) -> Transfer:
    """Load an earlier stage; print what starts anew because it does not fit the names of the data.

    Raises:
        UniEmoError: the two models have other sizes.
    """
    check_backbones(info, module.backbones())
    names = {name.removeprefix(PREFIX): value for name, value in state.items()}
    own = module.model.trained_state_dict()
    fitted = transfer(names, own, info.vocabulary, module.vocabulary)
    try:
        load_trained_state(module, fitted.state, shared_only=True)
    except UniEmoError as error:
        options = mismatch(module.description(), info, same_tower(names, own))
        if not options:
            raise
        raise UniEmoError(f"the model must have the sizes of init_from {info.path}: add {options}") from error
    if fitted.note:
        print_once(f"init_from {info.path}: {fitted.note}")
    return fitted
