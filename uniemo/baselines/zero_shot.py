"""CLIP zero-shot: the emotion whose prompts lie nearest to the image (Radford et al., 2021). Nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from uniemo.baselines.base import ClassifierBaseline, ClipConfig
from uniemo.baselines.towers import ImageTower
from uniemo.errors import Seed, UniEmoError
from uniemo.models.clip import ClipParts, TextEncoder, load_clip
from uniemo.vocabulary import Vocabulary

_ENCODER = ClipConfig()
TEMPLATES = (  # ours, after the form of CLIP's own; emotion names are nouns
    "{}",
    "a photo of {}.",
    "a photo that evokes {}.",
    "a photo that makes people feel {}.",
    "an image that expresses {}.",
    "the emotion of this photo is {}.",
)


class ZeroShotNetwork(nn.Module):
    """Cosine of image and emotion, times CLIP's own scale."""

    text: Tensor

    def __init__(self, clip: ClipParts, emotions: Sequence[str], templates: Sequence[str]) -> None:
        super().__init__()
        self.tower = ImageTower(clip)
        self.scale = clip.logit_scale
        self.register_buffer("text", ensemble(clip.text, emotions, templates), persistent=False)  # (C, E)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) logits of CLIP-normalised images (B, 3, R, R)."""
        return self.scale * self.tower.embed(images) @ self.text.T


def ensemble(text: TextEncoder, names: Sequence[str], templates: Sequence[str]) -> Tensor:
    """Return (C, E) features of length one: the mean over templates of each name's, as CLIP averages its prompts."""
    prompts = [template.replace("{}", name) for name in names for template in templates]
    features = F.normalize(text(prompts), dim=-1).unflatten(0, (len(names), len(templates)))  # (C, P, E)
    return F.normalize(features.mean(dim=1), dim=-1)


class ZeroShot(ClassifierBaseline):
    """Classify by an ensemble of prompts.

    Args:
        encoder: which CLIP.
        templates: prompts with ``{}`` where the emotion's name goes.
        seed: without effect, nothing is random.

    Raises:
        UniEmoError: no template, or one without ``{}``.
    """

    method = "zero_shot"
    trains = False

    def __init__(self, encoder: ClipConfig = _ENCODER, templates: tuple[str, ...] = TEMPLATES, seed: Seed = 0) -> None:
        wrong = next((template for template in templates if "{}" not in template), None)
        if not templates or wrong is not None:
            raise UniEmoError(f"model.templates must be prompts with {{}} for the emotion; got {wrong or 'none'!r}")
        super().__init__({"encoder": encoder, "templates": templates}, None, seed)

    def make_model(self, vocabulary: Vocabulary) -> nn.Module:
        """Return the frozen network."""
        return ZeroShotNetwork(load_clip(self.hparams.encoder["clip"]), vocabulary.emotions, self.hparams.templates)
