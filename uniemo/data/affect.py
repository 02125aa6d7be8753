"""Valence and arousal as tables write them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from uniemo.errors import UniEmoError

Affect = tuple[float, ...]  # valence, arousal and the standard deviations of their ratings, NaN for what is not known
UNRATED: Affect = (math.nan,) * 4


def read_affect(cells: Sequence[object], scale: tuple[float, float], where: str) -> Affect:
    """Return the valence and arousal of an image.

    Args:
        cells: valence, arousal and, where a table has them, their standard deviations; both are empty for an image
            that was not rated.
        scale: least and greatest value.
        where: file and line, for errors.

    Raises:
        UniEmoError: one of the two alone, no number, a value outside of the scale, a negative deviation.
    """
    texts = ["" if cell is None else str(cell).strip() for cell in cells]
    try:
        values = tuple(float(text) if text else math.nan for text in texts)
    except ValueError:
        values = (math.inf,)
    known, (low, high) = any(texts[:2]), scale
    if (known and not all(low <= value <= high for value in values[:2])) or any(value < 0 for value in values[2:]):
        raise UniEmoError(
            f"valence and arousal must be numbers from {low:g} to {high:g}, deviations from 0; {where} has "
            f"{', '.join(texts)}: correct it, or leave both empty"
        )
    return (*values, *(math.nan,) * (4 - len(values))) if known else UNRATED
