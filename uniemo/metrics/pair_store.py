"""Distances of planned pairs as images arrive, each image's vector kept only as long as a pair waits for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from uniemo.distributed import broadcast, get_rank, get_world_size
from uniemo.metrics.pairs import Indices

# |a|² + |b|² - 2ab loses what a and b have in common, about 1e-6 of their squares in float32. Pairs closer than this
# share of them, at which 1e-4 of the distance would be lost, are subtracted instead.
_CLOSE = 0.01


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

    A batch is compared by one matrix product with itself and one with what was kept: with long vectors that is several
    times faster than pair by pair.

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
        row_of = {image: row for row, image in enumerate(index)}
        ready: dict[int, tuple[int, int]] = {}  # pair: images, the first of them in this batch
        for image in index:
            for pair, other in self._open.get(image, {}).items():
                if other in row_of or other in self.kept:
                    ready[pair] = image, other
        distances = self._compare(list(ready.values()), row_of, vectors) if ready else []
        for pair, both in ready.items():
            for image in both:
                self._close(image, pair)
        for image in index:
            if self._open.get(image):
                self.kept[image] = vectors[row_of[image]].clone()  # a view would hold the whole batch
        return list(ready), distances

    def _compare(self, pairs: list[tuple[int, int]], row_of: dict[int, int], vectors: Tensor) -> list[float]:
        """Return the distances of pairs both of whose vectors are here."""
        before = sorted({other for _, other in pairs if other not in row_of})
        column_of = row_of | {image: len(row_of) + k for k, image in enumerate(before)}
        kept = torch.stack([self.kept[image] for image in before]) if before else vectors[:0]
        with _whole_float32():
            gram = torch.cat([vectors @ vectors.T, vectors @ kept.T], dim=1).double().cpu().numpy()  # (B, B + K)
        square = np.concatenate([gram.diagonal(), kept.square().sum(dim=1).double().cpu().numpy()])
        rows = np.array([row_of[image] for image, _ in pairs])
        columns = np.array([column_of[other] for _, other in pairs])
        size = square[rows] + square[columns]
        distance = size - 2 * gram[rows, columns]
        for k in np.flatnonzero(~(distance > _CLOSE * size)).tolist():
            image, other = pairs[k]
            both = vectors[row_of[image]], vectors[row_of[other]] if other in row_of else self.kept[other]
            distance[k] = squared_distance(*both)
            if not np.isfinite(distance[k]):
                bad = [one for one, vector in zip(pairs[k], both, strict=True) if not vector.isfinite().all()]
                raise NotFiniteError(bad or list(pairs[k]))
        return distance.tolist()

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


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Multiply in full float32, whatever a trainer has chosen."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
