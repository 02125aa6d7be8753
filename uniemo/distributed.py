"""The one helper that knows ranks: sums, means and values across processes, and how they share work out.

Every rank calls these functions together, in the same order; a single process is a group of one.

DistributedDataParallel averages gradients over the R ranks. A mean over the N images of *all* ranks therefore is, on
each rank, the sum over its own images times R / N: the average of that over ranks is the mean, and the averaged
gradient is the one that a single process with all N images would have, however many of them each rank holds. Every loss
follows that convention; averaging a loss over ranks (:func:`average`) gives the number to log.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from uniemo.launch import launched_rank

T = TypeVar("T")


def get_rank() -> int:
    """Return the rank of this process among those that communicate."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def get_world_size() -> int:
    """Return how many processes communicate."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that prints and writes, also before the processes have met."""
    return get_rank() == 0 if get_world_size() > 1 else launched_rank() == 0


def all_sum(values: Tensor) -> Tensor:
    """Return the sum of every rank's tensor, without gradient; shapes are equal on all ranks."""
    values = values.detach()
    if get_world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def average(values: Tensor) -> Tensor:
    """Return the average of every rank's tensor, without gradient; shapes are equal on all ranks."""
    return all_sum(values) / get_world_size()


def sum_over_ranks(tensors: Sequence[Tensor]) -> None:
    """Add up each tensor over all ranks, in place, on any device."""
    if get_world_size() == 1:
        return
    for tensor in tensors:
        moved = tensor.cuda() if dist.get_backend() == "nccl" else tensor  # NCCL knows only the GPU
        dist.all_reduce(moved)
        if moved is not tensor:
            tensor.copy_(moved)


def batch_mean(values: Tensor) -> Tensor:
    """Return this rank's part of a mean over the images of all ranks; the average of the parts is the mean.

    Args:
        values: (B,) losses of this rank's images; B may differ from rank to rank.

    Returns:
        A scalar: Σ values · R / N, see the module's docstring. In a single process it is the plain mean.
    """
    count = torch.full((), len(values), dtype=torch.float32, device=values.device)
    return values.sum() / all_sum(count) * get_world_size()


def gather_rows(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all ranks (B, W), in the order of ranks, and where this rank's begin; B may differ.

    Returns:
        (ΣB, W), and the first of this rank's rows among them.
    """
    ranks = get_world_size()
    if ranks == 1:
        return rows, 0
    counts = [torch.empty(1, dtype=torch.int64, device=rows.device) for _ in range(ranks)]
    dist.all_gather(counts, torch.full_like(counts[0], len(rows)))
    lengths = torch.cat(counts).tolist()
    padded = F.pad(rows, (0, 0, 0, max(lengths) - len(rows)))  # the collective wants equal shapes
    parts = _Gather.apply(padded)  # (R, longest, W)
    whole = torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])
    return whole, sum(lengths[: dist.get_rank()])


class _Gather(torch.autograd.Function):
    """Stack the equally shaped tensors of all ranks; each rank's gradient is the sum of what all ranks have for it."""

    @staticmethod
    def forward(ctx: object, rows: Tensor) -> Tensor:
        parts = [torch.empty_like(rows) for _ in range(get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]


def gather(value: T) -> list[T]:
    """Return the value of every rank, in order; any Python object."""
    ranks = get_world_size()
    if ranks == 1:
        return [value]
    values: list[Any] = [None] * ranks
    dist.all_gather_object(values, value)
    return values


def broadcast(value: T, source: int = 0) -> T:
    """Return the value of one rank; any Python object."""
    if get_world_size() == 1:
        return value
    values: list[Any] = [value]
    dist.broadcast_object_list(values, source)
    return values[0]


def even_batches(mine: Sequence[T], count: int, batch_size: int) -> list[Sequence[T]]:
    """Cut a rank's share into batches of nearly one size, as many as every other rank has.

    Ranks that share a network's weights (FSDP) must run it equally often; and the last batch is never a small one.

    Args:
        mine: this rank's share, at most one item larger than another's.
        count: number of items of all ranks together.
        batch_size: most items in a batch; one more where a rank could not have as many batches otherwise.
    """
    ranks = get_world_size()
    batches = min(-(-count // (batch_size * ranks)), max(1, count // ranks))
    bounds = [len(mine) * number // batches for number in range(batches + 1)] if batches else []
    return [mine[start:stop] for start, stop in pairwise(bounds) if stop > start]
