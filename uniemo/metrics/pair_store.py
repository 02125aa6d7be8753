"""Distances of planned pairs as images arrive, each image's vector kept only as long as a pair waits for it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from torch import Tensor

from uniemo.distributed import broadcast, get_rank, get_world_size
from uniemo.metrics.pairs import Indices


class NotFiniteError(ValueError):
    """Network outputs of some images hold NaN or infinity.

    Attributes:
        index: numbers of the images.
    """

    def __init__(self, index: list[int]) -> None:
        self.index = index
        super().__init__(f"network outputs must be finite; got NaN or infinity for image {index[0]}")


def squared_distance(first: Tensor, second: Tensor) -> float:
    """Return the squared Euclidean distance of two vectors (V,)."""
    return float((first - second).square().sum())


class PairStore:
    """Squared distances of planned pairs.

    Args:
        first: (m,) numbers of images; see :class:`uniemo.metrics.pairs.PairPlan`.
        second: (m,).

    Attributes:
        kept: vectors that pairs still wait for, by the image's number.
    """

    def __init__(self, first: Indices, second: Indices) -> None:
        self.kept: dict[int, Tensor] = {}
        self._open: defaultdict[int, dict[int, int]] = defaultdict(dict)  # image: {pair: the other image}
        for pair, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            self._open[a][pair] = b
            self._open[b][pair] = a

    def wanted(self, index: Sequence[int]) -> list[int]:
        """Return the rows of ``index`` that some pair waits for."""
        return [row for row, image in enumerate(index) if self._open.get(image)]

    def add(self, index: Sequence[int], vectors: Tensor) -> tuple[list[int], list[float]]:
        """Take vectors (B, V) of the images with these numbers.

        Returns:
            The pairs that are complete now, and their squared distances.

        Raises:
            NotFiniteError: a distance is not finite.
        """
        here = {**self.kept, **dict(zip(index, vectors, strict=True))}
        ready: dict[int, tuple[int, int]] = {}  # pair: its images
        for image in index:
            for pair, other in self._open.get(image, {}).items():
                if other in here:
                    ready[pair] = image, other
        distances = [self._distance(here, *both) for both in ready.values()]
        for pair, both in ready.items():
            for image in both:
                self._close(image, pair)
        for image in index:
            if self._open.get(image):
                self.kept[image] = here[image].clone()  # a view would hold the whole batch
        return list(ready), distances

    @staticmethod
    def _distance(here: dict[int, Tensor], image: int, other: int) -> float:
        """Return the distance of two images whose vectors are here."""
        distance = squared_distance(here[image], here[other])
        if not math.isfinite(distance):
            bad = [one for one in (image, other) if not here[one].isfinite().all()]
            raise NotFiniteError(bad or [image, other])
        return distance

    def _close(self, image: int, pair: int) -> None:
        """Take a pair off the list of an image, and drop the image's vector after its last pair."""
        self._open[image].pop(pair)
        if not self._open[image]:
            del self._open[image]
            self.kept.pop(image, None)

    def exchange(self) -> tuple[list[int], list[float], int]:
        """Send each rank's kept vectors to the later ranks, which work out the pairs whose images two ranks have seen.

        Returns:
            Those pairs, their squared distances and the vectors' size.
        """
        rank, ranks = get_rank(), get_world_size()
        pairs: list[int] = []
        distances: list[float] = []
        size = 0
        for source in range(ranks - 1):
            mine = {image: vector.cpu() for image, vector in self.kept.items()} if rank == source else {}
            for image, vector in broadcast(mine, source).items():
                for pair, other in self._open[image].items():
                    if rank > source and other in self.kept:
                        kept = self.kept[other]
                        pairs.append(pair)
                        distances.append(squared_distance(kept, vector.to(kept)))
                        size = len(kept)
        return pairs, distances, size
