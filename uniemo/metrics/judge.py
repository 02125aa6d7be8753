"""Emo-A's judge: a checkpoint of its own, trained apart from what it judges and from what Algorithm 1 filters with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from uniemo.checkpoint import load_model
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD
from uniemo.errors import UniEmoError
from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.network_weights import weights_hash
from uniemo.metrics.resizing import resize_and_crop


class Judge(FeatureNetwork):
    """The emotion probabilities of a checkpoint of UniEmo's stages.

    Args:
        path: the checkpoint.
        emotions: names of the C classes, in the order that is wanted.

    Raises:
        UniEmoError: no such checkpoint, or one of other emotions.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, path: str | Path, emotions: Sequence[str]) -> None:
        super().__init__()
        model, info = load_model(path)
        own = info.vocabulary.emotions
        if set(own) != set(emotions):
            raise UniEmoError(
                f"judge must know the data's emotions, {', '.join(emotions)}; {path} has "
                f"{', '.join(own)}: give another checkpoint"
            )
        self.order = [info.vocabulary.emotion_index(name) for name in emotions]
        self.model = model.requires_grad_(False)
        self.register_buffer("mean", torch.tensor(CLIP_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(CLIP_STD).view(3, 1, 1), persistent=False)
        digest = weights_hash(model)
        self.info = NetworkInfo("emotion", f"judge-{digest[:6]}", str(path), digest)

    def describe(self, view: str = "strict") -> str:
        """Say how images are prepared."""
        return f"CLIP's own, {self.model.encoder.image_size}"

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Resize, crop and normalise as CLIP does."""
        return (resize_and_crop(images, self.model.encoder.image_size) - self.mean) / self.std

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``probabilities``, (B, C)."""
        return {"probabilities": self.model.classify(inputs)[:, self.order]}
