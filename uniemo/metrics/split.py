"""Means over a whole split to which every sample counts once, however many ranks measured it."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


def first_of_each(sample_id: Tensor) -> Tensor:
    """Return the rows that hold each sample id for the first time, ids ascending.

    Distributed samplers repeat samples so that every rank has as many; this is how repeats are dropped.

    Args:
        sample_id: (N,) int64.
    """
    order = torch.argsort(sample_id, stable=True)
    ids = sample_id[order]
    first = torch.ones_like(ids, dtype=torch.bool)
    first[1:] = ids[1:] != ids[:-1]
    return order[first]


class SplitMean(Metric):
    """Means of one value or several per sample, each sample of the split counted once.

    Args:
        limit: only the samples with so many lowest ids count; None takes all. Ranks share out a split in the order of
            its ids, so that the same samples count however many ranks there are.
    """

    full_state_update = False
    sample_id: list[Tensor]
    values: list[Tensor]

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        self.limit = limit
        for state in ("sample_id", "values"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, values: Tensor, sample_id: Tensor) -> None:
        """Add a batch.

        Args:
            values: (B, K); a row with NaN takes no part in the means, though it counts towards the limit.
            sample_id: (B,) int64, unique in the split.
        """
        self.values.append(values.float())
        self.sample_id.append(sample_id)

    def compute(self) -> Tensor:
        """Return the (K,) means; NaN where no sample has a value."""
        rows = first_of_each(dim_zero_cat(self.sample_id))[: self.limit]
        return dim_zero_cat(self.values)[rows].nanmean(dim=0)
