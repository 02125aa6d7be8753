"""How clearly an image shows some scene or object (Sem-C), by CLIP's zero-shot softmax."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from uniemo.errors import UniEmoError
from uniemo.metrics.networks import FrozenClip
from uniemo.vocabulary import Vocabulary, attribute_text


def semantic_clarity(features: Tensor, texts: list[Tensor], logit_scale: float) -> Tensor:
    """Return the largest zero-shot probability of each image over several sets of names.

    Args:
        features: (B, E) image features, normalised or not.
        texts: one (V, E) tensor of text features for each set of names, each with its own softmax.
        logit_scale: CLIP's inverse temperature.

    Returns:
        (B,) in (0, 1].
    """
    images = F.normalize(features, dim=-1)
    best = [
        (logit_scale * images @ F.normalize(text, dim=-1).T).softmax(dim=-1).amax(dim=-1)  # (B,)
        for text in texts
    ]
    return torch.stack(best).amax(dim=0)


class ClarityReader(nn.Module):
    """Sem-C of image features, for a vocabulary's scenes and objects.

    Args:
        clip: whose features are read; its text tower runs once, here.
        vocabulary: scene and object names; a set without names is left out.

    Raises:
        UniEmoError: the vocabulary has neither scenes nor objects.
    """

    def __init__(self, clip: FrozenClip, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.logit_scale = clip.logit_scale
        self.kinds = [kind for kind in ("scenes", "objects") if getattr(vocabulary, kind)]
        if not self.kinds:
            raise UniEmoError(
                "Sem-C needs scene or object names; the vocabulary has none: take a dataset with attributes"
            )
        for kind in self.kinds:
            names = [attribute_text(name) for name in getattr(vocabulary, kind)]
            self.register_buffer(kind, clip.text(names), persistent=False)  # (V, E)

    @property
    def texts(self) -> list[Tensor]:
        """Text features (V, E) of each set of names."""
        return [getattr(self, kind) for kind in self.kinds]

    def forward(self, features: Tensor) -> Tensor:
        """Return Sem-C (B,) of image features (B, E)."""
        return semantic_clarity(features, self.texts, self.logit_scale)


class SemanticClarity(Metric):
    """Mean over images of the larger of the best scene's and the best object's zero-shot probability.

    Args:
        scene_text: (S, E) text features of scene names.
        object_text: (O, E) text features of object names.
        logit_scale: CLIP's inverse temperature.

    Example:
        >>> import torch
        >>> metric = SemanticClarity(torch.eye(2), torch.eye(2), logit_scale=0.0)
        >>> metric.update(torch.ones(5, 2))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    scene_text: Tensor
    object_text: Tensor
    total: Tensor
    count: Tensor

    def __init__(self, scene_text: Tensor, object_text: Tensor, logit_scale: float) -> None:
        super().__init__()
        self.register_buffer("scene_text", scene_text, persistent=False)
        self.register_buffer("object_text", object_text, persistent=False)
        self.logit_scale = logit_scale
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, features: Tensor) -> None:
        """Add images by their features (B, E), normalised or not."""
        scores = semantic_clarity(features, [self.scene_text, self.object_text], self.logit_scale)
        self.total += scores.double().sum()
        self.count += len(scores)

    def compute(self) -> Tensor:
        """Return the mean; UniEmoError when no image was added."""
        if self.count == 0:
            raise UniEmoError("SemanticClarity needs at least 1 image; got none")
        return self.total / self.count
