"""How clearly an image shows some scene or object (Sem-C)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from uniemo.errors import UniEmoError
from uniemo.metrics.base import ImageMetric
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.vocabulary import Vocabulary, attribute_text


def semantic_clarity(probabilities: Sequence[Tensor]) -> Tensor:
    """Return the largest probability of each image over several sets of classes.

    Args:
        probabilities: (B, K) softmax over each set, for example the 365 scenes of Places and ImageNet's 1000 objects.

    Returns:
        (B,) in (0, 1].
    """
    return torch.stack([part.amax(dim=1) for part in probabilities]).amax(dim=0)


class SemC(ImageMetric):
    """Semantic clarity: mean over images of the larger of the best scene's and the best object's probability.

    In (0, 1], higher is clearer (EmoGen, Yang et al. 2024).

    Args:
        needs: outputs, probabilities (B, K) over a set of classes each.

    Example:
        >>> import torch
        >>> metric = SemC()
        >>> softmaxes = torch.tensor([[0.75, 0.25]]), torch.tensor([[0.1, 0.8, 0.1]])
        >>> metric.update(*softmaxes, emotion=torch.tensor([0]), index=torch.tensor([0]))
        >>> round(float(metric.compute()["Sem-C"][0, 0]), 4)
        0.8
    """

    name = "Sem-C"
    higher_is_better = True

    def __init__(self, needs: Sequence[str] = ("objects", "scenes")) -> None:
        super().__init__()
        self.needs = tuple(needs)

    def score(self, *probabilities: Tensor, emotion: Tensor) -> Tensor:
        """Return :func:`semantic_clarity`."""
        return semantic_clarity(probabilities)


def zero_shot(features: Tensor, text: Tensor, logit_scale: float) -> Tensor:
    """Return CLIP's zero-shot softmax (B, V).

    Args:
        features: (B, E) image features, normalised or not.
        text: (V, E) text features of the names.
        logit_scale: CLIP's inverse temperature.
    """
    return (logit_scale * F.normalize(features, dim=-1) @ F.normalize(text, dim=-1).T).softmax(dim=-1)


class ZeroShotClarity:
    """Sem-C by one CLIP, from its zero-shot softmax over a vocabulary's scenes and over its objects.

    Attributes:
        heads: features (B, E) to probabilities (B, V), by the name of the set: ``objects``, ``scenes``.

    Raises:
        UniEmoError: the vocabulary has neither scenes nor objects.
    """

    def __init__(self, clip: FrozenClip, vocabulary: Vocabulary) -> None:
        named = {kind: getattr(vocabulary, kind) for kind in ("objects", "scenes")}
        text = {kind: clip.text([attribute_text(name) for name in names]) for kind, names in named.items() if names}
        if not text:
            raise UniEmoError(
                "Sem-C needs scene or object names; the vocabulary has none: take a dataset with attributes"
            )
        self.heads = {kind: partial(zero_shot, text=part, logit_scale=clip.logit_scale) for kind, part in text.items()}

    def __call__(self, features: Tensor) -> Tensor:
        """Return Sem-C (B,) of image features (B, E)."""
        return semantic_clarity([head(features) for head in self.heads.values()])
