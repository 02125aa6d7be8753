"""The few words that ranks exchange; alone, each function gives back what it got."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank_and_ranks() -> tuple[int, int]:
    """Return this process's number and how many there are."""
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1


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
    """Add up each tensor over all ranks, in place."""
    if rank_and_ranks()[1] > 1:
        for tensor in tensors:
            dist.all_reduce(tensor)
