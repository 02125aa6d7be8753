"""Share a frozen UNet's or transformer's weights out over the ranks (FSDP), each of which then holds 1/R of them.

Its transformer blocks, the bulk of it, are gathered one after the other while they compute, forward and backward. All
ranks have to run it together and equally often; where they do not (generation), it is gathered as a whole first.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard

from uniemo.distributed import get_world_size
from uniemo.errors import UniEmoError


def shard(network: nn.Module, device: torch.device) -> None:
    """Share out a frozen network's weights, in place.

    Args:
        network: a UNet or transformer of diffusers, on any device.
        device: where this rank computes.

    Raises:
        UniEmoError: a part of it is trained.
    """
    if any(parameter.requires_grad for parameter in network.parameters()):
        raise UniEmoError(
            "model.diffusion.lora_rank must be 0 where the UNet's weights are shared out over ranks, it then learns "
            "nothing itself: set it to 0, or take --trainer.strategy ddp"
        )
    mesh = init_device_mesh(device.type, (get_world_size(),))
    name: Any = network._no_split_modules[0]  # type: ignore[index]  # diffusers' class of its transformer blocks
    for block in [part for part in network.modules() if type(part).__name__ == name]:
        fully_shard(block, mesh=mesh)
    fully_shard(network, mesh=mesh)


def is_sharded(network: nn.Module) -> bool:
    """Whether :func:`shard` was applied to the network."""
    return isinstance(network, FSDPModule)


@torch.inference_mode(False)
def gather(network: nn.Module) -> None:
    """Give every rank the whole of a sharded network, until :func:`scatter`; all ranks have to call this together."""
    for part in network.modules():
        if isinstance(part, FSDPModule):
            part.set_reshard_after_forward(False, recurse=False)
            part.unshard()


def scatter(network: nn.Module) -> None:
    """Take back what :func:`gather` did."""
    for part in network.modules():
        if isinstance(part, FSDPModule):
            part.set_reshard_after_forward(part is not network, recurse=False)
            part.reshard()
