"""What modules that generate images share: sampling without traces in training, and the VAE of the latent cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from uniemo.data.latent_cache import LatentEncoder
from uniemo.models.diffusion import DiffusionBackbone
from uniemo.models.emotion_space import Sampler, sampler_name


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Switch to eval mode without gradient for a while, and leave the global random state as it was."""
    was_training = model.training
    model.eval()
    try:
        # not inference mode, in which Lightning validates: tensors made there could not be trained with later
        with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng():
            yield
    finally:
        model.train(was_training)


def generate(
    module: Any,  # noqa: ANN401 - its model has the ``generate`` of uniemo.models.uniemo.UniEmoModel
    emotion: int | Sequence[int],
    seeds: list[int],
    steps: int | None = None,
    guidance: float | None = None,
    space: Sampler | None = None,
    batch_size: int = 16,
) -> Tensor:
    """Generate one image per seed, for one emotion or one per seed: (n, 3, H, W) in [0, 1] on the CPU.

    None takes the configuration's choice. Modules have this function as their method.
    """
    weights = [{one: 1.0} for one in ([emotion] * len(seeds) if isinstance(emotion, int) else emotion)]
    with evaluating(module.model):
        images: Tensor = module.model.generate(
            weights, seeds, steps=steps, guidance=guidance, kind=space, batch_size=batch_size
        )
    return images


def sampler_of(module: Any, space: Sampler | None = None) -> Sampler | None:  # noqa: ANN401 - a module that generates
    """Return how the features of images are sampled; None for a method without an emotion space."""
    if getattr(module.model, "space", None) is None:
        return None
    return sampler_name(space or module.model.space_config.kind)


def sampling(
    module: Any,  # noqa: ANN401 - a module that generates
    emotions: Sequence[int],
    seeds: Sequence[int],
    space: Sampler | None = None,
) -> dict[str, Any]:
    """Return how the features of images are sampled and how near training images they lie, for results.

    Modules have this function as their method.

    Args:
        module: after ``prepare_generation``.
        emotions: one for each image.
        seeds: one for each image.
        space: as in :func:`generate`.

    Returns:
        ``space``, None for a method without an emotion space; ``nearest_training_image`` and
        ``between_training_images``, the medians of :meth:`uniemo.models.emotion_space.EmotionSpace.distances`, where
        they are known.
    """
    kind = sampler_of(module, space)
    if kind is None:
        return {"space": None}
    own, config = module.model.space, module.model.space_config
    known = own.distances([{one: 1.0} for one in emotions], seeds, kind, config.noise)
    if known is None:
        return {"space": kind}
    return {
        "space": kind,
        "nearest_training_image": float(known[0].median()),
        "between_training_images": known[1],
    }


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


def latent_encoder(module: L.LightningModule) -> LatentEncoder:
    """Return the VAE of a module's ``model.diffusion``, run on its device and in its own precision."""
    trainer, model = module.trainer, module.model

    def posterior(images: Tensor) -> Tensor:  # of the present model: a checkpoint may have had it built again
        return module.model.diffusion.posterior(images.to(module.device))

    return LatentEncoder(
        vae_key(model.diffusion, str(trainer.precision)),
        model.diffusion.latent_shape,
        posterior,
        ranks=((trainer.global_rank, trainer.world_size), (trainer.local_rank, trainer.num_devices)),
        barrier=lambda: trainer.strategy.barrier("latents"),
        progress=trainer.is_global_zero and trainer.progress_bar_callback is not None,
    )
