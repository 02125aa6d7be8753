"""Accuracy and calibration of a classifier."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error, multiclass_confusion_matrix

BINS = 15  # Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 5
TEMPERATURES = (0.05, 20.0)  # where one is looked for; without bounds a classifier that is never wrong would have none


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T that makes softmax(logits / T) fit the labels best (Guo et al. 2017, section 4.2).

    The negative log likelihood is convex in 1/T, so that the place where its slope is zero is found by bisection: no
    step size, and the same value each time. The arg max, and so the accuracy, does not change.

    Args:
        logits: (N, C) on images that the classifier was not trained on: the validation split, never the test split.
        labels: (N,) class indices.

    Returns:
        T in [0.05, 20]; above 1 where the classifier was too sure.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)  # 4 / ln 3
        3.641
    """
    logits, labels = logits.detach().double().cpu(), labels.cpu()
    own = logits.gather(1, labels[:, None]).squeeze(1)

    def slope(temperature: float) -> float:
        """Return the derivative by 1/T of the mean negative log likelihood; it rises with 1/T."""
        probabilities = (logits / temperature).softmax(dim=1)
        return float(((probabilities * logits).sum(dim=1) - own).mean())

    cold, hot = (math.log(value) for value in TEMPERATURES)
    for _ in range(60):  # to the last bits of a double
        middle = (cold + hot) / 2
        if slope(math.exp(middle)) > 0:  # 1/T is too large
            cold = middle
        else:
            hot = middle
    return math.exp((cold + hot) / 2)


def classification_metrics(logits: Tensor, labels: Tensor, emotions: Sequence[str]) -> dict[str, object]:
    """Return how accurate and how well calibrated a classifier is, ready for JSON.

    Args:
        logits: (N, C), N at least 1.
        labels: (N,) class indices.
        emotions: C names.

    Returns:
        ``images``; ``accuracy``; ``balanced_accuracy``, the mean over emotions that have images; ``by_emotion`` with
        ``images`` and ``accuracy`` (None without images) by name; ``confusion``, C rows (the label) of C counts (the
        prediction); ``confidence``, the mean of the largest probability; ``ece``, the expected calibration error of
        torchmetrics over ``ece_bins`` bins; ``brier``, the squared distance of probabilities and one-hot label summed
        over classes (Brier 1950); ``nll``, the mean negative log likelihood.

    Example:
        >>> import torch
        >>> logits, labels = torch.tensor([[0.75, 0.25]] * 4).log(), torch.tensor([0, 0, 0, 1])
        >>> metrics = classification_metrics(logits, labels, ("awe", "fear"))
        >>> metrics["accuracy"], metrics["balanced_accuracy"], metrics["ece"]
        (0.75, 0.5, 0.0)
    """
    logits, labels = logits.detach().double().cpu(), labels.cpu()
    classes = len(emotions)
    probabilities = logits.softmax(dim=1)
    confusion = multiclass_confusion_matrix(probabilities, labels, classes)
    counts, right = confusion.sum(dim=1), confusion.diagonal()
    share = right.double() / counts
    return {
        "images": len(labels),
        "accuracy": float(right.sum() / counts.sum()),
        "balanced_accuracy": float(share[counts > 0].mean()),
        "by_emotion": {
            name: {"images": int(counts[row]), "accuracy": float(share[row]) if counts[row] else None}
            for row, name in enumerate(emotions)
        },
        "confusion": confusion.tolist(),
        "confidence": float(probabilities.amax(dim=1).mean()),
        "ece": float(multiclass_calibration_error(probabilities, labels, classes, n_bins=BINS)),
        "ece_bins": BINS,
        "brier": float((probabilities - F.one_hot(labels, classes)).square().sum(dim=1).mean()),
        "nll": float(F.cross_entropy(logits, labels)),
    }
