"""Whether a classifier's probabilities mean what they say."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from uniemo.errors import UniEmoError

BINS = 15  # Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 5
TEMPERATURES = (0.05, 20.0)  # where one is looked for; without bounds a classifier that is never wrong would have none


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Return how far confidence and accuracy lie apart on average (Guo et al. 2017, eq. 3).

    The confidence of an image is its largest probability. Images are binned by it into bins ((m-1)/M, m/M]; the error
    is the mean over images of |accuracy - mean confidence| of their bin.

    Args:
        probabilities: (N, C) in [0, 1].
        labels: (N,) class indices.
        bins: M, all equally wide.

    Returns:
        In [0, 1]; 0 is best.

    Raises:
        UniEmoError: no images, or values that are no probabilities.

    Example:
        >>> import torch
        >>> probabilities = torch.tensor([[0.75, 0.25], [0.75, 0.25]], dtype=torch.float64)
        >>> expected_calibration_error(probabilities, torch.tensor([0, 1]))
        0.25
    """
    table = reliability(probabilities, labels, bins)
    filled = table.count > 0
    gap = (table.accuracy - table.confidence).abs()[filled]
    return float((gap * table.count[filled]).sum() / table.count.sum())


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram's numbers, one row for each bin of confidence.

    Attributes:
        count: (M,) images.
        confidence: (M,) their mean confidence, NaN where there are none.
        accuracy: (M,) the share that is right, NaN where there are none.
    """

    count: Tensor
    confidence: Tensor
    accuracy: Tensor


def reliability(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> Reliability:
    """Return count, mean confidence and accuracy in bins of confidence ((m-1)/M, m/M].

    Args:
        probabilities: (N, C) in [0, 1].
        labels: (N,) class indices.
        bins: M.

    Raises:
        UniEmoError: no images, or values that are no probabilities.

    Example:
        >>> import torch
        >>> reliability(torch.tensor([[1.0, 0.0], [0.4, 0.6]]), torch.tensor([0, 0]), bins=2).count
        tensor([0., 2.], dtype=torch.float64)
    """
    if bins < 1:
        raise UniEmoError(f"bins must be at least 1; got {bins}")
    values, labels = _checked(probabilities, labels)
    confidence, answer = values.max(dim=1)
    place = ((confidence * bins).ceil().long() - 1).clamp(0, bins - 1)  # (N,)
    count, mass, right = (torch.zeros(bins, dtype=torch.float64) for _ in range(3))
    count.index_add_(0, place, torch.ones_like(confidence))
    mass.index_add_(0, place, confidence)
    right.index_add_(0, place, (answer == labels).double())
    return Reliability(count, mass / count, right / count)


def brier_score(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean over images of the squared distance between probabilities and the one-hot label (Brier 1950).

    Args:
        probabilities: (N, C) in [0, 1].
        labels: (N,) class indices.

    Returns:
        In [0, 2], the sum over classes as Brier has it; 0 is best.

    Raises:
        UniEmoError: no images, or values that are no probabilities.

    Example:
        >>> import torch
        >>> brier_score(torch.tensor([[0.5, 0.5]]), torch.tensor([0]))
        0.5
    """
    values, labels = _checked(probabilities, labels)
    target = torch.nn.functional.one_hot(labels, values.shape[1])
    return float((values - target).square().sum(dim=1).mean())


