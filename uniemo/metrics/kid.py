"""Kernel distance between two sets of features (KID), for sets too small for the Fréchet distance."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from uniemo.metrics.bootstrap import jackknife_interval

_STRETCH = 1000  # rows of the kernel in memory at a time


def kernel_sums(first: Tensor, group1: Tensor, second: Tensor, group2: Tensor, groups: tuple[int, int]) -> Tensor:
    """Return the sums of the cubic kernel (xᵀy / F + 1)³ between groups of rows, in float64.

    Args:
        first: (n, F).
        group1: (n,) group of each row.
        second: (m, F).
        group2: (m,).
        groups: how many groups there are on either side, (G, H).

    Returns:
        (G, H).
    """
    others = second.double().T / second.shape[1]  # (F, m)
    member = F.one_hot(group2, groups[1]).double()  # (m, H)
    sums = torch.zeros(groups, dtype=torch.float64, device=first.device)
    for rows, group in zip(first.split(_STRETCH), group1.split(_STRETCH), strict=True):
        sums.index_add_(0, group, (rows.double() @ others + 1).pow(3) @ member)
    return sums


def kernel_estimates(
    real: Tensor,
    real_emotion: Tensor,
    rows: Tensor,
    emotion: Tensor,
    fold: Tensor,
    emotions: int,
    intervals: bool = True,
) -> Tensor:
    """Return the unbiased squared maximum mean discrepancy (Bińkowski et al. 2018) and its interval.

    All pairs of rows count, where the publication averages over random subsets: the same expectation, less noise. An
    unbiased estimate may be below zero. The interval comes from leaving out each fold of the generated rows.

    Args:
        real: (m, F) features of real images.
        real_emotion: (m,) their class indices.
        rows: (n, F) features of generated images.
        emotion: (n,) their class indices.
        fold: (n,) which fold each is in, from 0.
        emotions: C.
        intervals: whether to work intervals out.

    Returns:
        (1 + C, 3): value, low and high end, of all images and of each emotion with at least two rows on both sides.
    """
    folds = int(fold.max()) + 1
    group = emotion * folds + fold
    within_real = kernel_sums(real, real_emotion, real, real_emotion, (emotions, emotions))
    between = kernel_sums(real, real_emotion, rows, group, (emotions, emotions * folds))
    within = kernel_sums(rows, group, rows, group, (emotions * folds,) * 2)
    # pairs of a row with itself do not count
    own_real, own = (
        torch.zeros(size, dtype=torch.float64, device=values.device).index_add_(
            0, index, (values.double().square().mean(dim=1) + 1).pow(3)
        )
        for values, index, size in ((real, real_emotion, emotions), (rows, group, emotions * folds))
    )
    count_real, count = real_emotion.bincount(minlength=emotions), group.bincount(minlength=emotions * folds)

    def distance(ours: Tensor, theirs: Tensor) -> float:
        """Return the estimate between some groups of generated rows and some emotions of real ones."""
        n, m = int(count[ours].sum()), int(count_real[theirs].sum())
        inside = (within[ours][:, ours].sum() - own[ours].sum()) / (n * (n - 1))
        inside_real = (within_real[theirs][:, theirs].sum() - own_real[theirs].sum()) / (m * (m - 1))
        return float(inside + inside_real - 2 * between[theirs][:, ours].sum() / (n * m))

    result = torch.full((1 + emotions, 3), torch.nan, dtype=torch.float64)
    every = torch.arange(emotions, device=rows.device)
    of_group = torch.arange(emotions * folds, device=rows.device)
    sizes = count.view(emotions, folds).sum(dim=1)
    single = ((sizes >= 2) & (count_real >= 2)).nonzero().flatten().tolist()
    for place, theirs in ((0, every), *((1 + label, every[label : label + 1]) for label in single)):
        ours = of_group[torch.isin(of_group // folds, theirs)]
        used = int(count[ours].view(-1, folds).any(dim=0).sum())  # they are filled from the first on
        left = [ours[ours % folds != k] for k in range(used)]
        enough = intervals and min(int(count[part].sum()) for part in left) >= 2
        value = distance(ours, theirs)
        without = [distance(part, theirs) for part in left] if enough else []
        low, high = jackknife_interval(value, without, lowest=-torch.inf)
        result[place] = torch.tensor([value, low, high], dtype=torch.float64)
    return result
