"""What the suite computes: values with intervals, over all images and of each emotion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from uniemo.metrics.feature_network import NetworkInfo


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval; NaN where one cannot be had."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Score(Estimate):
    """A metric over all images, and of each emotion.

    Attributes:
        networks: what saw the images; values of different networks are never shown in one column.
        by_emotion: by name.
    """

    networks: tuple[NetworkInfo, ...] = ()
    by_emotion: dict[str, Estimate] = field(default_factory=dict)

    @classmethod
    def of(cls, estimates: Tensor, emotions: Sequence[str], networks: tuple[NetworkInfo, ...]) -> Score:
        """Return what a metric computed, (1 + C, 3), with the names of the emotions."""
        whole, *parts = estimates.tolist()
        by_emotion = {
            name: Estimate(*part) for name, part in zip(emotions, parts, strict=False) if not math.isnan(part[0])
        }
        value, low, high = whole
        return cls(value, low, high, networks, by_emotion)


@dataclass(frozen=True)
class ProtocolResult:
    """All metrics of one protocol.

    Attributes:
        scores: ``FID``, ``LPIPS``, ``Emo-A``, ``Emo-A probability``, ``Emo-A two-class`` (of Mikels' eight); of a
            second classifier ``Emo-A (second)`` and so on; ``Sem-C``, ``Sem-D``. LPIPS and Sem-D are means over
            emotions, the others over all images; FID is of the pooled sums.
        confusion: for each classifier (C, C) counts, rows intended, columns predicted.
        images: of each emotion.
        real_images: of each emotion, in FID.
        pairs: of each emotion, as many as there really were.
    """

    scores: dict[str, Score]
    confusion: list[NDArray[np.int64]]
    images: dict[str, int]
    real_images: dict[str, int]
    pairs: dict[str, int]
