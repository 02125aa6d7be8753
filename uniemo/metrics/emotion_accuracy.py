"""Whether an independent classifier sees the emotion that was intended (Emo-A)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from uniemo.data.emotions import EIGHT_TO_TWO
from uniemo.errors import UniEmoError
from uniemo.metrics.fid import check_finite


def emotion_scores(probabilities: Tensor, emotion: Tensor) -> tuple[Tensor, Tensor]:
    """Return whether the arg max is the intended emotion, (B,) bool, and the probability of that emotion, (B,).

    Args:
        probabilities: (B, C) in [0, 1].
        emotion: (B,) intended class index.
    """
    return probabilities.argmax(dim=1) == emotion, probabilities.gather(1, emotion[:, None]).squeeze(1)


def polarities(emotions: Sequence[str]) -> Tensor | None:
    """Return for each emotion whether it is negative, (C,) bool; None where the names are not Mikels' eight."""
    if set(emotions) != set(EIGHT_TO_TWO):
        return None
    return torch.tensor([EIGHT_TO_TWO[name] == "negative" for name in emotions])


def two_class_hits(probabilities: Tensor, emotion: Tensor, negative: Tensor) -> Tensor:
    """Return whether the four emotions of the intended polarity have more than half of the probability, (B,) bool.

    Args:
        probabilities: (B, C) in [0, 1], rows that sum to 1.
        emotion: (B,) intended class index.
        negative: (C,) bool, see :func:`polarities`.
    """
    same = negative[None, :] == negative[emotion][:, None]  # (B, C)
    return (probabilities * same).sum(dim=1) > 0.5


class EmotionAccuracy(Metric):
    """Share of images whose most probable emotion is the intended one, and the mean probability of that.

    Args:
        num_emotions: C.

    Example:
        >>> import torch
        >>> metric = EmotionAccuracy(num_emotions=2)
        >>> metric.update(torch.tensor([[0.75, 0.25], [0.75, 0.25]]), torch.tensor([0, 1]))
        >>> metric.compute()["accuracy"]
        tensor(0.5000, dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    hits: Tensor
    mass: Tensor
    count: Tensor

    def __init__(self, num_emotions: int) -> None:
        super().__init__()
        for name in ("hits", "mass", "count"):
            self.add_state(name, torch.zeros(num_emotions, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, probabilities: Tensor, emotion: Tensor) -> None:
        """Add images.

        Args:
            probabilities: (B, C) of an emotion classifier.
            emotion: (B,) intended class index.

        Raises:
            UniEmoError: a probability that is not finite.
        """
        check_finite(probabilities, "probabilities")
        hit, probability = emotion_scores(probabilities, emotion)
        self.hits.index_add_(0, emotion, hit.double())
        self.mass.index_add_(0, emotion, probability.double())
        self.count.index_add_(0, emotion, torch.ones_like(probability, dtype=torch.float64))

    def compute(self) -> dict[str, Tensor]:
        """Return the figures.

        Returns:
            ``accuracy`` and ``probability`` over all images; ``accuracy_by_emotion`` and ``probability_by_emotion``
            (C,), NaN for an emotion without images.

        Raises:
            UniEmoError: no image was added.
        """
        total = self.count.sum()
        if total == 0:
            raise UniEmoError("EmotionAccuracy needs at least 1 image; got none")
        return {
            "accuracy": self.hits.sum() / total,
            "probability": self.mass.sum() / total,
            "accuracy_by_emotion": self.hits / self.count,
            "probability_by_emotion": self.mass / self.count,
        }
