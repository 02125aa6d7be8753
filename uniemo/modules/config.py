"""The configuration of a whole model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from uniemo.checkpoint import plain_config
from uniemo.models.attributes import AttributeConfig
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpaceConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.fusion import FusionConfig
from uniemo.models.head import HeadConfig
from uniemo.models.losses import ConditionLossConfig
from uniemo.models.uniemo import GenerationParts


@dataclass(frozen=True)
class ModelConfig:
    """The parts of a model; those of stage 2 are None in stage 1."""

    encoder: EncoderConfig
    head: HeadConfig
    attributes: AttributeConfig
    fusion: FusionConfig | None = None
    condition: ConditionLossConfig | None = None
    diffusion: DiffusionConfig | None = None
    space: EmotionSpaceConfig | None = None

    def generation(self) -> GenerationParts | None:
        """Return what stages 2 and 3 add, None in stage 1."""
        if self.fusion is None or self.diffusion is None or self.space is None or self.condition is None:
            return None
        return GenerationParts(self.fusion, self.diffusion, self.space, self.condition)

    def plain(self) -> dict[str, dict[str, Any]]:
        """Return plain values of the parts that are there, fit for a checkpoint."""
        return {name: plain_config(config) for name, config in vars(self).items() if config is not None}

    def backbones(self) -> dict[str, str]:
        """Return the names of the frozen networks by kind."""
        names = {"clip": self.encoder.clip}
        if self.diffusion is not None:
            names["diffusion"] = self.diffusion.path
        return names
