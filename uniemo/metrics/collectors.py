"""What the evaluator keeps of each image: a few numbers, running sums, and vectors while a pair waits for them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uniemo.distributed import gather, sum_over_ranks
from uniemo.errors import UniEmoError
from uniemo.metrics.emotion_accuracy import emotion_scores, polarities, two_class_hits
from uniemo.metrics.fid import FeatureStatistics, check_finite
from uniemo.metrics.pair_store import PairStore
from uniemo.metrics.pairs import EvaluationPlan, PairPlan
from uniemo.metrics.protocols import Reading
from uniemo.metrics.semantic_clarity import semantic_clarity

Array = NDArray[np.float64]
ROWS = 1000  # features kept of each emotion, for the intervals of FID alone; 8 × 1000 × 2048 take 65 MB


class Collector(ABC):
    """Takes one reading of images as they come.

    Args:
        plan: which images there are.
        reading: what is taken.
    """

    def __init__(self, plan: EvaluationPlan, reading: Reading) -> None:
        self.plan = plan
        self.reading = reading

    def wanted(self, positions: Sequence[int]) -> list[int]:
        """Return the rows of ``positions`` that are of use; all by default."""
        return list(range(len(positions)))

    def take(self, output: dict[str, Tensor], positions: list[int]) -> None:
        """Take what the network gave of the images at ``positions``.

        Raises:
            UniEmoError: a value that is not finite; the image is named.
        """
        value = self.reading.read(output)
        check_finite(value, f"output {self.reading.key!r} of {self.reading.name}", self._names(positions))
        self.add(value, positions)

    @abstractmethod
    def add(self, value: Tensor, positions: list[int]) -> None:
        """Add finite values."""

    @abstractmethod
    def merge(self) -> None:
        """Bring together what all ranks have; every rank calls it."""

    def _names(self, positions: Sequence[int]) -> list[str]:
        return [self.plan.names[position] for position in positions]


class EmotionScores(Collector):
    """An emotion classifier's choice and probabilities.

    Attributes:
        prediction: (N,) class index with the highest probability, NaN before the image came.
        scores: (N,) each: ``hit`` (0 or 1), ``probability`` of the intended emotion and, of Mikels' eight,
            ``two-class`` (0 or 1).
    """

    def __init__(self, plan: EvaluationPlan, reading: Reading) -> None:
        super().__init__(plan, reading)
        self.negative = polarities(plan.emotions)
        names = ("hit", "probability") if self.negative is None else ("hit", "probability", "two-class")
        self.prediction = np.full(len(plan.names), np.nan)
        self.scores = {name: np.full(len(plan.names), np.nan) for name in names}

    def add(self, value: Tensor, positions: list[int]) -> None:
        """Add probabilities (B, C); UniEmoError when there are not as many as emotions."""
        if value.shape[1] != len(self.plan.emotions):
            raise UniEmoError(
                f"emotion classifier must tell {len(self.plan.emotions)} emotions apart; {self.reading.name} gives "
                f"{value.shape[1]} probabilities: take one trained on these emotions"
            )
        value = value.cpu()
        emotion = torch.from_numpy(self.plan.emotion[positions])
        hit, probability = emotion_scores(value, emotion)
        self.prediction[positions] = value.argmax(dim=1).numpy()
        self.scores["hit"][positions] = hit.numpy()
        self.scores["probability"][positions] = probability.numpy()
        if self.negative is not None:
            self.scores["two-class"][positions] = two_class_hits(value, emotion, self.negative).numpy()

    def merge(self) -> None:
        """Fill in the images of other ranks."""
        self.prediction, *scores = _filled([self.prediction, *self.scores.values()])
        self.scores = dict(zip(self.scores, scores, strict=True))

    def confusion(self) -> NDArray[np.int64]:
        """Return how many images of each intended emotion (row) were taken for each emotion (column), (C, C)."""
        classes = len(self.plan.emotions)
        cell = self.plan.emotion * classes + self.prediction.astype(np.int64)
        return np.bincount(cell, minlength=classes * classes).reshape(classes, classes)


class ClarityScores(Collector):
    """The largest probability over one set of classes.

    Attributes:
        score: (N,), NaN before the image came.
    """

    def __init__(self, plan: EvaluationPlan, reading: Reading) -> None:
        super().__init__(plan, reading)
        self.score = np.full(len(plan.names), np.nan)

    def add(self, value: Tensor, positions: list[int]) -> None:
        """Add probabilities (B, K)."""
        self.score[positions] = semantic_clarity([value]).double().cpu().numpy()

    def merge(self) -> None:
        """Fill in the images of other ranks."""
        self.score = _filled([self.score])[0]


class PairDistances(Collector):
    """Squared distances of one protocol's pairs, (m,); vectors go as soon as no pair waits for them."""

    def __init__(self, plan: EvaluationPlan, reading: Reading, pairs: PairPlan) -> None:
        super().__init__(plan, reading)
        self.store = PairStore(pairs.first, pairs.second)
        self.size = 0

    @property
    def distance(self) -> Array:
        """Squared distance of each pair, NaN before both images came."""
        return self.store.distance

    def wanted(self, positions: Sequence[int]) -> list[int]:
        """Return the rows of images that are in a pair."""
        return self.store.wanted(positions)

    def take(self, output: dict[str, Tensor], positions: list[int]) -> None:
        """Take vectors; whether they are finite is looked up where a distance is not: they are long."""
        vectors = self.reading.read(output)
        self.size = vectors.shape[1]
        if not self.store.add(positions, vectors):
            check_finite(vectors, f"output {self.reading.key!r} of {self.reading.name}", self._names(positions))
            raise UniEmoError(f"distances of {self.reading.name} must be finite; they overflow: look at its weights")

    def add(self, value: Tensor, positions: list[int]) -> None:
        """Add vectors (B, V)."""
        self.store.add(positions, value)

    def merge(self) -> None:
        """Work out the pairs whose images were seen by different ranks, and bring all distances together."""
        self.store.exchange()
        self.size = max(gather(self.size))
        self.store.distance = _filled([self.distance])[0]


