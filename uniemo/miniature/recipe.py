"""Rebuild the miniature's weights from a seed: ``python -m uniemo.miniature.recipe`` (``make miniature``).

CLIP on captions of paintings, an autoencoder of 32 px pictures, a text-conditioned denoiser of its latents, and a
report on held-out paintings. Each stage saves its state often, and an interrupted run resumes. ``make miniature`` runs
it twice: on plain paintings, then on hard ones with ``--start``, where the text tower stays as it is.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from open_clip.tokenizer import HFTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTokenizer

from uniemo.cache import atomic_write, save_tensors, write_text
from uniemo.miniature import small_networks
from uniemo.miniature.painter import DIFFICULTY
from uniemo.miniature.pretraining_set import EMPTY, Paintings, clip_views, load_or_paint, small_views
from uniemo.miniature.quality import normalise, write_report
from uniemo.miniature.small_networks import LATENT, OBJECT_TEMPLATES, SCENE_TEMPLATES, TEMPLATES, caption
from uniemo.miniature.table import OBJECTS, SCENES
from uniemo.miniature.training_steps import Progress, cosine_rate, optimise

STAGES = ("clip", "vae", "unet", "quality")


def train_clip(
    paintings: Paintings,
    folder: Path,
    work: Path,
    steps: int,
    seed: int,
    start: Path | None = None,
    peak: float = 1e-3,
) -> None:
    """Train the miniature CLIP and write it as an open_clip folder.

    Every step contrasts a batch of images with all scene names, all object names and one caption for each pair of
    scene and object (the whole vocabulary is small enough to be the set of negatives).

    Args:
        paintings: the pre-training set.
        folder: where ``open_clip_config.json``, weights and the tokenizer go.
        work: folder for the resumable state.
        steps: of 64 images.
        seed: of weights and random numbers.
        start: folder of a CLIP to continue from; its text tower is frozen.
        peak: learning rate.
    """
    torch.manual_seed(seed)
    small_networks.save_tokenizer(folder)
    tokenizer = HFTokenizer(str(folder), context_length=small_networks.CONTEXT)
    config = small_networks.clip_config(len(tokenizer.tokenizer))
    model = open_clip.CLIP(**config["model_cfg"]).train()
    if start:
        state = load_file(start / "open_clip_model.safetensors")
        model.load_state_dict({key: value.float() for key, value in state.items()}, strict=False)
        model.lock_text_tower()
    pairs = [(scene, thing) for scene in range(len(SCENES)) for thing in range(len(OBJECTS))]
    groups = [
        {"params": [p for p in model.parameters() if p.requires_grad and p.ndim >= 2], "weight_decay": 0.05},
        {"params": [p for p in model.parameters() if p.requires_grad and p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    progress = Progress("CLIP", work / "clip.pt", steps, {"model": model, "optimizer": optimizer})
    for step in progress:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        index = torch.randint(len(paintings), (64,), generator=generator)
        scene, thing = paintings.scene[index], paintings.object[index]

        def choose(templates: tuple[str, ...], generator: torch.Generator = generator) -> str:
            return templates[int(torch.randint(len(templates), (1,), generator=generator))]

        texts = [caption(choose(SCENE_TEMPLATES), s, 0) for s in range(len(SCENES))]
        texts += [caption(choose(OBJECT_TEMPLATES), 0, o) for o in range(len(OBJECTS))]
        texts += [caption(choose(TEMPLATES), s, o) for s, o in pairs]
        tokens = tokenizer(texts)
        with torch.autocast("cpu", torch.bfloat16):
            image = model.encode_image(normalise(clip_views(paintings.images[index], generator)), normalize=True)
            text = model.encode_text(tokens, normalize=True)
        image, scale = image.float(), model.logit_scale.exp().clamp(max=100)
        scenes, objects, both = text.float().split([len(SCENES), len(OBJECTS), len(pairs)])
        has = thing != EMPTY
        loss_scene = F.cross_entropy(scale * image @ scenes.T, scene)
        loss_object = F.cross_entropy(scale * image[has] @ objects.T, thing[has])
        loss_pair = F.cross_entropy(scale * image[has] @ both.T, scene[has] * len(OBJECTS) + thing[has])
        optimise(optimizer, loss_scene + 2 * loss_object + loss_pair, cosine_rate(step, steps, peak))
        progress.show(scene=loss_scene, object=loss_object, pair=loss_pair)
    state = {key: value.half().contiguous() for key, value in model.state_dict().items() if key != "attn_mask"}
    with atomic_write(folder / "open_clip_model.safetensors") as temporary:
        save_file(state, temporary)
    write_text(folder / "open_clip_config.json", json.dumps(config, indent=2) + "\n")


def train_vae(
    paintings: Paintings, work: Path, steps: int, seed: int, start: Path | None = None, peak: float = 2e-3
) -> AutoencoderKL:
    """Train the autoencoder on squared and absolute error of pixels and of edges, objects weighing double."""

    def edges(images: Tensor) -> tuple[Tensor, Tensor]:
        return images[..., 1:, :] - images[..., :-1, :], images[..., :, 1:] - images[..., :, :-1]

    torch.manual_seed(seed)
    vae = AutoencoderKL.from_pretrained(start).float() if start else small_networks.build_vae()
    vae = vae.train().requires_grad_().to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(vae.parameters(), weight_decay=0.0, betas=(0.9, 0.99))
    progress = Progress("VAE", work / "vae.pt", steps, {"model": vae, "optimizer": optimizer})
    for step in progress:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        index = torch.randint(len(paintings), (32,), generator=generator)
        images, mask = small_views(paintings, index, generator)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            moments = vae.quant_conv(vae.encoder(images))
            mean, logvar = moments.float().chunk(2, 1)
            logvar = logvar.clamp(-30, 20)
            latents = mean + torch.randn(mean.shape, generator=generator) * torch.exp(0.5 * logvar)
            decoded = vae.decoder(vae.post_quant_conv(latents))
        decoded = decoded.float()
        pixel = ((1 + mask) * ((decoded - images) ** 2 + 0.1 * (decoded - images).abs())).mean()
        edge = torch.stack([(a - b).abs().mean() for a, b in zip(edges(decoded), edges(images), strict=True)]).sum()
        spread = 0.5 * (mean**2 + logvar.exp() - 1 - logvar).mean()
        optimise(optimizer, pixel + 0.1 * edge + 1e-4 * spread, cosine_rate(step, steps, peak))
        progress.show(pixel=pixel, edge=edge, kl=spread)
    vae.eval().requires_grad_(False)
    _standardise(vae, paintings, seed)
    return vae


@torch.no_grad()
def _standardise(vae: AutoencoderKL, paintings: Paintings, seed: int) -> None:
    """Bring the latents to mean 0 and standard deviation 1 per channel, so that ``scaling_factor`` is 1.

    The change of scale is folded into the two 1×1 convolutions around the latents.
    """
    generator = torch.Generator().manual_seed(seed)
    images, _ = small_views(paintings, torch.arange(min(2000, len(paintings))), generator)
    latents = torch.cat([vae.encode(part).latent_dist.mean for part in images.split(250)])
    mean, std = latents.mean((0, 2, 3)), latents.std((0, 2, 3))  # (8,)
    last, first = vae.quant_conv, vae.post_quant_conv
    first.bias += first.weight[:, :, 0, 0] @ mean
    first.weight *= std.view(1, -1, 1, 1)
    last.weight[:LATENT] /= std.view(-1, 1, 1, 1)
    last.bias[:LATENT] = (last.bias[:LATENT] - mean) / std
    last.bias[LATENT:] -= 2 * std.log()


@torch.no_grad()
def encode_latents(vae: AutoencoderKL, paintings: Paintings, seed: int, path: Path) -> tuple[Tensor, Tensor]:
    """Return latents (2·N, 8, 8, 8) of two random crops of every painting and the objects' share of each cell."""
    if not path.is_file():
        latents, masks = [], []
        for view in range(2):
            for index in torch.arange(len(paintings)).split(500):
                generator = torch.Generator().manual_seed(seed + view * 7919 + int(index[0]))
                images, mask = small_views(paintings, index, generator)
                latents.append(vae.encode(images).latent_dist.mean.half())
                masks.append(F.adaptive_avg_pool2d(mask, 8).half())
        save_tensors(path, {"latents": torch.cat(latents), "masks": torch.cat(masks)})
    saved = torch.load(path, weights_only=True)
    return saved["latents"].float(), saved["masks"].float()


