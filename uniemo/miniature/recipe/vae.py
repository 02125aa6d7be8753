"""Training of the miniature's autoencoder: 32 px pictures, 8×8 latents of 8 channels."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from uniemo.miniature.recipe.store import Store, crop_boxes
from uniemo.miniature.recipe.training import Progress, cosine_rate

SIZE, LATENT = 32, 8


def build_vae() -> AutoencoderKL:
    """Return an untrained autoencoder with a four-fold reduction."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT,
        sample_size=SIZE,
        scaling_factor=1.0,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        norm_num_groups=16,
    )


def small_views(store: Store, index: Tensor, generator: torch.Generator, whole: float = 0.4) -> tuple[Tensor, Tensor]:
    """Return (B, 3, 32, 32) pictures in [−1, 1], some cropped and flipped, and their object masks (B, 1, 32, 32).

    Args:
        store: paintings.
        index: (B,) which of them.
        generator: of crops and flips.
        whole: share that is shown without a crop.
    """
    pixels = torch.cat([store.images[index].float() / 127.5 - 1, store.masks[index, None].float()], 1)
    theta = crop_boxes(len(index), 0.7, generator)
    keep = torch.rand(len(index), generator=generator) < whole
    theta[keep] = torch.eye(2, 3) * torch.tensor([1.0, 1.0]).view(2, 1)
    grid = F.affine_grid(theta, [len(index), 4, 64, 64], align_corners=False)
    views = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    views = F.interpolate(views, size=SIZE, mode="area")
    return views[:, :3], views[:, 3:]


def _edges(images: Tensor) -> tuple[Tensor, Tensor]:
    return images[..., 1:, :] - images[..., :-1, :], images[..., :, 1:] - images[..., :, :-1]


def train_vae(store: Store, work: Path, steps: int, batch: int, seed: int, rate: float = 2e-3) -> AutoencoderKL:
    """Train the autoencoder on squared and absolute error of pixels and of edges, objects weighing double.

    The latents are brought to mean 0 and standard deviation 1 per channel by folding the change of scale into the two
    1×1 convolutions around them, so that ``scaling_factor`` is 1.

    Args:
        store: paintings.
        work: folder for the resumable state.
        steps: of ``batch`` images.
        batch: images a step.
        seed: of weights and random numbers.
        rate: peak learning rate.
    """
    torch.manual_seed(seed)
    vae = build_vae().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), lr=rate, weight_decay=0.0, betas=(0.9, 0.99))
    progress = Progress("VAE", work / "vae.pt", steps, {"model": vae, "optimizer": optimizer})
    for step in progress:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        cosine_rate(optimizer, step, steps, rate)
        index = torch.randint(len(store), (batch,), generator=generator)
        images, mask = small_views(store, index, generator)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            moments = vae.quant_conv(vae.encoder(images))
            mean, logvar = moments.float().chunk(2, 1)
            logvar = logvar.clamp(-30, 20)
            latents = mean + torch.randn(mean.shape, generator=generator) * torch.exp(0.5 * logvar)
            decoded = vae.decoder(vae.post_quant_conv(latents))
        decoded = decoded.float()
        weight = 1 + mask
        pixel = (weight * ((decoded - images) ** 2 + 0.1 * (decoded - images).abs())).mean()
        edge = torch.stack([(a - b).abs().mean() for a, b in zip(_edges(decoded), _edges(images), strict=True)]).sum()
        spread = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        loss = pixel + 0.1 * edge + 1e-4 * spread
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        optimizer.step()
        progress.show(pixel=pixel.item(), edge=edge.item(), kl=spread.item())
    vae.eval().requires_grad_(False)
    _standardise(vae, store, seed)
    return vae


@torch.no_grad()
def _standardise(vae: AutoencoderKL, store: Store, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    images, _ = small_views(store, torch.arange(min(2000, len(store))), generator)
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(250)])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))  # (8,)
    last, first = vae.quant_conv, vae.post_quant_conv
    first.bias += first.weight[:, :, 0, 0] @ mean
    first.weight *= std.view(1, -1, 1, 1)
    last.weight[:LATENT] /= std.view(-1, 1, 1, 1)
    last.bias[:LATENT] = (last.bias[:LATENT] - mean) / std
    last.bias[LATENT:] -= 2 * std.log()
