"""Accuracy over a split, each sample counted once."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat


class SplitAccuracy(Metric):
    """Accuracy, in total and per class, over a whole split.

    Distributed samplers repeat samples so that every rank has as many; repeats are dropped by sample id.

    Args:
        num_classes: C.
    """

    full_state_update = False
    sample_id: list[Tensor]
    hit: list[Tensor]
    label: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for state in ("sample_id", "hit", "label"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, label: Tensor, sample_id: Tensor) -> None:
        """Add a batch.

        Args:
            scores: (B, C), the largest decides.
            label: (B,) int64.
            sample_id: (B,) int64, unique in the split.
        """
        self.sample_id.append(sample_id)
        self.hit.append(scores.argmax(dim=1) == label)
        self.label.append(label)

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the share of right answers and that of each class (C,), NaN for a class without samples."""
        ids, hit, label = dim_zero_cat(self.sample_id), dim_zero_cat(self.hit), dim_zero_cat(self.label)
        order = torch.argsort(ids, stable=True)
        ids, hit, label = ids[order], hit[order].float(), label[order]
        first = torch.ones_like(ids, dtype=torch.bool)
        first[1:] = ids[1:] != ids[:-1]
        hit, label = hit[first], label[first]
        right = torch.zeros(self.num_classes, device=hit.device).scatter_add(0, label, hit)
        total = torch.bincount(label, minlength=self.num_classes)
        return hit.mean(), right / total
