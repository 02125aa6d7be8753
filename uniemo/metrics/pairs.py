"""Which images are visited in which order, and which of them are paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from uniemo.errors import UniEmoError
from uniemo.metrics.protocols import Protocol

Indices = NDArray[np.int64]


def ring_pairs(count: int, pairs: int) -> tuple[Indices, Indices]:
    """Return distinct pairs of ``count`` items in a ring: each with its next, then with its next but one, and so on.

    Of items in random order every such pair is a uniformly random one, so that means over them are unbiased; yet
    whoever visits the items in that order needs to remember no more than the last few and the first few.

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
        images: of rings, whose pairs share images: the number of each pair's two images inside their emotion, (m,)
            each, and how many images each emotion has, (C,). None where each pair was sampled anew.
    """

    first: Indices
    second: Indices
    emotion: Indices
    images: tuple[Indices, Indices, Indices] | None = None


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

    def count(self, emotion: Indices) -> dict[str, int]:
        """Count class indices (n,): how many of each emotion that has any."""
        counts = np.bincount(emotion, minlength=len(self.emotions))
        return {name: int(count) for name, count in zip(self.emotions, counts, strict=True) if count}

    @property
    def counts(self) -> dict[str, int]:
        """Images of each emotion that has any."""
        return self.count(self.emotion)


def plan_evaluation(
    names_by_emotion: Mapping[str, Sequence[str]],
    emotions: Sequence[str],
    protocols: Sequence[Protocol],
    seed: int = 0,
) -> EvaluationPlan:
    """Decide order and pairs; the order of the names does not matter.

    Raises:
        UniEmoError: no images, one image of an emotion, an unknown emotion or an id that comes twice.
    """
    members = _members(names_by_emotion, emotions)
    names: list[str] = []
    slots: list[int] = []
    for label, part in members.items():
        order = np.random.default_rng((seed, label)).permutation(len(part))
        names += [part[row] for row in order]
        slots += range(len(part))
    position = {name: number for number, name in enumerate(names)}
    if len(position) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UniEmoError(f"ids of images must differ; {repeated!r} comes more than once: take it off the list")
    emotion = np.repeat(list(members), [len(part) for part in members.values()]).astype(np.int64)
    plan = EvaluationPlan(tuple(emotions), tuple(names), emotion, np.array(slots), {})
    for protocol in protocols:
        plan.pairs[protocol.name] = _pairs(plan, members, position, protocol, seed)
    return plan


def _members(names_by_emotion: Mapping[str, Sequence[str]], emotions: Sequence[str]) -> dict[int, list[str]]:
    """Return the sorted names of each class index."""
    unknown = [name for name in names_by_emotion if name not in emotions]
    if unknown:
        raise UniEmoError(f"emotion must be one of {', '.join(emotions)}; got {unknown[0]!r}")
    members = {label: sorted(names_by_emotion[name]) for label, name in enumerate(emotions) if name in names_by_emotion}
    few = [emotions[label] for label, part in members.items() if len(part) < 2]
    if few or not members:
        raise UniEmoError(
            f"generation metrics need at least 2 images of each emotion; got fewer of {', '.join(few) or 'all'}: "
            "generate more"
        )
    return members


def _pairs(
    plan: EvaluationPlan, members: Mapping[int, list[str]], position: Mapping[str, int], protocol: Protocol, seed: int
) -> PairPlan:
    """Choose the pairs of one protocol."""
    chosen: list[Sequence[Indices]] = []
    pool: list[str] = []
    for label, part in members.items():
        pool = [*pool, *part] if protocol.pool == "accumulated" else part
        if protocol.draw == "ring":
            start = int(np.argmax(plan.emotion == label))
            chosen.append([start + side for side in ring_pairs(len(part), protocol.pairs)])
        else:
            rng = np.random.default_rng((seed, label, 1))
            both = [rng.choice(len(pool), 2, replace=False) for _ in range(protocol.pairs)]
            chosen.append([np.array([position[pool[k]] for k in side]) for side in zip(*both, strict=True)])
    labels = np.repeat(list(members), [len(first) for first, _ in chosen]).astype(np.int64)
    first, second = (np.concatenate(side) for side in zip(*chosen, strict=True))
    if protocol.draw != "ring":
        return PairPlan(first, second, labels)
    return PairPlan(first, second, labels, (plan.slot[first], plan.slot[second], np.bincount(plan.emotion)))