def train_unet(
    paintings: Paintings,
    vae: AutoencoderKL,
    out: Path,
    work: Path,
    steps: int,
    seed: int,
    start: Path | None = None,
    peak: float = 1.5e-3,
) -> None:
    """Train the denoiser (v-prediction, min-SNR weights, objects weighing double) and write a Stable Diffusion folder.

    Args:
        paintings: the pre-training set.
        vae: trained autoencoder.
        out: has the miniature CLIP, whose text tower and tokenizer are used; ``diffusion/`` goes there.
        work: folder for the resumable state.
        steps: of 64 images.
        seed: of weights and random numbers.
        start: folder of a denoiser to continue from.
        peak: learning rate.
    """
    torch.manual_seed(seed)
    latents, masks = encode_latents(vae, paintings, seed, work / "latents.pt")
    encoder = small_networks.text_encoder(out / "clip")
    tokenizer = CLIPTokenizer.from_pretrained(out / "clip")
    states = small_networks.text_states(encoder, tokenizer)
    unet = UNet2DConditionModel.from_pretrained(start).float() if start else small_networks.build_unet()
    unet = unet.train().requires_grad_().to(memory_format=torch.channels_last)
    average = copy.deepcopy(unet).requires_grad_(False)
    schedule = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False)
    snr = schedule.alphas_cumprod / (1 - schedule.alphas_cumprod)
    weight_of_step = snr.clamp(max=5) / (snr + 1)  # min-SNR-5 for v-prediction (Hang et al., 2023)
    optimizer = torch.optim.AdamW(unet.parameters(), weight_decay=1e-2, betas=(0.9, 0.99))
    parts = {"model": unet, "average": average, "optimizer": optimizer}
    progress = Progress("UNet", work / "unet.pt", steps, parts)
    for step in progress:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        index = torch.randint(len(latents), (64,), generator=generator)
        painting = index % len(paintings)
        texts = small_networks.sample_texts(states, paintings.scene[painting], paintings.object[painting], generator)
        noise = torch.randn(64, *latents.shape[1:], generator=generator)
        timestep = torch.randint(1000, (64,), generator=generator)
        noisy = schedule.add_noise(latents[index], noise, timestep).contiguous(memory_format=torch.channels_last)
        target = schedule.get_velocity(latents[index], noise, timestep)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(noisy, timestep, encoder_hidden_states=texts, return_dict=False)[0]
        error = (predicted.float() - target) ** 2 * (1 + masks[index])
        loss = (error.mean((1, 2, 3)) * weight_of_step[timestep]).mean()
        optimise(optimizer, loss, cosine_rate(step, steps, peak, warmup=500))
        keep = min(0.9995, 1 - 10 / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - keep)
        progress.show(loss=loss, plain=error.mean())
    scheduler = UniPCMultistepScheduler.from_config(schedule.config)
    parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    pipeline = StableDiffusionPipeline(vae, encoder, tokenizer, average, scheduler, **parts)
    pipeline.to(dtype=torch.float16, silence_dtype_warnings=True).save_pretrained(out / "diffusion")