class FeatureSet(Collector):
    """Running sums of features for FID and, for its intervals, the first :data:`ROWS` features of each emotion."""

    def __init__(self, plan: EvaluationPlan, reading: Reading) -> None:
        super().__init__(plan, reading)
        self.statistics: FeatureStatistics | None = None
        self.rows: dict[int, Tensor] = {}  # by class index, (n, F) in the order of slots

    def add(self, value: Tensor, positions: list[int]) -> None:
        """Add features (B, F)."""
        emotion, slot = self.plan.emotion[positions], self.plan.slot[positions]
        if self.statistics is None:
            self.statistics = new_statistics(self.plan, self.reading, value)
        self.statistics.update(value, torch.from_numpy(emotion))
        value = value.float().cpu()
        for label in np.unique(emotion[slot < ROWS]).tolist():
            if label not in self.rows:
                count = min(ROWS, self.plan.counts[self.plan.emotions[label]])
                self.rows[label] = torch.full((count, value.shape[1]), torch.nan)
            mine = (emotion == label) & (slot < ROWS)
            self.rows[label][torch.from_numpy(slot[mine])] = value[torch.from_numpy(mine)]

    def merge(self) -> None:
        """Add up the sums of all ranks and fill in their rows."""
        if self.statistics is None:
            return
        sum_over_ranks(list(self.statistics.state().values()))
        for rows in gather(self.rows):
            for label, part in rows.items():
                mine = self.rows.setdefault(label, part)
                self.rows[label] = mine.where(mine.isfinite(), part)


def new_statistics(plan: EvaluationPlan, reading: Reading, features: Tensor) -> FeatureStatistics:
    """Return empty sums for features (B, F), beside the network unless float64 is unknown there (MPS)."""
    device = "cpu" if features.device.type == "mps" else features.device
    return FeatureStatistics(len(plan.emotions), features.shape[1], reading.identity, device)


def _filled(arrays: Sequence[Array]) -> list[Array]:
    """Return arrays in which what is NaN here comes from the rank that has it."""
    return [np.fmax.reduce(parts) for parts in zip(*gather(list(arrays)), strict=True)]
