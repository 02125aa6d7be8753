"""CLIP as a network of the metrics, and the miniature's small CLIP in place of all of them."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo, check_images
from uniemo.metrics.network_weights import weights_hash
from uniemo.metrics.resizing import resize_and_crop
from uniemo.models.clip import load_clip
from uniemo.models.hub import RANDOM, random_name


def network_name(name: str) -> str:
    """Return how results call a CLIP: ``miniature-clip``, ``ViT-L-14``, the last folder of a path."""
    if "/" in name and Path(name).expanduser().is_dir():
        return Path(name).expanduser().resolve().name
    return name.replace(":", "-").replace("/", "-")


class FrozenClip(nn.Module):
    """A CLIP for [0, 1] images; frozen, always in eval mode.

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
        """Return images (B, 3, H, W) in [0, 1] as the image tower takes them, (B, 3, R, R), resized and normalised."""
        check_images(images)
        return self.normalise(resize_and_crop(images.to(self.mean), self.image_size))

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
    def run_with_blocks(self, inputs: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Run the image tower once on what :meth:`preprocess` made, (B, 3, R, R).

        Returns:
            Image features (B, E), not normalised, and the patch tokens (B, P, D) after each block.
        """
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


class ClipNetwork(FeatureNetwork):
    """Image features of a CLIP, not normalised.

    Args:
        clip: a name, see :func:`uniemo.models.clip.load_clip`, or a CLIP already loaded.
        role: ``clip`` or ``miniature``.
    """

    views: tuple[str, ...] = ("strict", "emogen")

    def __init__(self, clip: str | FrozenClip, role: str = "clip") -> None:
        super().__init__()
        self.clip = clip if isinstance(clip, FrozenClip) else FrozenClip(clip)
        self.requires_grad_(False)
        name = self.clip.source
        source = "random weights, seed 0" if name.startswith(RANDOM) else name
        self._anchor = self._anchor.to(self.clip.mean.device)
        self.info = NetworkInfo(role, self.clip.name, source, self.clip.hash)

    def describe(self, view: str = "strict") -> str:
        """Say how a view is prepared."""
        size = self.clip.image_size
        return f"CLIP's own, {size}" + (", rescaled by 1/255 twice" if view == "emogen" else "")

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Resize, crop and normalise; ``emogen`` divides by 255 once more before it normalises.

        EmoGen's Sem-D hands images in [0, 1] to a processor that takes them for [0, 255]. Its Emo-A does not: there the
        view is ``strict`` in both protocols.
        """
        images = resize_and_crop(images, self.clip.image_size)
        return self.clip.normalise(images / 255 if view == "emogen" else images)

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``features``, (B, E)."""
        return {"features": self.clip.visual(inputs)}


class MiniatureNetwork(ClipNetwork):
    """All that the metrics need from one small CLIP: its features and, for the LPIPS-style distance, its blocks.

    Args:
        clip: a name, see :func:`uniemo.models.clip.load_clip`, or a CLIP already loaded.
    """

    views = ("strict",)

    def __init__(self, clip: str | FrozenClip) -> None:
        super().__init__(clip, role="miniature")

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``features`` (B, E) and ``maps`` (B, L·P·D), see :func:`block_vectors`."""
        features, blocks = self.clip.run_with_blocks(inputs)
        return {"features": features, "maps": block_vectors(blocks)}


def load_clip_network(role: str, name: str, random: bool = False) -> ClipNetwork:
    """Load a CLIP for the role ``clip`` or ``miniature``; see :func:`uniemo.models.clip.load_clip` for its name."""
    name = random_name(name) if random else name
    return MiniatureNetwork(name) if role == "miniature" else ClipNetwork(name)
