"""The few words that ranks exchange, and how they share things out; alone, a rank has everything.

Every rank calls these together, in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

from uniemo.data.shares import rank_and_ranks

__all__ = ["broadcast", "even_batches", "gather", "rank_and_ranks", "sum_over_ranks"]

T = TypeVar("T")


def gather(value: T) -> list[T]:
    """Return the value of every rank, in order."""
    ranks = rank_and_ranks()[1]
    if ranks == 1:
        return [value]
    values: list[Any] = [None] * ranks
    dist.all_gather_object(values, value)
    return values


def broadcast(value: T, source: int) -> T:
    """Return the value of one rank."""
    if rank_and_ranks()[1] == 1:
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values, source)
    return values[0]


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Add up each tensor over all ranks, in place, wherever it lies."""
    if rank_and_ranks()[1] == 1:
        return
    for tensor in tensors:
        moved = tensor.cuda() if dist.get_backend() == "nccl" else tensor  # NCCL knows nothing but the GPU
        dist.all_reduce(moved)
        if moved is not tensor:
            tensor.copy_(moved)


def even_batches(mine: Sequence[T], count: int, batch_size: int) -> list[Sequence[T]]:
    """Cut a rank's share into batches of nearly one size, as many as every other rank has.

    Ranks that share a network's weights (FSDP) must run it equally often; and the last batch is never a small one.

    Args:
        mine: this rank's share, at most one thing larger than another's.
        count: how many things all ranks have together.
        batch_size: most things in a batch; one more where a rank could not have as many batches otherwise.
    """
    ranks = rank_and_ranks()[1]
    batches = min(-(-count // (batch_size * ranks)), max(1, count // ranks))
    bounds = [len(mine) * number // batches for number in range(batches + 1)] if batches else []
    return [mine[start:stop] for start, stop in pairwise(bounds) if stop > start]
