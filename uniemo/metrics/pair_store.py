"""Distances of planned pairs while images pass by, each image's vector kept only as long as a pair waits for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from uniemo.distributed import broadcast, get_rank, get_world_size
from uniemo.metrics.pairs import Indices, squared_distance

# |a|² + |b|² - 2ab loses what a and b have in common, about 1e-6 of their squares in float32. Pairs closer than this
# share of them, at which 1e-4 of the distance would be lost, are subtracted instead.
_CLOSE = 0.01


@contextmanager
def _whole_float32() -> Iterator[None]:
    """Multiply in full float32, whatever a trainer has chosen."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class PairStore:
    """Squared distances of planned pairs as vectors arrive.

    A batch is compared by one matrix product with itself and one with what was kept: with long vectors that is several
    times faster than pair by pair.

    Args:
        first: (m,) positions; see :class:`uniemo.metrics.pairs.PairPlan`.
        second: (m,).

    Attributes:
        distance: (m,), NaN before both vectors came.
        kept: vectors that pairs still wait for, by position.
    """

    def __init__(self, first: Indices, second: Indices) -> None:
        self.first = first
        self.second = second
        self.distance = np.full(len(first), np.nan)
        self.kept: dict[int, Tensor] = {}
        self._open: defaultdict[int, dict[int, int]] = defaultdict(dict)  # position: {pair: position of the other}
        for pair, (a, b) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            self._open[a][pair] = b
            self._open[b][pair] = a

    def wanted(self, positions: Sequence[int]) -> list[int]:
        """Return the rows of ``positions`` that some pair waits for."""
        return [row for row, position in enumerate(positions) if self._open.get(position)]

    def add(self, positions: Sequence[int], vectors: Tensor) -> bool:
        """Take vectors (B, V) of the images at ``positions``; return whether all distances were finite."""
        row_of = {position: row for row, position in enumerate(positions)}
        ready: dict[int, tuple[int, int]] = {}  # pair: positions, the first of them in this batch
        for position in positions:
            for pair, other in self._open.get(position, {}).items():
                if other in row_of or other in self.kept:
                    ready[pair] = position, other
        finite = True
        if ready:
            finite = self._compare(ready, row_of, vectors)
            for pair, both in ready.items():
                for position in both:
                    self._close(position, pair)
        for position in positions:
            if self._open.get(position):
                self.kept[position] = vectors[row_of[position]].clone()  # a view would hold the whole batch
        return finite

    def _compare(self, ready: dict[int, tuple[int, int]], row_of: dict[int, int], vectors: Tensor) -> bool:
        """Work out the distances of pairs both of whose vectors are here; return whether all are finite."""
        before = sorted({other for _, other in ready.values() if other not in row_of})
        column_of = row_of | {position: len(row_of) + k for k, position in enumerate(before)}
        kept = torch.stack([self.kept[position] for position in before]) if before else vectors[:0]
        with _whole_float32():
            gram = torch.cat([vectors @ vectors.T, vectors @ kept.T], dim=1).double().cpu().numpy()  # (B, B + K)
        square = np.concatenate([gram.diagonal(), kept.square().sum(dim=1).double().cpu().numpy()])
        rows = np.array([row_of[position] for position, _ in ready.values()])
        columns = np.array([column_of[other] for _, other in ready.values()])
        size = square[rows] + square[columns]
        distance = size - 2 * gram[rows, columns]
        for k in np.flatnonzero(~(distance > _CLOSE * size)):
            column = int(columns[k])
            other = vectors[column] if column < len(vectors) else kept[column - len(vectors)]
            distance[k] = float(squared_distance(vectors[int(rows[k])][None], other[None]))
        self.distance[list(ready)] = distance
        return bool(np.isfinite(distance).all())

    def _close(self, position: int, pair: int) -> None:
        """Take a pair off the list of an image, and drop the image's vector after its last pair."""
        self._open[position].pop(pair)
        if not self._open[position]:
            del self._open[position]
            self.kept.pop(position, None)

    def exchange(self) -> None:
        """Let each rank know the vectors that pairs still wait for, one rank's after the other's.

        A pair whose images two ranks saw is worked out by the later one; the earlier keeps NaN.
        """
        rank, ranks = get_rank(), get_world_size()
        for source in range(ranks - 1):
            mine = {position: vector.cpu() for position, vector in self.kept.items()} if rank == source else {}
            for position, vector in broadcast(mine, source).items():
                for pair, other in self._open[position].items():
                    if rank > source and other in self.kept:
                        kept = self.kept[other]
                        self.distance[pair] = float(squared_distance(kept[None], vector.to(kept)[None]))
