"""Seeded inputs of a diffusion loss."""

import torch


def condition_of(model, batch, seed=0, gradient=False):
    """Return a random condition for each text encoder, (batch, width) each."""
    generator = torch.Generator().manual_seed(seed)
    scale = 0.1 if len(model.token_widths) == 1 else 1.0
    found = tuple(torch.randn(batch, width, generator=generator) * scale for width in model.token_widths)
    return tuple(own.requires_grad_() for own in found) if gradient else found


def training_batch(batch=4):
    """Return latents, noise (batch, 4, 8, 8) and timesteps."""
    latents, noise = torch.randn(2, batch, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    return latents, noise, torch.tensor([3, 40, 77, 99])[:batch]
