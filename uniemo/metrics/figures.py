"""The figures of a protocol, with intervals, from what the evaluator collected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uniemo.errors import UniEmoError
from uniemo.metrics.bootstrap import (
    FOLDS,
    bootstrap_means,
    combined,
    interval,
    jackknife_interval,
)
from uniemo.metrics.collectors import ClarityScores, EmotionScores, FeatureSet, PairDistances
from uniemo.metrics.feature_network import NetworkInfo
from uniemo.metrics.fid import FeatureStatistics, frechet_distance, frechet_distance_of_parts
from uniemo.metrics.lpips import PairwiseDistance
from uniemo.metrics.pairs import EvaluationPlan, PairPlan
from uniemo.metrics.semantic_diversity import SemanticDiversity

_CLASSIFIER = ("", " (second)", " (third)")
_SCORES = {"hit": "Emo-A", "probability": "Emo-A probability", "two-class": "Emo-A two-class"}


@dataclass(frozen=True)
class Interval:
    """A value and its 95 % interval; NaN where one cannot be had.

    Attributes:
        value: the figure.
        low: lower end.
        high: upper end.
    """

    value: float
    low: float = math.nan
    high: float = math.nan


@dataclass(frozen=True)
class Figure(Interval):
    """A figure over all images, and of each emotion.

    Attributes:
        networks: what saw the images; figures of different networks are never shown in one column.
        by_emotion: by name.
    """

    networks: tuple[NetworkInfo, ...] = ()
    by_emotion: dict[str, Interval] = field(default_factory=dict)


@dataclass(frozen=True)
class ProtocolFigures:
    """All that one protocol says.

    Attributes:
        figures: ``FID``, ``LPIPS``, ``Emo-A``, ``Emo-A probability``, ``Emo-A two-class`` (of Mikels' eight),
            ``Sem-C``, ``Sem-D``; of a second classifier ``Emo-A (second)`` and so on. LPIPS and Sem-D are means over
            emotions, the others over all images; FID is of the pooled sums.
        confusion: for each classifier (C, C) counts, rows intended, columns chosen.
        images: of each emotion.
        real_images: of each emotion, in FID.
        pairs: of each emotion, as many as there really were.
    """

    figures: dict[str, Figure]
    confusion: list[NDArray[np.int64]]
    images: dict[str, int]
    real_images: dict[str, int]
    pairs: dict[str, int]


@dataclass(frozen=True)
class Taken:
    """The collectors of one protocol; None where there is no figure."""

    pairs: PairPlan
    emotion: list[EmotionScores]
    clarity: list[ClarityScores]
    fid: FeatureSet | None
    lpips: PairDistances | None
    sem_d: PairDistances | None

    def image_scores(self) -> dict[str, tuple[NDArray[np.float64], tuple[NetworkInfo, ...]]]:
        """Return (N,) values and networks of each figure that is a mean over images."""
        scores = {
            _SCORES[kind] + suffix: (values, collector.reading.infos)
            for collector, suffix in zip(self.emotion, _CLASSIFIER, strict=False)
            for kind, values in collector.scores.items()
        }
        if self.clarity:
            largest = np.max([collector.score for collector in self.clarity], axis=0)
            scores["Sem-C"] = largest, tuple(info for collector in self.clarity for info in collector.reading.infos)
        return scores

    def pair_scores(self) -> dict[str, tuple[NDArray[np.float64], tuple[NetworkInfo, ...]]]:
        """Return (m,) values and networks of each figure that is a mean over pairs."""
        both = (("LPIPS", self.lpips, PairwiseDistance), ("Sem-D", self.sem_d, SemanticDiversity))
        return {
            name: (collector.distance * metric.weight(collector.size), collector.reading.infos)
            for name, collector, metric in both
            if collector is not None
        }


@dataclass(frozen=True)
class _Draws:
    """Resamples of the images of each emotion, the same for every figure of every protocol.

    Attributes:
        seed: of the draws.
        intervals: False draws none.
    """

    seed: int
    intervals: bool

    def means(
        self,
        values: NDArray[np.float64],
        count: int,
        label: int,
        pairs: tuple[NDArray[np.int64], NDArray[np.int64]] | None = None,
    ) -> NDArray[np.float64]:
        """Return :func:`uniemo.metrics.bootstrap.bootstrap_means` for an emotion, or no rows."""
        if not self.intervals:
            return np.empty((0, values.shape[1]))
        return bootstrap_means(values, count, (self.seed, label), pairs)


def protocol_figures(
    plan: EvaluationPlan,
    taken: Mapping[str, Taken],
    real: Mapping[str, FeatureStatistics],
    seed: int = 0,
    intervals: bool = True,
) -> dict[str, ProtocolFigures]:
    """Return the figures of each protocol.

    Args:
        plan: of the pass.
        taken: what was collected, by protocol.
        real: sums of real images, by protocol; without them there is no FID.
        seed: of the resamples.
        intervals: whether to work intervals out.

    Raises:
        UniEmoError: a distance that is not finite.
    """
    members = {label: np.flatnonzero(plan.emotion == label) for label in np.unique(plan.emotion).tolist()}
    draws = _Draws(seed, intervals)
    distances: dict[tuple[int, int], dict[int | None, Interval]] = {}  # protocols that agree on FID share it
    results = {}
    for name, protocol in taken.items():
        figures = _image_figures(plan, members, draws, protocol)
        figures |= _pair_figures(plan, members, draws, protocol)
        if protocol.fid is not None and name in real:
            key = id(protocol.fid), id(real[name])
            if key not in distances:
                distances[key] = frechet_intervals(plan, protocol.fid, real[name], intervals)
            figures["FID"] = _figure(plan, distances[key], protocol.fid.reading.infos)
        labels, pairs = np.unique(protocol.pairs.emotion, return_counts=True)
        order = ["FID", "LPIPS", *(key for key in figures if key.startswith("Emo-A")), "Sem-C", "Sem-D"]
        results[name] = ProtocolFigures(
            {key: figures[key] for key in order if key in figures},
            [collector.confusion() for collector in protocol.emotion],
            plan.counts,
            {
                emotion: int(count)
                for emotion, count in zip(plan.emotions, real[name].count.tolist(), strict=True)
                if count
            }
            if name in real
            else {},
            {plan.emotions[label]: int(count) for label, count in zip(labels, pairs, strict=True)},
        )
    return results


def _figure(plan: EvaluationPlan, parts: Mapping[int | None, Interval], networks: tuple[NetworkInfo, ...]) -> Figure:
    """Return a figure from its parts, the whole under None."""
    whole = parts[None]
    by_emotion = {plan.emotions[label]: part for label, part in parts.items() if label is not None}
    return Figure(whole.value, whole.low, whole.high, networks, by_emotion)


def _image_figures(
    plan: EvaluationPlan,
    members: Mapping[int, NDArray[np.int64]],
    draws: _Draws,
    taken: Taken,
) -> dict[str, Figure]:
    """Return the figures that are means over images."""
    scores = taken.image_scores()
    if not scores:
        return {}
    values = np.stack([value for value, _ in scores.values()], axis=1)  # (N, K)
    means = {label: draws.means(values[part], len(part), label) for label, part in members.items()}  # (R, K)
    whole = combined(means, {label: len(part) for label, part in members.items()})
    figures = {}
    for k, (name, (value, networks)) in enumerate(scores.items()):
        parts: dict[int | None, Interval] = {None: Interval(float(value.mean()), *interval(whole[:, k]))}
        for label, part in members.items():
            parts[label] = Interval(float(value[part].mean()), *interval(means[label][:, k]))
        figures[name] = _figure(plan, parts, networks)
    return figures


def _pair_figures(
    plan: EvaluationPlan,
    members: Mapping[int, NDArray[np.int64]],
    draws: _Draws,
    taken: Taken,
) -> dict[str, Figure]:
    """Return the figures that are means over pairs: over each emotion's, then over emotions."""
    scores = taken.pair_scores()
    if not scores:
        return {}
    values = np.stack([value for value, _ in scores.values()], axis=1)  # (m, K)
    _check_distances(plan, taken.pairs, values)
    means, point = {}, {}
    for label in members:
        mine = np.flatnonzero(taken.pairs.emotion == label)
        point[label] = values[mine].mean(axis=0)
        if taken.pairs.ring:  # pairs share images: resample images
            both = plan.slot[taken.pairs.first[mine]], plan.slot[taken.pairs.second[mine]]
            means[label] = draws.means(values[mine], len(members[label]), label, both)
        else:  # each pair was drawn anew: resample pairs
            means[label] = draws.means(values[mine], len(mine), label)
    whole = combined(means, dict.fromkeys(means, 1))
    figures = {}
    for k, (name, (_, networks)) in enumerate(scores.items()):
        middle = float(np.mean([value[k] for value in point.values()]))
        parts: dict[int | None, Interval] = {None: Interval(middle, *interval(whole[:, k]))}
        for label in members:
            parts[label] = Interval(float(point[label][k]), *interval(means[label][:, k]))
        figures[name] = _figure(plan, parts, networks)
    return figures


def _check_distances(plan: EvaluationPlan, pairs: PairPlan, values: NDArray[np.float64]) -> None:
    """Raise UniEmoError for a pair without a finite distance."""
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        first, second = (plan.names[int(side[bad[0]])] for side in (pairs.first, pairs.second))
        raise UniEmoError(f"distances of pairs must be finite; that of {first} and {second} is not: look at both")


def frechet_intervals(
    plan: EvaluationPlan, generated: FeatureSet, real: FeatureStatistics, intervals: bool = True
) -> dict[int | None, Interval]:
    """Return the Fréchet distance of all images, under None, and of each emotion that both sides have.

    The real images are taken as given: the interval says what other images of the same generator would give. It comes
    from leaving out each tenth of the (at most 1,000) features that were kept of each emotion.
    """
    statistics = generated.statistics
    if statistics is None:
        raise UniEmoError("FID needs at least 2 generated images; got none: evaluate more")
    features = [generated.rows[label] for label in sorted(generated.rows)]
    fold = torch.cat([torch.arange(len(rows)) for rows in features]) % FOLDS
    parts: list[tuple[int | None, Tensor, Tensor]] = [(None, torch.cat(features), fold)]
    for label, rows in sorted(generated.rows.items()):
        if real.count[label] >= 2:
            parts.append((label, rows, torch.arange(len(rows)) % FOLDS))
    result: dict[int | None, Interval] = {}
    for emotion, kept, fold in parts:
        mean, covariance = real.gaussian(emotion, "real")
        rows = kept.to(mean)
        count = int(statistics.count.sum() if emotion is None else statistics.count[emotion])
        keep = torch.stack([fold != k for k in range(int(fold.max()) + 1)]).to(rows.device)  # (K, n)
        if not intervals or int(keep.sum(dim=1).min()) < 2:
            keep = keep[:0]
        if len(rows) == count:
            keep = torch.cat([keep.new_ones(1, count), keep])
            value, *without = frechet_distance_of_parts(mean, covariance, rows, keep).tolist()
        else:
            ours = statistics.gaussian(emotion, "generated")
            value = float(frechet_distance(mean, covariance, *(side.to(mean) for side in ours)))
            without = frechet_distance_of_parts(mean, covariance, rows, keep).tolist() if len(keep) else []
        result[emotion] = Interval(value, *jackknife_interval(value, without, math.sqrt(len(rows) / count)))
    return result
