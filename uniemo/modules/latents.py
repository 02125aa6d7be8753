"""Lending a module's VAE to its data, for the cache of latents."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from uniemo.data.latents import LatentEncoder
from uniemo.models.diffusion import DiffusionBackbone

if TYPE_CHECKING:
    from uniemo.modules.emotion import EmotionModule


def vae_key(diffusion: DiffusionBackbone, precision: str = "32-true") -> str:
    """Return 12 hex digits that change with the VAE's configuration, precision or encoding weights.

    Args:
        diffusion: before the trainer moves or converts it.
        precision: the trainer's; only the ``true`` ones, which convert weights, matter.
    """
    config = {name: value for name, value in diffusion.vae.config.items() if not name.startswith("_")}
    if precision.endswith("-true") and precision != "32-true":
        config["converted"] = precision
    digest = hashlib.blake2b(json.dumps(config, sort_keys=True, default=str).encode(), digest_size=6)
    for name, weight in sorted(diffusion.vae.state_dict().items()):
        if not name.startswith(("decoder.", "post_quant_conv.")):
            digest.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
            digest.update(weight.contiguous().flatten().view(torch.uint8).cpu().numpy().data)
    return digest.hexdigest()


def latent_encoder(module: EmotionModule) -> LatentEncoder:
    """Return the module's VAE, to be used on its device and in its own precision, as a run's processes share it.

    Args:
        module: after its model is built, which has a ``diffusion`` backbone.
    """
    trainer, diffusion = module.trainer, cast(DiffusionBackbone, module.model.diffusion)

    def posterior(images: Tensor) -> Tensor:
        vae = cast(DiffusionBackbone, module.model.diffusion)  # a checkpoint may have had the model built again
        return vae.posterior(images.to(module.device))

    return LatentEncoder(
        vae_key(diffusion, str(trainer.precision)),
        diffusion.latent_shape,
        posterior,
        ranks=((trainer.global_rank, trainer.world_size), (trainer.local_rank, trainer.num_devices)),
        barrier=lambda: trainer.strategy.barrier("latents"),
        progress=trainer.is_global_zero and trainer.progress_bar_callback is not None,
    )
