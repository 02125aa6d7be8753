"""Low-rank adapters on the attention layers of a frozen network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError

TARGETS = ("to_q", "to_k", "to_v", "to_out.0")  # the linear layers of diffusers' attention


class LoraLinear(nn.Module):
    """A frozen linear layer plus a trained update of rank r, which starts at zero: W x + B A x."""

    def __init__(self, base: nn.Linear, rank: int) -> None:
        super().__init__()
        self.base = base
        self.lora_down = nn.Parameter(torch.randn(rank, base.in_features) / base.in_features**0.5)
        self.lora_up = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in) to (..., out)."""
        mapped = self.base(x)  # in half precision where the frozen network is
        return mapped + (x.to(self.lora_down.dtype) @ self.lora_down.T @ self.lora_up.T).to(mapped.dtype)


def add_lora(network: nn.Module, rank: int) -> None:
    """Put adapters of a rank on every attention layer of ``network``, in place.

    Raises:
        UniEmoError: the network has no attention layers that they fit.
    """
    names = [name for name, layer in network.named_modules() if name.endswith(TARGETS) and isinstance(layer, nn.Linear)]
    if not names:
        raise UniEmoError(f"diffusion.lora_rank must be 0 for a UNet without attention layers; got {rank}")
    for name in names:
        parent, _, child = name.rpartition(".")
        owner = network.get_submodule(parent)
        setattr(owner, child, LoraLinear(getattr(owner, child), rank))


@torch.no_grad()
def merge_lora(network: nn.Module) -> None:
    """Add each adapter's update to the layer that it adapts and take the adapter away, in place."""
    for name, layer in [(name, layer) for name, layer in network.named_modules() if isinstance(layer, LoraLinear)]:
        layer.base.weight += (layer.lora_up @ layer.lora_down).to(layer.base.weight)
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, layer.base)
