"""Fréchet distance between Gaussians, and between one and many parts of a set of features."""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(mean1: Tensor, covariance1: Tensor, mean2: Tensor, covariance2: Tensor) -> Tensor:
    """Return ‖m1 - m2‖² + tr(S1 + S2 - 2 (S1 S2)^½) of two Gaussians.

    The trace of the root is taken from the eigenvalues of S1^½ S2 S1^½, which is symmetric: no complex numbers, and no
    trouble with the singular covariances of few samples.

    Args:
        mean1: (F,).
        covariance1: (F, F).
        mean2: (F,).
        covariance2: (F, F).

    Returns:
        Scalar float64, at least 0.
    """
    mean1, covariance1, mean2, covariance2 = (x.double() for x in (mean1, covariance1, mean2, covariance2))
    root = matrix_root(covariance1)
    return _distance(mean1, covariance1.trace(), mean2, covariance2.trace(), root @ covariance2 @ root)


def matrix_root(covariance: Tensor) -> Tensor:
    """Return the symmetric root (F, F) of a covariance; rounding errors below zero are taken as zero."""
    values, vectors = torch.linalg.eigh(covariance.double())
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def _distance(mean1: Tensor, trace1: Tensor, mean2: Tensor, trace2: Tensor, product: Tensor) -> Tensor:
    """Return the distance, given a symmetric matrix with the non-zero eigenvalues of S1 S2."""
    values = torch.linalg.eigvalsh(product)
    # What rounding leaves of a zero, 1e-16 of the largest, would have a root of 1e-8 of its root: F of them add up.
    values = values.where(values > values[-1] * len(values) * torch.finfo(values.dtype).eps, 0.0)
    distance = (mean1 - mean2).square().sum() + trace1 + trace2 - 2 * values.sqrt().sum()
    return distance.clamp(min=0)


def frechet_distance_of_parts(mean: Tensor, covariance: Tensor, rows: Tensor, parts: Tensor) -> Tensor:
    """Return the distances of a Gaussian to several parts of one set of features.

    With n ≤ F rows it is enough to look at n × n: S2 = XᵀX / (n - 1) with centred rows X has rank below n, and S1 S2
    has the non-zero eigenvalues of X S1 Xᵀ / (n - 1). One such matrix serves all parts.

    Args:
        mean: (F,) of the Gaussian.
        covariance: (F, F).
        rows: (n, F).
        parts: (K, n) bool, which rows each part has; at least two.

    Returns:
        (K,) float64, as :func:`frechet_distance` of each part's mean and covariance.
    """
    mean, covariance, rows = mean.double(), covariance.double(), rows.double()
    offset = rows.mean(dim=0)
    centred = rows - offset  # (n, F)
    trace = covariance.trace()
    small = len(rows) <= rows.shape[1]
    if small:
        inner = centred @ covariance @ centred.T  # (n, n)
        square = centred.square().sum(dim=1)  # (n,)
    else:
        root, outer = matrix_root(covariance), centred.T @ centred  # (F, F)
    distances = []
    for keep in parts:
        n, middle = int(keep.sum()), centred[keep].mean(dim=0)
        if small:
            product = inner[keep][:, keep]
            product = product - product.mean(dim=0) - product.mean(dim=1, keepdim=True) + product.mean()
            product = (product + product.T) / (2 * (n - 1))
            spread = (square[keep].sum() - n * middle.square().sum()) / (n - 1)
        else:
            left = centred[~keep]
            scatter = (outer - left.T @ left - n * torch.outer(middle, middle)) / (n - 1)
            product, spread = root @ scatter @ root, scatter.trace()
        distances.append(_distance(mean, trace, offset + middle, spread, product))
    return torch.stack(distances)