def main() -> None:
    """Run the stages asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m uniemo.miniature.recipe",
        description="Pre-train the miniature CLIP and Stable Diffusion on paintings. Interrupted runs resume.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    weights = Path(__file__).parent / "weights"
    parser.add_argument("--out", type=Path, default=weights, help="folder of the finished weights")
    parser.add_argument("--work", type=Path, default=Path("build/miniature"), help="resumable state")
    parser.add_argument("--grids", type=Path, default=Path("docs"), help="folder of picture grids")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="what to run")
    parser.add_argument("--seed", type=int, default=0, help="of weights and random numbers")
    parser.add_argument("--start", type=Path, help="folder of weights to continue from")
    parser.add_argument("--difficulty", type=float, default=2 * DIFFICULTY, help="of the paintings, in [0, 1]")
    parser.add_argument("--peak", type=float, default=1.0, help="factor of the learning rates")
    parser.add_argument("--paintings", type=int, default=40_000, help="size of the pre-training set")
    parser.add_argument("--clip-steps", type=int, default=1150, help="steps of 64 images")
    parser.add_argument("--vae-steps", type=int, default=2400, help="steps of 32 images")
    parser.add_argument("--unet-steps", type=int, default=2600, help="steps of 64 latents")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    out, work, seed = options.out, options.work, options.seed
    work.mkdir(parents=True, exist_ok=True)
    workers = os.cpu_count() or 1
    paintings = load_or_paint(
        work / "paintings.npz", options.paintings, seed, difficulty=options.difficulty, workers=workers
    )
    diffusion = options.start and options.start / "diffusion"
    if "clip" in options.stages:
        clip = options.start and options.start / "clip"
        train_clip(paintings, out / "clip", work, options.clip_steps, seed, clip, peak=1e-3 * options.peak)
    if "vae" in options.stages or "unet" in options.stages:
        start = diffusion and diffusion / "vae"
        vae = train_vae(paintings, work, options.vae_steps, seed, start, peak=2e-3 * options.peak)
    if "unet" in options.stages:
        start = diffusion and diffusion / "unet"
        train_unet(paintings, vae, out, work, options.unet_steps, seed, start, peak=1.5e-3 * options.peak)
    if "quality" in options.stages:
        write_report(out, options.grids, seed)


if __name__ == "__main__":
    main()
