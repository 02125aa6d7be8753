"""CoCoOp: learned words that each image bends by a small network, CLIP frozen (Zhou et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uniemo.baselines.base import ClipBaseline, ClipConfig
from uniemo.baselines.towers import ImageTower, PromptedText, first_context
from uniemo.errors import UniEmoError
from uniemo.models.clip import ClipParts
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary, attribute_text

_ENCODER = ClipConfig()
_OPTIMIZER = RateConfig(lr=2e-3, weight_decay=5e-4, algorithm="sgd")  # CoCoOp's code


class ConditionedContext(nn.Module):
    """Zero-shot CLIP whose prompts begin with learned vectors plus what the image adds to each of them.

    Args:
        clip: a loaded CLIP.
        emotions: C names.
        length: n, context vectors.
        init: words to start from, None for noise.
        reduction: the meta-net's hidden layer is so many times narrower than CLIP's features.
    """

    def __init__(self, clip: ClipParts, emotions: Sequence[str], length: int, init: str | None, reduction: int) -> None:
        super().__init__()
        self.context = nn.Parameter(first_context(clip.text, length, init))  # (n, W)
        self.text = PromptedText(clip.text, [attribute_text(name) for name in emotions], length)
        self.tower = ImageTower(clip)
        hidden = max(1, clip.embed_dim // reduction)
        self.meta = nn.Sequential(nn.Linear(clip.embed_dim, hidden), nn.ReLU(), nn.Linear(hidden, self.text.width))
        self.scale = clip.logit_scale

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits of CLIP-normalised images (B, 3, R, R); B * C prompts are read."""
        features = self.tower.embed(images)  # (B, E)
        context = self.context + self.meta(features)[:, None, :]  # (B, n, W)
        text = self.text(context[:, None])  # (B, C, E)
        return self.scale * torch.einsum("be,bce->bc", features, text)


class CoCoOp(ClipBaseline):
    """Train the context vectors and the meta-net that moves them by image.

    Prompts of all images of a batch are read together, where the publication takes one image at a time. The image
    tower is run without gradient, once per image and epoch.

    Args:
        encoder: which CLIP.
        context_length: n, vectors in front of the name (4 in the publication).
        context_init: words to start from; null starts from noise.
        reduction: of the meta-net's hidden layer (16 in the publication).
        optimizer: of vectors and meta-net.
        seed: of their first weights.

    Raises:
        UniEmoError: ``reduction`` below one.
    """

    method = "cocoop"

    def __init__(
        self,
        encoder: ClipConfig = _ENCODER,
        context_length: int = 4,
        context_init: str | None = "a photo of a",
        reduction: int = 16,
        optimizer: RateConfig = _OPTIMIZER,
        seed: int = 0,
    ) -> None:
        plain = {"context_length": context_length, "context_init": context_init, "reduction": reduction}
        super().__init__(encoder, plain, optimizer, seed)
        if reduction < 1:
            raise UniEmoError(f"model.reduction must be at least 1; got {reduction}")
        self.context_length, self.context_init, self.reduction = context_length, context_init, reduction

    def network(self, clip: ClipParts, vocabulary: Vocabulary) -> nn.Module:
        """Return the network, of which context and meta-net learn."""
        return ConditionedContext(clip, vocabulary.emotions, self.context_length, self.context_init, self.reduction)
