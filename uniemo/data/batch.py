"""What a loader hands out: samples and batches."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor


@dataclass
class EmotionSample:
    """One image with its labels.

    Attributes:
        image: (3, R, R), CLIP-normalised.
        target: (3, D, D) in [-1, 1], the VAE's view of the same crop; None without a diffusion size.
        emotion: class index.
        scene: class index, -1 when the image has no scene attribute.
        objects: (O,) bool, all False when it has no object attribute.
        generated: whether a model drew it.
        sample_id: unique in the split.
        name: path of the file, relative to the data root.
        mask: (1, R, R) in [0, 1], where the object is; None where masks are not read.
        latents: (2, C, h, w) float32, mean and standard deviation of the VAE's posterior of the target, unscaled, in
            place of the target (``data.cached_latents``).
        distribution: (K,) float32, share of the votes for each emotion, which sum to one; None where the target is the
            emotion alone (``data.target``).
        affect: (2,) float32, mean valence and arousal on the scale ``Vocabulary.affect``, NaN for an image without;
            None where the data has none.
        affect_sd: (2,) float32, standard deviations of the ratings behind them, NaN where unknown; None likewise.
    """

    image: Tensor
    target: Tensor | None
    emotion: int
    scene: int
    objects: Tensor
    generated: bool
    sample_id: int
    name: str
    mask: Tensor | None = None
    latents: Tensor | None = None
    distribution: Tensor | None = None
    affect: Tensor | None = None
    affect_sd: Tensor | None = None


@dataclass
class EmotionBatch:
    """Images with their labels.

    Attributes:
        images: (B, 3, R, R), CLIP-normalised.
        targets: (B, 3, D, D) in [-1, 1], or None.
        emotion: (B,) int64.
        scene: (B,) int64, -1 for images without a scene attribute.
        objects: (B, O) bool, multi-hot; all False for images without object attributes.
        generated: (B,) bool.
        sample_id: (B,) int64, unique in the split.
        names: B file names relative to the data root.
        masks: (B, 1, R, R) in [0, 1], all zero for an image whose mask the tree lacks; None where masks are not read.
        latents: (B, 2, C, h, w) float32, mean and standard deviation of the VAE's posteriors of the targets, unscaled,
            in place of the targets (``data.cached_latents``).
        distribution: (B, K) float32, shares of the votes, which sum to one; one-hot for generated images. None where
            the target is the emotion alone (``data.target``).
        affect: (B, 2) float32, mean valence and arousal on the scale ``Vocabulary.affect``, NaN for images without;
            None where the data has none.
        affect_sd: (B, 2) float32, standard deviations of the ratings behind them, NaN where unknown; None likewise.
    """

    images: Tensor
    targets: Tensor | None
    emotion: Tensor
    scene: Tensor
    objects: Tensor
    generated: Tensor
    sample_id: Tensor
    names: list[str]
    masks: Tensor | None = None
    latents: Tensor | None = None
    distribution: Tensor | None = None
    affect: Tensor | None = None
    affect_sd: Tensor | None = None

    def __len__(self) -> int:
        """Return B."""
        return len(self.images)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> EmotionBatch:
        """Return the batch with every tensor on ``device``."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            moved[field.name] = value.to(device, non_blocking=non_blocking) if isinstance(value, Tensor) else value
        return EmotionBatch(**moved)

    def pin_memory(self) -> EmotionBatch:
        """Return the batch in page-locked memory (DataLoader calls this)."""
        pinned: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            pinned[field.name] = value.pin_memory() if isinstance(value, Tensor) else value
        return EmotionBatch(**pinned)


def _stack(parts: list[Tensor | None]) -> Tensor | None:
    """Stack tensors; None when no sample has one."""
    present = [part for part in parts if part is not None]
    if not present:
        return None
    zero = torch.zeros_like(present[0])
    return torch.stack([zero if part is None else part for part in parts])


def collate(samples: list[EmotionSample]) -> EmotionBatch:
    """Put samples together; masks that single images lack become zero."""
    return EmotionBatch(
        images=torch.stack([sample.image for sample in samples]),  # (B, 3, R, R)
        targets=_stack([sample.target for sample in samples]),  # (B, 3, D, D)
        emotion=torch.tensor([sample.emotion for sample in samples]),
        scene=torch.tensor([sample.scene for sample in samples]),
        objects=torch.stack([sample.objects for sample in samples]),  # (B, O)
        generated=torch.tensor([sample.generated for sample in samples]),
        sample_id=torch.tensor([sample.sample_id for sample in samples]),
        names=[sample.name for sample in samples],
        masks=_stack([sample.mask for sample in samples]),  # (B, 1, R, R)
        latents=_stack([sample.latents for sample in samples]),  # (B, 2, C, h, w)
        distribution=_stack([sample.distribution for sample in samples]),  # (B, K)
        affect=_stack([sample.affect for sample in samples]),  # (B, 2)
        affect_sd=_stack([sample.affect_sd for sample in samples]),  # (B, 2)
    )
