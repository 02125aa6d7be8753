"""Random numbers that depend on (seed, step, sample) and on nothing else.

A resumed run gets the numbers of the unbroken one, whatever happened to the global random state in between, and a
sample's noise does not depend on its neighbours in the batch.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def mixed_seed(*numbers: int) -> int:
    """Mix non-negative numbers into one seed in [0, 2^63)."""
    state = np.random.SeedSequence([number & 0xFFFFFFFFFFFFFFFF for number in numbers]).generate_state(1, np.uint64)
    return int(state[0]) >> 1


def generator(*numbers: int) -> torch.Generator:
    """Return a CPU generator seeded by the mixture of the numbers."""
    return torch.Generator().manual_seed(mixed_seed(*numbers))


def sample_noise(sample_ids: Tensor, shape: tuple[int, ...], seed: int, step: int, stream: int = 0) -> Tensor:
    """Return standard normal noise (B, *shape), one generator per sample.

    Args:
        sample_ids: (B,) int64.
        shape: of one sample.
        seed: of the run.
        step: optimiser step.
        stream: number of an independent stream.
    """
    return torch.stack(
        [torch.randn(shape, generator=generator(seed, step, key, stream)) for key in sample_ids.tolist()]
    )


def sample_integers(sample_ids: Tensor, count: int, seed: int, step: int, stream: int = 0) -> Tensor:
    """Return (B,) int64, uniform in [0, count), one generator per sample; arguments as above."""
    return torch.tensor(
        [int(torch.randint(count, (), generator=generator(seed, step, key, stream))) for key in sample_ids.tolist()]
    )


def sample_uniform(sample_ids: Tensor, seed: int, step: int, stream: int = 0) -> Tensor:
    """Return (B,) float64, uniform in [0, 1), on the CPU; arguments as above.

    A sample's number stands at the place of its id in the SplitMix64 sequence (Steele, Lea and Flood, 2014) that seed,
    step and stream start. Any place of that sequence can be computed at once: no generator is made for each sample.
    """
    places = np.array(sample_ids.tolist(), dtype=np.int64).astype(np.uint64) + np.uint64(1)
    bits = np.uint64(mixed_seed(seed, step, stream)) + places * np.uint64(0x9E3779B97F4A7C15)  # wraps at 2^64
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    bits ^= bits >> np.uint64(31)
    return torch.from_numpy((bits >> np.uint64(11)) * 2.0**-53)
