"""Figures that are means over random pairs of images: which pairs, in which order, and their distances."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics import Metric

from uniemo.errors import UniEmoError
from uniemo.metrics.protocols import Protocol

Indices = NDArray[np.int64]


def ring_pairs(count: int, pairs: int) -> tuple[Indices, Indices]:
    """Return distinct pairs of ``count`` things in a ring: each with its next, then with its next but one, and so on.

    Of things in random order every such pair is a uniformly random one, so that means over them are unbiased; yet
    whoever visits the things in that order needs to remember no more than the last few and the first few.

    Args:
        count: n.
        pairs: how many; where fewer exist, all n (n - 1) / 2 are returned.

    Returns:
        i (m,) and j (m,).
    """
    first, second, left = [], [], pairs
    for step in range(1, count // 2 + 1):
        if left <= 0:
            break
        turn = count // 2 if 2 * step == count else count  # half way round a pair would come twice
        i = np.arange(min(turn, left), dtype=np.int64)
        first.append(i)
        second.append((i + step) % count)
        left -= len(i)
    empty = np.zeros(0, dtype=np.int64)
    return np.concatenate([empty, *first]), np.concatenate([empty, *second])


@dataclass(frozen=True)
class PairPlan:
    """The pairs of one protocol.

    Attributes:
        first: (m,) position of an image in the plan.
        second: (m,) position of the other.
        emotion: (m,) class index that the pair counts for.
        ring: whether pairs share images (rings), rather than being drawn one by one.
    """

    first: Indices
    second: Indices
    emotion: Indices
    ring: bool


@dataclass(frozen=True)
class EvaluationPlan:
    """In which order images are visited and which of them are paired; the same on every rank.

    Attributes:
        emotions: names of the classes, C of them.
        names: ids of the images in the order to visit: emotion by emotion, in random order inside each.
        emotion: (N,) class index of each.
        slot: (N,) number of each inside its emotion.
        pairs: by name of the protocol.
    """

    emotions: tuple[str, ...]
    names: tuple[str, ...]
    emotion: Indices
    slot: Indices
    pairs: dict[str, PairPlan]

    def part(self, rank: int, ranks: int) -> range:
        """Return the positions that a rank visits, a stretch of the order."""
        count = len(self.names)
        return range(rank * count // ranks, (rank + 1) * count // ranks)

    @property
    def counts(self) -> dict[str, int]:
        """Images of each emotion that has any."""
        counts = np.bincount(self.emotion, minlength=len(self.emotions))
        return {name: int(count) for name, count in zip(self.emotions, counts, strict=True) if count}


def plan_evaluation(
    names_by_emotion: Mapping[str, Sequence[str]],
    emotions: Sequence[str],
    protocols: Sequence[Protocol],
    seed: int = 0,
) -> EvaluationPlan:
    """Decide order and pairs; what order the names come in does not matter.

    Args:
        names_by_emotion: ids of the images, each different from all others, for example paths inside their folder.
        emotions: class names in class order; those without images may be left out of the first argument.
        protocols: whose pairs are wanted.
        seed: of the order and of the pairs.

    Raises:
        UniEmoError: no images, one image of an emotion, an unknown emotion or an id that comes twice.
    """
    unknown = [name for name in names_by_emotion if name not in emotions]
    if unknown:
        raise UniEmoError(f"emotion must be one of {', '.join(emotions)}; got {unknown[0]!r}")
    members = {label: sorted(names_by_emotion.get(name, ())) for label, name in enumerate(emotions)}
    members = {label: part for label, part in members.items() if part or emotions[label] in names_by_emotion}
    few = [emotions[label] for label, part in members.items() if len(part) < 2]
    if few or not members:
        raise UniEmoError(
            f"generation figures need at least 2 images of each emotion; got fewer of {', '.join(few) or 'all'}: "
            "generate more"
        )
    names: list[str] = []
    slot: list[int] = []
    position: dict[str, int] = {}
    start: dict[int, int] = {}
    for label, part in members.items():
        start[label] = len(names)
        for number, row in enumerate(np.random.default_rng((seed, label)).permutation(len(part))):
            position[part[row]] = len(names)
            names.append(part[row])
            slot.append(number)
    if len(position) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UniEmoError(f"ids of images must differ; {repeated!r} comes more than once: take it off the list")
    emotion = np.repeat(list(members), [len(part) for part in members.values()]).astype(np.int64)
    pairs = {}
    for protocol in protocols:
        drawn = []
        pool: list[str] = []
        for label, part in members.items():
            pool = [*pool, *part] if protocol.pool == "accumulated" else part
            if protocol.draw == "ring":
                drawn.append([start[label] + indices for indices in ring_pairs(len(part), protocol.pairs)])
            else:
                rng = np.random.default_rng((seed, label, 1))
                both = [rng.choice(len(pool), 2, replace=False) for _ in range(protocol.pairs)]
                drawn.append([np.array([position[pool[k]] for k in side]) for side in zip(*both, strict=True)])
        labels = np.repeat(list(members), [len(first) for first, _ in drawn]).astype(np.int64)
        first, second = (np.concatenate(side) for side in zip(*drawn, strict=True))
        pairs[protocol.name] = PairPlan(first, second, labels, protocol.draw == "ring")
    return EvaluationPlan(tuple(emotions), tuple(names), emotion, np.array(slot), pairs)


def squared_distance(first: Tensor, second: Tensor) -> Tensor:
    """Return the squared Euclidean distances (P,) of pairs of vectors, both (P, V)."""
    return (first - second).square().sum(dim=1)


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
    """Mean distance of pairs of images of one emotion; subclasses say which distance.

    Which pairs is the caller's choice (see :func:`ring_pairs`); only sums are kept.

    Args:
        num_emotions: C.
        average: ``mean`` over emotions, each with the same weight, or ``none`` for (C,) values.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False
    total: Tensor
    count: Tensor

    def __init__(self, num_emotions: int, average: Literal["mean", "none"] = "mean") -> None:
        super().__init__()
        self.average = average
        for name in ("total", "count"):
            self.add_state(name, torch.zeros(num_emotions, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, first: Tensor, second: Tensor, emotion: Tensor) -> None:
        """Add pairs.

        Args:
            first: (P, V) what is compared, of one image of each pair.
            second: (P, V) of the other.
            emotion: (P,) class indices.

        Raises:
            UniEmoError: a distance that is not finite.
        """
        distance = squared_distance(first, second).double() * self.weight(first.shape[1])
        if not distance.isfinite().all():
            raise UniEmoError(
                f"{type(self).__name__} needs finite features; got NaN or infinity in pair "
                f"{int((~distance.isfinite()).nonzero()[0])}: look at its images"
            )
        self.total.index_add_(0, emotion, distance)
        self.count.index_add_(0, emotion, torch.ones_like(distance))

    def compute(self) -> Tensor:
        """Return the mean over emotions, or (C,) with NaN for emotions without pairs."""
        by_emotion = self.total / self.count
        return by_emotion if self.average == "none" else mean_over_emotions(by_emotion, type(self).__name__)

    @staticmethod
    @abstractmethod
    def weight(size: int) -> float:
        """Return the factor on squared Euclidean distances of vectors of this size."""
