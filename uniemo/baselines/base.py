"""The base of baselines that classify: a network from images to logits, trained with cross entropy."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from uniemo.checkpoint import BASELINE
from uniemo.data.batch import EmotionBatch
from uniemo.distributed import batch_mean
from uniemo.models.losses import emotion_loss
from uniemo.modules.base import EmotionModule


@dataclass
class ClipConfig:
    """Which CLIP a baseline is built on.

    Attributes:
        clip: its name, see :func:`uniemo.models.clip.load_clip`.
    """

    clip: str = "miniature:clip"


class ClassifierBaseline(EmotionModule):
    """A method that classifies; its ``make_model`` returns a network from (B, 3, R, R) images to (B, C) logits.

    A network on a CLIP has the image tower as ``tower``, and the constructor an argument ``encoder``, a
    :class:`ClipConfig`. Arguments as in :class:`uniemo.modules.base.EmotionModule`.
    """

    stage = BASELINE

    def input_sizes(self) -> dict[str, int]:
        """Return the image size that the CLIP takes, in pixels, where there is one."""
        tower = getattr(self.model, "tower", None)
        return {} if tower is None else {"clip": tower.image_size}

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the cross entropy of the emotions, or KL where the targets are distributions."""
        loss = batch_mean(emotion_loss(self(batch.images), batch.emotion, batch.distribution))
        return loss, {"emotion": loss}
