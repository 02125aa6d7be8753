"""Steps of training at true size and of the miniature, on a batch that is ready in memory, for optimisations.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import AdamW

from benchmarks.memory import Step, build, contrastive_losses, rates
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules.optim import model_parameters, parameter_groups


@dataclass
class Workload:
    """One step, and what can be changed about it.

    Attributes:
        title: what it is.
        model: all that is in memory.
        forward: returns the loss, or what the forward pass gives where nothing is differentiated.
        networks: that can be changed: "convolutions", the "checkpointed" one, "compiled" ones.
        samples: in a step.
        optimizer: makes AdamW with its options, None where nothing learns.
        backward: run a backward pass.
    """

    title: str
    model: nn.Module
    forward: Callable[[], Tensor]
    networks: dict[str, Any]
    samples: int
    optimizer: Callable[..., AdamW] | None = None
    backward: bool = True

    def __post_init__(self) -> None:
        """Make the default optimiser."""
        self.adamw = None if self.optimizer is None else self.optimizer()

    def step(self) -> None:
        """Take one step."""
        result = self.forward()
        if self.backward:
            result.backward()
        if self.adamw is not None:
            self.adamw.step()
            self.adamw.zero_grad()


def encoder_workload(batch: int) -> Workload:
    """Return stage 1 at true size, as its recipe has it."""
    step = Step(clip="random:ViT-B-32", diffusion=None, tuned=True, batch=batch)
    model = build(step)
    size = model.encoder.image_size
    images, labels = torch.randn(batch, 3, size, size), torch.arange(batch) % 8

    def forward() -> Tensor:
        features = model.features(images)
        loss = F.cross_entropy(model.logits(features), labels)
        return loss + contrastive_losses(model, features, labels)

    networks = {"checkpointed": model.encoder, "compiled": [model.encoder]}
    title = f"stage 1, ViT-B/32, batch {batch}"
    return Workload(title, model, forward, networks, batch, optimizer(model, step))


def joint_workload(batch: int) -> Workload:
    """Return joint training of the miniature with cached latents, as its recipe has it."""
    step = Step("miniature:clip", "miniature:diffusion", batch, dtype="float32", checkpointing=False)
    model = build(step)
    diffusion = model.diffusion
    assert diffusion is not None
    size = model.encoder.image_size
    images, labels = torch.randn(batch, 3, size, size), torch.arange(batch) % 8
    latents, times = torch.randn(batch, *diffusion.latent_shape), torch.arange(batch) * 999 // batch

    def forward() -> Tensor:
        features = model.features(images)
        condition = model.condition(features, labels)
        loss = F.cross_entropy(model.logits(features), labels)
        return loss + diffusion.loss(latents, condition, torch.randn_like(latents), times).mean()

    networks = {"checkpointed": diffusion.unet, "convolutions": diffusion.unet}
    networks["compiled"] = [model.encoder, diffusion.unet]
    return Workload(
        f"joint training, miniature, batch {batch}", model, forward, networks, batch, optimizer(model, step)
    )


def optimizer(model: UniEmoModel, step: Step) -> Callable[..., AdamW]:
    """Return how to make AdamW for a model."""
    return lambda **choice: AdamW(parameter_groups(model_parameters(model), rates(step)), **choice)


def diffusion_workload(batch: int) -> Workload:
    """Return the UNet of Stable Diffusion 1.5, forward and back to the condition."""
    diffusion = build(Step(clip="miniature:clip", batch=batch, dtype="float32", checkpointing=False)).diffusion
    assert diffusion is not None
    latents, condition = torch.randn(batch, *diffusion.latent_shape), torch.randn(batch, diffusion.token_widths[0])
    condition.requires_grad_()
    times = torch.full((batch,), 500)

    def forward() -> Tensor:
        diffusion.config.dtype = str(diffusion.unet.dtype).removeprefix("torch.")
        return diffusion.loss(latents, (condition,), torch.randn_like(latents), times).mean()

    networks = {"checkpointed": diffusion.unet, "convolutions": diffusion.unet, "compiled": [diffusion.unet]}
    title = f"UNet of Stable Diffusion 1.5, 64 x 64 latents, batch {batch}"
    return Workload(title, diffusion, forward, networks, batch)


def vae_workload(batch: int) -> Workload:
    """Return the VAE of Stable Diffusion 1.5 encoding pictures of 512 x 512."""
    diffusion = build(Step(clip="miniature:clip", batch=batch, dtype="float32", checkpointing=False)).diffusion
    assert diffusion is not None
    pictures = torch.randn(batch, 3, diffusion.image_size, diffusion.image_size)
    networks = {"convolutions": diffusion.vae, "compiled": [diffusion.vae.encoder]}
    title = f"VAE of Stable Diffusion 1.5 encodes 512 x 512, batch {batch}"
    return Workload(title, diffusion.vae, lambda: diffusion.encode(pictures), networks, batch, backward=False)


WORKLOADS: dict[str, tuple[Callable[[int], Workload], int]] = {
    "stage1": (encoder_workload, 32),
    "miniature": (joint_workload, 32),
    "sd15": (diffusion_workload, 1),
    "vae": (vae_workload, 1),
}
