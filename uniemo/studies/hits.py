"""Which pictures of a test got the right answer, kept with a cell's result as bits, so that rows can be paired."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uniemo.cache import digest
from uniemo.metrics.answers import ANSWERS, GENERATED, read_answers

_FILES = {  # in a cell's folder, by the metric that is their mean; of evaluate at paper scale
    "accuracy": (f"test/test_{ANSWERS}.parquet",),
    "Emo-A": (f"test/test_{GENERATED}.parquet", "strict/result.answers.parquet"),
}


@dataclass(frozen=True)
class Hits:
    """Right answers of one test.

    Attributes:
        pictures: hash of the pictures' names; tests with the same one can be paired.
        right: (N,) bool, in the order of the names.
    """

    pictures: str
    right: NDArray[np.bool_]


def read_hits(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the right answers that a cell's commands left in its folder, by metric, as plain values."""
    found = {}
    for metric, names in _FILES.items():
        for path in (folder / name for name in names if (folder / name).is_file()):
            files, right = read_answers(path)
            order = sorted(range(len(files)), key=files.__getitem__)
            bits = np.packbits(np.array(right, dtype=bool)[order]).tobytes()
            about = {"pictures": digest(*(files[row] for row in order)), "count": len(files)}
            found[metric] = {**about, "right": base64.b64encode(bits).decode()}
    return found


def unpack(result: Mapping[str, Any], metric: str) -> Hits | None:
    """Return the right answers behind a metric of a result; None where it has none, as those of earlier versions."""
    found = result.get("hits", {}).get(metric)
    if found is None:
        return None
    bits = np.frombuffer(base64.b64decode(found["right"]), dtype=np.uint8)
    return Hits(found["pictures"], np.unpackbits(bits, count=found["count"]).astype(bool))
