"""The emotions' places in the plane of valence and arousal, and the mixture of emotions that stands for a point.

A point is asked for through the emotions alone: their features are what the emotion space knows, so that a mixture
reaches what lies among the emotions and nothing beyond them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uniemo.errors import UniEmoError
from uniemo.text_files import read_json
from uniemo.vocabulary import check_scale

SPREAD = 0.125  # one of the eight steps of a scale from 1 to 9; an emotion so far away has 61 % of a near one's weight
_LEAST = 0.01  # smaller weights are left out


@dataclass(frozen=True)
class Places:
    """Where emotions lie.

    Attributes:
        scale: least and greatest value of valence and arousal.
        points: valence and arousal by emotion.
        source: of the numbers, for messages.
    """

    scale: tuple[float, float]
    points: Mapping[str, tuple[float, float]]
    source: str


# Mean ratings of the words themselves: Warriner, Kuperman & Brysbaert, "Norms of valence, arousal, and dominance for
# 13,915 English lemmas", Behavior Research Methods 45, 2013 (V.Mean.Sum, A.Mean.Sum).
WORDS = Places(
    (1.0, 9.0),
    {
        "amusement": (7.00, 4.82),
        "awe": (6.85, 3.83),
        "contentment": (6.62, 4.60),
        "excitement": (7.62, 6.21),
        "anger": (2.50, 5.93),
        "disgust": (3.32, 5.00),
        "fear": (2.93, 6.14),
        "sadness": (2.40, 2.81),
        "joy": (8.21, 5.55),
        "surprise": (7.44, 6.57),
        "love": (8.00, 5.36),
        "neutral": (5.50, 3.45),
        "positive": (7.57, 5.50),
        "negative": (2.52, 5.05),
    },
    "the norms of words by Warriner et al.",
)


def read_places(path: str | Path) -> Places:
    """Read places from JSON: ``{"scale": [1, 9], "places": {"awe": [6.85, 3.83], …}}``.

    Raises:
        UniEmoError: no such file, or another content.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UniEmoError(f"--places must be an existing file; {path} is none: correct the path")
    try:
        content = read_json(path)
        points = {str(name): (float(valence), float(arousal)) for name, (valence, arousal) in content["places"].items()}
        scale = check_scale(content["scale"])
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UniEmoError(
            f'--places must be JSON such as {{"scale": [1, 9], "places": {{"awe": [6.85, 3.83]}}}}; {path} is not '
            f"({error}): correct it"
        ) from error
    outside = [name for name, point in points.items() if not all(scale[0] <= value <= scale[1] for value in point)]
    if outside:
        raise UniEmoError(
            f"--places must lie on their scale, {scale[0]:g} to {scale[1]:g}; that of {outside[0]} in {path} does not: "
            "correct it"
        )
    return Places(scale, points, str(path))


def weights_at(
    valence: float,
    arousal: float,
    emotions: Sequence[str],
    places: Places = WORDS,
    scale: tuple[float, float] | None = None,
    spread: float = SPREAD,
) -> dict[str, float]:
    """Return the weights of emotions whose mixture stands for a point: exp(-d² / 2s²), scaled to sum to one.

    d is the distance from the point to an emotion's place and s the spread, both in lengths of the scale. The smaller
    the spread, the more the nearest emotion has alone. Weights below 0.01 are left out.

    Args:
        valence: of the point.
        arousal: of the point.
        emotions: that may take part.
        places: of these emotions.
        scale: of the point, when it is another than that of the places.
        spread: s, from 1e-4.

    Raises:
        UniEmoError: a value outside of its scale, or an emotion without a place.
    """
    low, high = places.scale if scale is None else check_scale(scale)
    for name, value in (("valence", valence), ("arousal", arousal)):
        if not low <= value <= high:
            raise UniEmoError(
                f"{name} must lie on its scale, {low:g} to {high:g}; got {value:g}: correct it, or give its own --scale"
            )
    without = [emotion for emotion in emotions if emotion not in places.points]
    if without:
        raise UniEmoError(
            f"valence and arousal need a place for each emotion of the model; {places.source} has none for "
            f"{', '.join(without)}: give a file with --places"
        )
    point = [(value - low) / (high - low) for value in (valence, arousal)]
    distances = [math.dist(point, _shares(places, emotion)) for emotion in emotions]
    nearest = min(distances)
    shares = [math.exp((nearest**2 - distance**2) / (2 * spread**2)) for distance in distances]
    total = sum(shares)
    kept = {name: share for name, share in zip(emotions, shares, strict=True) if share >= _LEAST * total}
    return {name: round(share / sum(kept.values()), 4) for name, share in kept.items()}


def mean_place(weights: Mapping[str, float], places: Places, scale: tuple[float, float]) -> tuple[float, float]:
    """Return the weighted mean of emotions' places, valence and arousal on another scale."""
    low, high = scale
    valence, arousal = (
        low + (high - low) * sum(weight * _shares(places, name)[axis] for name, weight in weights.items())
        for axis in (0, 1)
    )
    return valence, arousal


def _shares(places: Places, emotion: str) -> tuple[float, float]:
    """Return an emotion's valence and arousal as shares of their scale."""
    low, high = places.scale
    valence, arousal = places.points[emotion]
    return (valence - low) / (high - low), (arousal - low) / (high - low)
