"""Whether an independent classifier sees the intended emotion (Emo-A)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix

from uniemo.metrics.base import ImageMetric
from uniemo.taxonomy import EIGHT_TO_TWO


def emotion_scores(probabilities: Tensor, emotion: Tensor, negative: Tensor | None = None) -> Tensor:
    """Return how well each image evokes the intended emotion.

    Args:
        probabilities: (B, C) in [0, 1], rows that sum to 1.
        emotion: (B,) intended class index.
        negative: (C,) bool, which emotions are negative; see :func:`polarities`.

    Returns:
        (B, 2) or, with ``negative``, (B, 3): whether the arg max is the intended emotion (0 or 1), the probability of
        that emotion, and whether the emotions of the intended polarity have more than half of the probability.
    """
    columns = [
        (probabilities.argmax(dim=1) == emotion).to(probabilities),
        probabilities.gather(1, emotion[:, None]).squeeze(1),
    ]
    if negative is not None:
        same = negative[None, :] == negative[emotion][:, None]  # (B, C)
        columns.append(((probabilities * same).sum(dim=1) > 0.5).to(probabilities))
    return torch.stack(columns, dim=1)


def polarities(emotions: Sequence[str]) -> Tensor | None:
    """Return for each emotion whether it is negative, (C,) bool; None where the names are not Mikels' eight."""
    if set(emotions) != set(EIGHT_TO_TWO):
        return None
    return torch.tensor([EIGHT_TO_TWO[name] == "negative" for name in emotions])


class EmoA(ImageMetric):
    """Emotion accuracy: the share of images whose most probable emotion is the intended one.

    Beside it the mean probability of that emotion and, of Mikels' eight, the accuracy on two classes; all in [0, 1],
    higher is better (EmoGen, Yang et al. 2024). Takes an emotion classifier's probabilities (B, C).

    Args:
        emotions: names of the C classes.
        needs: name of the classifier's output; what follows ``emotion`` follows the metrics' names too.

    Attributes:
        confusion: (C, C) counts after :meth:`compute`, rows intended, columns predicted.
        answers: (N,) each after :meth:`compute`, in the order of the images' numbers: the intended emotion, the
            predicted one, and the probability of the intended one.

    Example:
        >>> import torch
        >>> metric = EmoA(["awe", "fear"])
        >>> probabilities = torch.tensor([[0.75, 0.25], [0.75, 0.25]])
        >>> metric.update(probabilities, emotion=torch.tensor([0, 1]), index=torch.arange(2))
        >>> float(metric.compute()["Emo-A"][0, 0])
        0.5
    """

    name = "Emo-A"
    higher_is_better = True
    confusion: Tensor
    answers: tuple[Tensor, Tensor, Tensor]

    def __init__(self, emotions: Sequence[str], needs: str = "emotion") -> None:
        super().__init__()
        self.emotions = tuple(emotions)
        self.needs = (needs,)
        self.negative = polarities(emotions)

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the scores."""
        kinds = ("", " probability") if self.negative is None else ("", " probability", " two-class")
        return tuple(f"{self.name}{kind}{self.needs[0].removeprefix('emotion')}" for kind in kinds)

    def score(self, probabilities: Tensor, emotion: Tensor) -> Tensor:  # type: ignore[override]
        """Return :func:`emotion_scores` of probabilities (B, C), and the prediction in a last column."""
        if probabilities.shape[1] != len(self.emotions):
            raise ValueError(
                f"emotion classifier must know {len(self.emotions)} emotions; it gives {probabilities.shape[1]} "
                "probabilities: take one trained on these emotions"
            )
        negative = None if self.negative is None else self.negative.to(probabilities.device)
        prediction = probabilities.argmax(dim=1, keepdim=True).to(probabilities)
        return torch.cat([emotion_scores(probabilities, emotion, negative), prediction], dim=1)

    def compute(self) -> dict[str, Tensor]:
        """Return accuracy, probability and two-class accuracy."""
        values, emotion = self.samples()
        self.answers = emotion, values[:, -1].long(), values[:, 1]
        self.confusion = multiclass_confusion_matrix(values[:, -1].long(), emotion, len(self.emotions))
        return super().compute()
