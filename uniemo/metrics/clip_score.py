"""Whether images show what their prompts ask for beside the emotion (CLIPScore)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from uniemo.metrics.base import ImageMetric
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.metrics.split import first_of_each

SLOT = "{}"  # where a prompt takes the emotion


def content(prompt: str) -> str:
    """Return what a prompt asks for beside the emotion: ``"a {} room"`` is ``"a room"``, ``"{}"`` nothing."""
    return " ".join(prompt.replace(SLOT, " ").split())


class CLIPScore(ImageMetric):
    """CLIPScore of image and prompt: 100 · max(cos, 0) of CLIP's features (Hessel et al. 2021, as torchmetrics has it).

    The prompt is taken without its place for the emotion, which Emo-A measures: where an emotion has driven the content
    out ("a {} dress" without a dress) the score falls. In [0, 100], higher is better; CLIP cuts long prompts off.
    Images whose prompt asks for nothing else take no part. Takes the output ``clip``: image features (B, E).

    Args:
        text: (T, E) CLIP's features of the texts.
        which: (N,) the text of each image by its number, -1 for none.

    Example:
        >>> import torch
        >>> metric = CLIPScore(torch.eye(2), torch.tensor([0, 1, -1]))
        >>> features = torch.tensor([[2.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
        >>> metric.update(features, emotion=torch.zeros(3, dtype=torch.long), index=torch.arange(3))
        >>> float(metric.compute()["CLIPScore"][0, 0])
        50.0
    """

    name = "CLIPScore"
    needs = ("clip",)
    higher_is_better = True

    def __init__(self, text: Tensor, which: Tensor) -> None:
        super().__init__()
        self.text = torch.cat([text, torch.zeros(1, text.shape[1]).to(text)])  # the last one stands for none
        self.which = which

    @classmethod
    def of_prompts(cls, clip: FrozenClip, names: Sequence[str], prompts: Mapping[str, str]) -> CLIPScore | None:
        """Return the metric for images with these names, None where no prompt asks for anything but the emotion.

        Args:
            clip: the one that sees the images.
            names: N ids in the order of the plan.
            prompts: by id; an image without one takes no part.
        """
        asked = [content(prompts.get(name, "")) for name in names]
        texts = sorted({text for text in asked if text})
        if not texts:
            return None
        place = {text: number for number, text in enumerate(texts)}
        return cls(clip.text(texts), torch.tensor([place.get(text, -1) for text in asked]))

    def update(self, *outputs: Tensor, emotion: Tensor, index: Tensor) -> None:
        """Add images by their features (B, E)."""
        (features,) = outputs
        text = self.text[self.which[index.cpu()].to(self.text.device)]
        super().update(features, text.to(features.device), emotion=emotion, index=index)

    def score(self, features: Tensor, text: Tensor, emotion: Tensor) -> Tensor:  # type: ignore[override]
        """Return scores (B,) of features (B, E) and the features (B, E) of their texts."""
        return 100 * F.cosine_similarity(features, text, dim=1).clamp(min=0)

    def samples(self) -> tuple[Tensor, Tensor]:
        """Return scores (n, 1) and emotions (n,) of the images that have a text."""
        values, emotion = super().samples()
        index = dim_zero_cat(self.index).cpu()
        asked = self.which[index[first_of_each(index)]] >= 0
        return values[asked], emotion[asked]
