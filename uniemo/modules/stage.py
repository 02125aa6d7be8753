"""What the modules of UniEmo's three stages share: configuration and building of the model, ``init_from``."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

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
from uniemo.modules.accuracy import print_once
from uniemo.modules.base import EmotionModule
from uniemo.modules.optim import OptimizerConfig, freeze, model_parameters
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


def build_model(
    vocabulary: Vocabulary, config: ModelConfig, optimizer: OptimizerConfig, kinds: Collection[Kind]
) -> UniEmoModel:
    """Build a model; freeze groups with a learning rate of 0, and the projections of attributes that the data lacks.

    No loss would hold those in CLIP's text space; ``kinds`` are the attributes that the data has.
    """
    model = UniEmoModel.build(vocabulary, config.encoder, config.head, config.attributes, config.generation())
    freeze(model_parameters(model), optimizer)
    for kind, projection in (("scene", model.scene_projection), ("object", model.object_projection)):
        if projection is not None and kind not in kinds:
            projection.requires_grad_(False)
    return model


def input_sizes(model: UniEmoModel) -> dict[str, int]:
    """Return the image sizes that CLIP and the diffusion model take, in pixels."""
    sizes = {"clip": model.encoder.image_size}
    if model.diffusion is not None:
        sizes["diffusion"] = model.diffusion.image_size
    return sizes


def start_from(module: EmotionModule, state: dict[str, Tensor], info: CheckpointInfo) -> Transfer:
    """Load an earlier stage into a module's new model; print what starts anew because it does not fit its names.

    Raises:
        UniEmoError: the two models have other sizes.
    """
    check_backbones(info, module.backbones())
    model: UniEmoModel = module.model  # type: ignore[assignment]
    names = {name.removeprefix(PREFIX): value for name, value in state.items()}
    own = model.trained_state_dict()
    fitted = transfer(names, own, info.vocabulary, module.vocabulary)
    try:
        model.load_trained_state_dict(fitted.state, shared_only=True)
    except UniEmoError as error:
        options = mismatch(module.description(), info, same_tower(names, own))
        if not options:
            raise
        raise UniEmoError(f"the model must have the sizes of init_from {info.path}: add {options}") from error
    if fitted.note:
        print_once(f"init_from {info.path}: {fitted.note}")
    return fitted


def holds_tower(state: dict[str, Tensor]) -> bool:
    """Return whether a state holds a CLIP tower, one that differs from its public weights."""
    return any(name.startswith(TOWER) for name in state)


@torch.no_grad()
def attention_maps(model: UniEmoModel, images: Tensor) -> dict[str, Tensor]:
    """Return maps (B, h, w) of the query sets "scene" and "object", means over queries, each summing to 1."""
    features = model.features(images, attention=True)
    height, width = model.encoder.grid
    return {
        name: weights.float().mean(dim=1).unflatten(1, (height, width))  # (B, h, w)
        for name, weights in (("scene", features.scene_attention), ("object", features.object_attention))
        if weights is not None
    }