def negative_log_likelihood(probabilities: Tensor, labels: Tensor) -> float:
    """Return the mean over images of -ln of the label's probability.

    Args:
        probabilities: (N, C) in [0, 1]; float64 ones of a softmax do not vanish.
        labels: (N,) class indices.

    Returns:
        At least 0, which is best; infinite where a label has probability 0.

    Raises:
        UniEmoError: no images, or values that are no probabilities.

    Example:
        >>> import torch
        >>> round(negative_log_likelihood(torch.tensor([[0.5, 0.5]]), torch.tensor([0])), 4)
        0.6931
    """
    values, labels = _checked(probabilities, labels)
    return float(-values.gather(1, labels[:, None]).log().mean())


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature T that makes softmax(logits / T) fit the labels best (Guo et al. 2017, section 4.2).

    The negative log likelihood is convex in 1/T, so that the place where its slope is zero is found by bisection: no
    step size, and the same answer each time. The arg max, and so the accuracy, does not change.

    Args:
        logits: (N, C) on images that the classifier was not trained on: the validation split, never the test split.
        labels: (N,) class indices.

    Returns:
        T in [0.05, 20]; above 1 where the classifier was too sure.

    Raises:
        UniEmoError: no images, or logits that are not finite.

    Example:
        >>> import torch
        >>> logits = torch.tensor([[4.0, 0.0], [4.0, 0.0], [4.0, 0.0], [4.0, 0.0]])
        >>> round(fit_temperature(logits, torch.tensor([0, 0, 0, 1])), 3)  # 4 / ln 3
        3.641
    """
    logits, labels = _shaped(logits, labels, "logits")
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


def classification_figures(
    probabilities: Tensor, labels: Tensor, emotions: Sequence[str], bins: int = BINS
) -> dict[str, object]:
    """Return how well and how surely a classifier tells emotions, ready for JSON.

    Args:
        probabilities: (N, C) in [0, 1].
        labels: (N,) class indices.
        emotions: C names.
        bins: of the calibration error.

    Returns:
        ``images``; ``accuracy``; ``balanced_accuracy``, the mean over emotions that have images; ``by_emotion`` with
        ``images`` and ``accuracy`` (None without images) by name; ``confusion``, C rows (the label) of C counts (the
        answer); ``confidence``, the mean of the largest probability; ``ece`` and ``ece_bins``; ``brier``; ``nll``.

    Raises:
        UniEmoError: no images, or values that are no probabilities.

    Example:
        >>> import torch
        >>> probabilities, labels = torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1])
        >>> figures = classification_figures(probabilities, labels, ("awe", "fear"))
        >>> figures["accuracy"], figures["balanced_accuracy"], figures["ece"]
        (0.75, 0.5, 0.0)
    """
    values, labels = _checked(probabilities, labels)
    classes = values.shape[1]
    if len(emotions) != classes:
        raise UniEmoError(f"emotions must name the {classes} classes of the probabilities; got {len(emotions)} names")
    confusion = torch.bincount(labels * classes + values.argmax(dim=1), minlength=classes**2).view(classes, classes)
    counts = confusion.sum(dim=1)
    right = confusion.diagonal()
    share = right.double() / counts
    by_emotion = {
        name: {"images": int(counts[row]), "accuracy": float(share[row]) if counts[row] else None}
        for row, name in enumerate(emotions)
    }
    return {
        "images": len(labels),
        "accuracy": float(right.sum() / counts.sum()),
        "balanced_accuracy": float(share[counts > 0].mean()),
        "by_emotion": by_emotion,
        "confusion": confusion.tolist(),
        "confidence": float(values.amax(dim=1).mean()),
        "ece": expected_calibration_error(values, labels, bins),
        "ece_bins": bins,
        "brier": brier_score(values, labels),
        "nll": negative_log_likelihood(values, labels),
    }


def _shaped(values: Tensor, labels: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Return finite values (N, C) as float64 and labels (N,), both on the CPU, or raise."""
    if values.ndim != 2 or labels.ndim != 1 or len(values) != len(labels):
        raise UniEmoError(f"{name} must be (N, C) and labels (N,); got {tuple(values.shape)} and {tuple(labels.shape)}")
    if not len(labels):
        raise UniEmoError(f"{name} must be of at least 1 image; got none")
    values, labels = values.detach().double().cpu(), labels.detach().long().cpu()
    if not values.isfinite().all():
        raise UniEmoError(f"{name} must be finite; row {int((~values.isfinite()).any(dim=1).nonzero()[0])} is not")
    if int(labels.min()) < 0 or int(labels.max()) >= values.shape[1]:
        raise UniEmoError(
            f"labels must lie in [0, {values.shape[1] - 1}]; got {int(labels.min())} to {int(labels.max())}"
        )
    return values, labels


def _checked(probabilities: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Do the same for probabilities, which must lie in [0, 1] and sum to 1."""
    values, labels = _shaped(probabilities, labels, "probabilities")
    off = (values.sum(dim=1) - 1).abs().max()
    if float(values.min()) < 0 or float(off) > 1e-3:  # float16 rounds so
        raise UniEmoError("probabilities must be at least 0 and sum to 1 for each image; these do not: apply softmax")
    return values, labels
