"""CoCoOp: learned words that a small network shifts by image, CLIP frozen (Zhou et al., CVPR 2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uniemo.baselines.base import ClassifierBaseline, ClipConfig
from uniemo.baselines.towers import ImageTower, PromptedText, first_context
from uniemo.errors import Seed, Width
from uniemo.models.clip import ClipParts, load_clip
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary, attribute_text

_ENCODER = ClipConfig()
_OPTIMIZER = RateConfig(lr=2e-3, weight_decay=5e-4, algorithm="sgd")  # CoCoOp's code


class ConditionedContext(nn.Module):
    """Zero-shot CLIP whose prompts begin with n = ``length`` learned vectors plus what the image adds to each of them.

    They start from the words ``init``, or from noise; ``reduction`` is the meta-net's.
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
        """Return (B, C) logits of CLIP-normalised images (B, 3, R, R); B * C prompts are encoded."""
        features = self.tower.embed(images)  # (B, E)
        context = self.context + self.meta(features)[:, None, :]  # (B, n, W)
        text = self.text(context[:, None])  # (B, C, E)
        return self.scale * torch.einsum("be,bce->bc", features, text)


class CoCoOp(ClassifierBaseline):
    """Train the context vectors and the meta-net that moves them by image.

    Prompts of all images of a batch are encoded together, where the publication takes one image at a time.

    Args:
        encoder: which CLIP.
        context_length: n, vectors in front of the name (4 in the publication).
        context_init: words to start from; null starts from noise.
        reduction: the meta-net's hidden layer is so many times narrower than CLIP's features (16 in the publication).
        optimizer: of vectors and meta-net.
        seed: of their first weights.

    Raises:
        UniEmoError: ``reduction`` below one.
    """

    method = "cocoop"

    def __init__(
        self,
        encoder: ClipConfig = _ENCODER,
        context_length: Width = 4,
        context_init: str | None = "a photo of a",
        reduction: Width = 16,
        optimizer: RateConfig = _OPTIMIZER,
        seed: Seed = 0,
    ) -> None:
        own = {"encoder": encoder, "context_length": context_length}
        super().__init__({**own, "context_init": context_init, "reduction": reduction}, optimizer, seed)

    def make_model(self, vocabulary: Vocabulary) -> nn.Module:
        """Return the network, of which context and meta-net learn."""
        own = self.hparams
        clip = load_clip(own.encoder["clip"])
        return ConditionedContext(clip, vocabulary.emotions, own.context_length, own.context_init, own.reduction)
