"""A Lightning strategy for diffusion models that do not fit whole on every card."""

from __future__ import annotations

from typing import Any

from lightning.pytorch.strategies import DDPStrategy
from torch import nn


class FrozenFSDPStrategy(DDPStrategy):
    """FSDP for the frozen UNet, DDP for all that is trained; arguments as Lightning's DDPStrategy has them.

    Each of R ranks holds 1/R of the UNet's weights. What is trained is small, and whole on every rank: gradients,
    checkpoints and results are those of ``ddp``, and the checkpoints of one open in the other.
    """

    strategy_name = "fsdp"
    _gathered = False  # whether every rank holds the whole UNet for now

    def model_to_device(self) -> None:
        """Shard the UNet before the rest goes to the device, so that no card ever holds the whole of it.

        Raises:
            UniEmoError: a UNet that learns.
        """
        from uniemo.models.sharding import is_sharded, shard

        module, unet = self.lightning_module, self._unet
        if not is_sharded(unet):
            shard(unet, self.root_device)
        sharded = {id(parameter) for parameter in unet.parameters()}
        names = [name for name, parameter in module.named_parameters() if id(parameter) in sharded]
        module._ddp_params_and_buffers_to_ignore = names  # torch's name for what DDP skips
        super().model_to_device()

    def gather(self) -> None:
        """Give every rank the whole UNet, to use without the others; all ranks have to call this together."""
        from uniemo.models.sharding import gather

        gather(self._unet)
        self._gathered = True

    def scatter(self) -> None:
        """Undo :meth:`gather`, if it was called."""
        from uniemo.models.sharding import scatter

        if self._gathered:
            scatter(self._unet)
            self._gathered = False

    @property
    def _unet(self) -> nn.Module:
        module: Any = self.lightning_module
        unet: nn.Module = module.model.diffusion.unet
        return unet
