"""What baselines that tell emotions share: a network from images to logits, trained with cross entropy."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch.nn.functional as F
from torch import Tensor, nn

from uniemo.checkpoint import BASELINE, plain_config
from uniemo.data.batch import EmotionBatch
from uniemo.distributed import batch_mean
from uniemo.errors import UniEmoError
from uniemo.models.clip import load_clip
from uniemo.modules.examined import ExaminedModule
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.base import EmotionDataModule
    from uniemo.models.clip import ClipParts


@dataclass
class ClipConfig:
    """Which CLIP a baseline is built on.

    Attributes:
        clip: its name, see :func:`uniemo.models.clip.load_clip`.
    """

    clip: str = "miniature:clip"


class UnderstandingBaseline(ExaminedModule):
    """A method that tells emotions; a subclass says which network does (:meth:`make_model`).

    Args:
        hyperparameters: the constructor's arguments that shape the network, as plain values.
        optimizer: None for a method without training.
        seed: of first weights and what else is drawn.
    """

    stage = BASELINE
    model: nn.Module  # images (B, 3, R, R) to (B, C) logits

    def __init__(self, hyperparameters: dict[str, Any], optimizer: RateConfig | None, seed: int) -> None:
        plain = dict(hyperparameters)
        if optimizer is not None:
            plain["optimizer"] = plain_config(optimizer)
        super().__init__(plain, optimizer, seed)

    def logits(self, images: Tensor) -> Tensor:
        """Return (B, C) emotion logits of CLIP-normalised images (B, 3, R, R)."""
        logits: Tensor = self.model(images)
        return logits

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) emotion logits of CLIP-normalised images (B, 3, R, R)."""
        return self.logits(images)

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross entropy of the emotions."""
        loss = batch_mean(F.cross_entropy(self.logits(batch.images), batch.emotion, reduction="none"))
        return loss, {"emotion": loss}


class ClipBaseline(UnderstandingBaseline):
    """A baseline whose network is built on a CLIP (:meth:`network`).

    Args:
        encoder: which CLIP.
        hyperparameters: the constructor's other arguments that shape the network, as plain values.
        optimizer: None for a method without training.
        seed: of first weights and what else is drawn.
    """

    def __init__(
        self, encoder: ClipConfig, hyperparameters: dict[str, Any], optimizer: RateConfig | None, seed: int
    ) -> None:
        super().__init__({"encoder": plain_config(encoder), **hyperparameters}, optimizer, seed)
        self.encoder = encoder
        self.image_size = 0  # R, known once the network is built

    @abstractmethod
    def network(self, clip: ClipParts, vocabulary: Vocabulary) -> nn.Module:
        """Return the network, what does not learn frozen."""

    def make_model(self, vocabulary: Vocabulary) -> nn.Module:
        """Load the CLIP and build the network on it."""
        clip = load_clip(self.encoder.clip)
        self.image_size = clip.image_size
        return self.network(clip, vocabulary)

    def backbones(self) -> dict[str, str]:
        """Return the CLIP's name."""
        return {"clip": self.encoder.clip}

    def check_data(self, data: EmotionDataModule) -> None:
        """Raise UniEmoError unless the data's images have the size that the CLIP takes."""
        if data.image_size != self.image_size:
            raise UniEmoError(
                f"data.image_size must be {self.image_size}, what {self.encoder.clip} takes; got {data.image_size}: "
                f"set --data.image_size {self.image_size}"
            )
        if data.cached_latents:
            raise UniEmoError("data.cached_latents is for methods that draw images; this one has no VAE: leave it out")
