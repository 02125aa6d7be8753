"""How clearly an image shows some scene or object (Sem-C)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics import Metric

from uniemo.errors import UniEmoError
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.metrics.fid import check_finite
from uniemo.vocabulary import Vocabulary, attribute_text


def semantic_clarity(probabilities: Sequence[Tensor]) -> Tensor:
    """Return the largest probability of each image over several sets of classes.

    Args:
        probabilities: (B, K) softmax over each set, for example the 365 scenes of Places and ImageNet's 1000 objects.

    Returns:
        (B,) in (0, 1].
    """
    return torch.stack([part.amax(dim=1) for part in probabilities]).amax(dim=0)


def zero_shot(features: Tensor, text: Tensor, logit_scale: float) -> Tensor:
    """Return CLIP's zero-shot softmax (B, V).

    Args:
        features: (B, E) image features, normalised or not.
        text: (V, E) text features of the names.
        logit_scale: CLIP's inverse temperature.
    """
    return (logit_scale * F.normalize(features, dim=-1) @ F.normalize(text, dim=-1).T).softmax(dim=-1)


class ClarityReader(nn.Module):
    """Sem-C of a CLIP's image features, by its zero-shot softmax over a vocabulary's scenes and over its objects.

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

    def probabilities(self, features: Tensor) -> Tensor:
        """Return both softmaxes side by side, (B, S + O), of image features (B, E)."""
        parts = [zero_shot(features, getattr(self, kind), self.logit_scale) for kind in self.kinds]
        return torch.cat(parts, dim=1)

    def forward(self, features: Tensor) -> Tensor:
        """Return Sem-C (B,) of image features (B, E)."""
        return semantic_clarity([self.probabilities(features)])


class SemanticClarity(Metric):
    """Mean over images of the larger of the best scene's and the best object's probability.

    Example:
        >>> import torch
        >>> metric = SemanticClarity()
        >>> metric.update(torch.tensor([[0.7, 0.3]]), torch.tensor([[0.1, 0.8, 0.1]]))
        >>> metric.compute()
        tensor(0.8000, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.tensor(0.0, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("count", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, *probabilities: Tensor) -> None:
        """Add images by their softmaxes (B, K), one for each set of classes; UniEmoError for NaN."""
        scores = semantic_clarity(probabilities)
        check_finite(scores[:, None], "probabilities")
        self.total += scores.double().sum()
        self.count += len(scores)

    def compute(self) -> Tensor:
        """Return the mean; UniEmoError when no image was added."""
        if self.count == 0:
            raise UniEmoError("SemanticClarity needs at least 1 image; got none")
        return self.total / self.count
