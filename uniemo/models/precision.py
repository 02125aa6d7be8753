"""Products in float32 where mixed precision is on: of losses and of α, which bfloat16's three digits would blur."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def products(rows: Tensor, columns: Tensor) -> Tensor:
    """Return the (N, M) dot products of (N, E) and (M, E) vectors in float32, whatever autocast says."""
    with torch.autocast(rows.device.type, enabled=False):
        return rows.float() @ columns.float().T


def linear(layer: nn.Module, inputs: Tensor) -> Tensor:
    """Return the output (N, W) of a layer with float32 weights for (N, D) inputs in float32, whatever autocast says."""
    with torch.autocast(inputs.device.type, enabled=False):
        return layer(inputs.float())
