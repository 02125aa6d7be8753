"""Means over the images of all ranks, as losses need them; alone, over this process's.

DistributedDataParallel averages gradients over the R ranks. A mean over the N images of *all* ranks therefore is, on
each rank, the sum over its own images times R / N: the average of that over ranks is the mean, and the averaged
gradient is the one that a single process with all N images would have, however many of them each rank holds. Every loss
follows that convention; averaging a loss over ranks (:func:`averaged`) gives the number to show.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor


def ranks() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def summed(values: Tensor) -> Tensor:
    """Return the sum of every rank's tensor, without gradient; shapes are equal on all ranks."""
    values = values.detach()
    if ranks() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def averaged(values: Tensor) -> Tensor:
    """Return the average of every rank's tensor, without gradient; shapes are equal on all ranks."""
    return summed(values) / ranks()


def batch_mean(values: Tensor) -> Tensor:
    """Return this rank's part of a mean over the images of all ranks; the average of the parts is the mean.

    Args:
        values: (B,) losses of this rank's images; B may differ from rank to rank.

    Returns:
        A scalar: Σ values · R / N, see the module's docstring. Alone it is the plain mean.
    """
    count = torch.full((), len(values), dtype=torch.float32, device=values.device)
    return values.sum() / summed(count) * ranks()


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """Return the rows of all ranks, in the order of ranks, and where this rank's begin.

    Gradients flow back to the rank that a row came from, summed over what all ranks did with it.

    Args:
        rows: (B, W); B may differ from rank to rank.

    Returns:
        (ΣB, W), and the first of this rank's rows among them.
    """
    if ranks() == 1:
        return rows, 0
    counts = [torch.empty(1, dtype=torch.int64, device=rows.device) for _ in range(ranks())]
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
        parts = [torch.empty_like(rows) for _ in range(ranks())]
        dist.all_gather(parts, rows.contiguous())
        return torch.stack(parts)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        gradient = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(gradient)
        return gradient[dist.get_rank()]
