"""A mixture of Gaussians over one emotion's features, fitted to training images.

Why not one Gaussian: features of trained encoders have a low effective rank (4 to 7 of 192 axes on the miniature) and
each emotion has several modes, one for each thing that evokes it. Noise of independent axes lies mostly off the space
that images fill; a component around one mode, with a deviation of its own for each axis, hardly leaves it.

Components come from k-means on the joined features of all kinds, so that a sample's class, scene and object belong
together. As many components are taken as give held-out images the highest likelihood. The rest was chosen by held-out
likelihood on the miniature after three epochs of stage 1: features are standardised for k-means (at 16 components 180
images of an emotion give -358 nats instead of -364, 48 images -566 instead of -596), and a component's variance counts
the pooled one as eight images (4 and 16 are within 10 nats; with one image 32 components lose 31).
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uniemo.errors import UniEmoError

COMPONENTS = (1, 2, 4, 8, 16, 32)  # to choose from
_HELD_OUT = 4  # one image of so many is held out for the choice
_PRIOR = 8.0  # images that a component's pooled variance counts as: the deviations of small components are shrunk
_FLOOR = 1e-6  # least variance of an axis, as a share of the mean one
_ITERATIONS = 20  # of k-means


@dataclass(frozen=True)
class Mixture:
    """K Gaussians with independent axes.

    Attributes:
        weight: (K,), summing to one.
        mean: (K, D).
        std: (K, D).
    """

    weight: Tensor
    mean: Tensor
    std: Tensor

    def log_density(self, features: Tensor) -> Tensor:
        """Return the logarithm of the density at features (N, D), (N,)."""
        parts = [
            math.log(weight) - 0.5 * (((features - mean) / std).square() + 2 * std.log() + math.log(2 * math.pi)).sum(1)
            for weight, mean, std in zip(self.weight.tolist(), self.mean, self.std, strict=True)
        ]
        return torch.stack(parts).logsumexp(dim=0)


def check_features(features: Tensor) -> None:
    """Raise UniEmoError for features that are not finite."""
    if not features.isfinite().all():
        raise UniEmoError(
            "features of training images must be finite to fit an emotion space; they are not: training has diverged, "
            "take lower learning rates or another precision"
        )


def fit_mixture(features: Tensor, seed: int = 0, components: int | None = None) -> Mixture:
    """Fit a mixture to the joined features of an emotion's images.

    Args:
        features: (N, D), N from 1.
        seed: of k-means and of the choice of held-out images.
        components: K; None takes that of :data:`COMPONENTS` under which held-out images are likeliest. Never more than
            there are different images.

    Returns:
        In float64 on the CPU. A component of few images has deviations close to those of all components together; an
        emotion with one image has deviation zero.

    Raises:
        UniEmoError: features that are not finite.
    """
    check_features(features)
    rows = features.detach().cpu().double()
    floor = _FLOOR * float(rows.var(dim=0, correction=0).mean())
    if components is None:
        order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))
        cut = len(rows) // _HELD_OUT
        held, train = rows[order[:cut]], rows[order[cut:]]
        candidates = [one for one in COMPONENTS if one <= len(train) // 2]
        if len(candidates) > 1 and floor > 0:
            likelihood = [float(_fit(train, one, seed, floor).log_density(held).mean()) for one in candidates]
            components = candidates[int(np.argmax(likelihood))]
    return _fit(rows, components or 1, seed, floor)


def _fit(rows: Tensor, components: int, seed: int, floor: float) -> Mixture:
    """Fit K components, fewer where there are fewer different images; variances are at least ``floor``."""
    scale = rows.var(dim=0, correction=0).clamp(min=floor or 1.0).sqrt()
    label = torch.from_numpy(_clusters((rows / scale).numpy(), components, seed))
    _, label, count = label.unique(return_inverse=True, return_counts=True)  # empty clusters go
    member = torch.nn.functional.one_hot(label).double()  # (N, K)
    size = count.double().unsqueeze(1)  # (K, 1)
    mean = member.T @ rows / size  # (K, D)
    squares = member.T @ (rows - mean[label]).square()  # (K, D)
    pooled = squares.sum(dim=0) / max(len(rows) - len(count), 1)  # (D,) within components
    variance = (squares + _PRIOR * pooled) / (size - 1 + _PRIOR)
    return Mixture(size.flatten() / len(rows), mean, variance.clamp(min=floor).sqrt())


def _clusters(rows: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return each row's cluster (N,) by k-means."""
    from scipy.cluster.vq import kmeans2

    count = min(count, len(np.unique(rows, axis=0)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a cluster may be left empty
        labels: np.ndarray = kmeans2(rows, count, iter=_ITERATIONS, minit="++", rng=seed)[1]
    return labels
