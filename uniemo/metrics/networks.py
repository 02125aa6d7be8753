"""The frozen networks that the metrics look through; every figure carries their name."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.metrics.weights import weights_hash
from uniemo.models.clip import load_clip


def check_images(images: Tensor) -> None:
    """Refuse what is not a batch of [0, 1] images.

    Args:
        images: (B, 3, H, W) in [0, 1].

    Raises:
        UniEmoError: another shape, integers, values outside [0, 1] or not finite.
    """
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise UniEmoError(
            f"images must be floats of shape (B, 3, H, W) in [0, 1]; got {images.dtype} {tuple(images.shape)}"
        )
    if not images.numel():
        return
    low, high = (float(x) for x in images.aminmax())  # NaN if any value is
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise UniEmoError(f"images must lie in [0, 1]; got {low:.3f} to {high:.3f}: convert the range first")


def network_name(name: str) -> str:
    """Return how results call a CLIP: ``miniature-clip``, ``ViT-L-14``, the last folder of a path."""
    if "/" in name and Path(name).expanduser().is_dir():
        return Path(name).expanduser().resolve().name
    return name.replace(":", "-").replace("/", "-")


class FrozenClip(nn.Module):
    """A CLIP whose image tower reads [0, 1] images; frozen, always in eval mode.

    Args:
        name: see :func:`uniemo.models.clip.load_clip`.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        parts = load_clip(name)
        self.name = network_name(name)
        self.source = name
        self.visual = parts.visual.eval().requires_grad_(False)
        self.image_size = parts.image_size
        self.embed_dim = parts.embed_dim
        self.logit_scale = parts.logit_scale
        self._text = parts.text
        self.register_buffer("mean", torch.tensor(parts.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(parts.std).view(3, 1, 1), persistent=False)

    def train(self, mode: bool = True) -> FrozenClip:
        """Stay in eval mode, whatever is asked."""
        return super().train(False)

    @cached_property
    def hash(self) -> str:
        """12 hex digits of the SHA-256 of the image tower's weights."""
        return weights_hash(self.visual)

    def preprocess(self, images: Tensor) -> Tensor:
        """Resize the shorter edge (antialiased bicubic), cut out the centre and normalise.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            (B, 3, R, R), normalised by this CLIP's own mean and standard deviation.

        Raises:
            UniEmoError: another shape, integers, or values outside [0, 1].
        """
        check_images(images)
        return self.normalise(self.resize(images.to(self.mean)))

    def resize(self, images: Tensor) -> Tensor:
        """Resize the shorter edge of images (B, 3, H, W) to R and cut out the centre, (B, 3, R, R)."""
        height, width = images.shape[-2:]
        size = self.image_size
        if (height, width) == (size, size):
            return images
        scale = size / min(height, width)
        target = (max(size, round(height * scale)), max(size, round(width * scale)))
        images = F.interpolate(images, target, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
        top, left = (target[0] - size) // 2, (target[1] - size) // 2
        return images[..., top : top + size, left : left + size]

    def normalise(self, images: Tensor) -> Tensor:
        """Subtract this CLIP's mean from images (B, 3, R, R) and divide by its standard deviation."""
        return (images - self.mean) / self.std

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Return image features (B, E), not normalised, of images (B, 3, H, W) in [0, 1]."""
        return self.visual(self.preprocess(images)).float()

    @torch.no_grad()
    def text(self, names: list[str]) -> Tensor:
        """Return text features (N, E), not normalised, of N texts."""
        return self._text(names).float().to(self.mean.device)

    @torch.no_grad()
    def features_and_blocks(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run the image tower once.

        Args:
            images: (B, 3, H, W) in [0, 1].

        Returns:
            Image features (B, E), not normalised, and the patch tokens (B, P, D) after each block.
        """
        return self.run_with_blocks(self.preprocess(images))

    @torch.no_grad()
    def run_with_blocks(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Do the same on what :meth:`preprocess` made, (B, 3, R, R)."""
        blocks: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            blocks.append(output[:, 1:].float())  # without the class token

        handles = [block.register_forward_hook(keep) for block in self.visual.transformer.resblocks]
        try:
            features = self.visual(inputs).float()
        finally:
            for handle in handles:
                handle.remove()
        return features, blocks


def block_vectors(blocks: list[Tensor]) -> Tensor:
    """Turn patch tokens into vectors whose squared Euclidean distance is the LPIPS-style block distance.

    As in LPIPS, every position's token is scaled to unit length, squared differences are summed over channels and
    averaged over positions, then over blocks; there are no learned channel weights.

    Args:
        blocks: L tensors (B, P, D).

    Returns:
        (B, L·P·D).
    """
    positions = blocks[0].shape[1]
    scale = 1 / math.sqrt(positions * len(blocks))
    return torch.cat([F.normalize(block, dim=-1).flatten(1) * scale for block in blocks], dim=1)


class BlockDistance(nn.Module):
    """LPIPS-style distance between two images on the blocks of a CLIP, in [0, 4].

    Args:
        clip: the network.
    """

    def __init__(self, clip: FrozenClip) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distance (B,) of each pair of images, both (B, 3, H, W) in [0, 1]."""
        a, b = (block_vectors(self.clip.features_and_blocks(images)[1]) for images in (first, second))
        return (a - b).square().sum(dim=1)


@dataclass
class NetworkOutput:
    """What the networks see in a batch.

    Attributes:
        features: (B, E) image features, not normalised.
        blocks: (B, L·P·D), see :func:`block_vectors`.
    """

    features: Tensor
    blocks: Tensor


class EvaluationNetworks(nn.Module):
    """All networks of the figures behind one call, so that images go through them once.

    Args:
        clip: see :func:`uniemo.models.clip.load_clip`.
    """

    def __init__(self, clip: str = "miniature:clip") -> None:
        super().__init__()
        self.clip = FrozenClip(clip)

    @property
    def name(self) -> str:
        """Name of the networks, as in every figure."""
        return self.clip.name

    def forward(self, images: Tensor) -> NetworkOutput:
        """Run all networks on images (B, 3, H, W) in [0, 1]."""
        features, blocks = self.clip.features_and_blocks(images)
        return NetworkOutput(features, block_vectors(blocks))
