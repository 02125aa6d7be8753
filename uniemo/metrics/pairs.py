"""Figures that are means over random pairs of images inside one emotion."""

from __future__ import annotations

from abc import abstractmethod
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from uniemo.errors import UniEmoError


def random_pairs(count: int, pairs: int, seed: int | tuple[int, ...]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw distinct pairs i < j of ``count`` things.

    Args:
        count: n.
        pairs: how many; where fewer than that exist, all n (n - 1) / 2 are returned.
        seed: of the draw.

    Returns:
        i (m,) and j (m,).
    """
    total = count * (count - 1) // 2
    number = np.arange(total)
    if pairs < total:
        number = np.sort(np.random.default_rng(seed).choice(total, pairs, replace=False))
    # Pair number k counts (0, 1), (0, 2), (1, 2), (0, 3), …: column j starts at j (j - 1) / 2.
    j = ((1 + np.sqrt(1 + 8 * number.astype(np.float64))) // 2).astype(np.int64)
    return number - j * (j - 1) // 2, j


def pair_distances(
    vectors: Tensor, emotion: Tensor, sample_id: Tensor, num_emotions: int, pairs: int = 1000, seed: int = 0
) -> Tensor:
    """Return the mean squared Euclidean distance of random pairs inside each emotion.

    The draw depends on sample ids, not on the order of arrival; an id that comes twice counts once.

    Args:
        vectors: (N, F).
        emotion: (N,) class indices.
        sample_id: (N,).
        num_emotions: C.
        pairs: pairs of each emotion; all where fewer exist.
        seed: of the draw.

    Returns:
        (C,), NaN for an emotion with fewer than two images.
    """
    ids = sample_id.cpu().numpy()
    rows = np.unique(ids, return_index=True)[1]  # sorted by id, first of each
    labels = emotion.cpu().numpy()[rows]
    result = torch.full((num_emotions,), torch.nan, dtype=torch.float64)
    for label in range(num_emotions):
        members = rows[labels == label]
        if len(members) < 2:
            continue
        i, j = random_pairs(len(members), pairs, (seed, label))
        first, second = torch.from_numpy(members[i]), torch.from_numpy(members[j])
        total = 0.0
        for a, b in zip(first.split(64), second.split(64), strict=True):
            total += float((vectors[a].float() - vectors[b].float()).square().sum(dtype=torch.float64))
        result[label] = total / len(i)
    return result


def mean_over_emotions(by_emotion: Tensor, what: str) -> Tensor:
    """Return the mean of (C,) over the emotions that have a value.

    Raises:
        UniEmoError: none has.
    """
    present = by_emotion[~by_emotion.isnan()]
    if not len(present):
        raise UniEmoError(f"{what} needs at least 2 images of one emotion; got fewer: generate more")
    return present.mean()


class PairMetric(Metric):
    """Mean distance of random pairs inside one emotion; subclasses say which distance.

    The vectors of all images are kept, in half precision, until :meth:`compute`: pairs are drawn from all of them.

    Args:
        num_emotions: C.
        pairs: pairs of each emotion; all where fewer exist.
        seed: of the draw.
        average: ``mean`` over emotions, each with the same weight, or ``none`` for (C,) values.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    vectors: list[Tensor]
    emotion: list[Tensor]
    sample_id: list[Tensor]

    def __init__(
        self, num_emotions: int, pairs: int = 1000, seed: int = 0, average: Literal["mean", "none"] = "mean"
    ) -> None:
        super().__init__()
        if pairs < 1:
            raise UniEmoError(f"pairs must be at least 1; got {pairs}")
        self.num_emotions = num_emotions
        self.pairs = pairs
        self.seed = seed
        self.average = average
        for name in ("vectors", "emotion", "sample_id"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, vectors: Tensor, emotion: Tensor, sample_id: Tensor) -> None:
        """Add images.

        Args:
            vectors: (B, F) what is compared.
            emotion: (B,) class indices.
            sample_id: (B,) unique over all images and ranks; an id that comes again is dropped.
        """
        self.vectors.append(vectors.detach().half())
        self.emotion.append(emotion)
        self.sample_id.append(sample_id)

    def compute(self) -> Tensor:
        """Return the mean over emotions, or (C,) with NaN for emotions with fewer than two images."""
        if not len(self.vectors):
            raise UniEmoError(f"{type(self).__name__} needs at least 2 images of one emotion; got none")
        vectors, emotion, sample_id = (
            torch.cat(state) if isinstance(state, list) else state
            for state in (self.vectors, self.emotion, self.sample_id)
        )
        by_emotion = pair_distances(vectors, emotion, sample_id, self.num_emotions, self.pairs, self.seed)
        by_emotion = by_emotion * self.weight(vectors.shape[1])
        return by_emotion if self.average == "none" else mean_over_emotions(by_emotion, type(self).__name__)

    @abstractmethod
    def weight(self, size: int) -> float:
        """Return the factor on squared Euclidean distances of vectors of this size."""
