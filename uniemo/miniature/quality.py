"""Quality of the finished miniature on held-out paintings, and pictures to look at."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from diffusers import StableDiffusionPipeline
from open_clip.constants import OPENAI_DATASET_MEAN as CLIP_MEAN
from open_clip.constants import OPENAI_DATASET_STD as CLIP_STD
from PIL import Image
from torch import Tensor

from uniemo.cache import write_text
from uniemo.miniature.pretraining_set import SIZE, SMALL, paint_set
from uniemo.miniature.small_networks import spelled
from uniemo.miniature.table import OBJECTS, SCENES

TARGETS = {  # what the weights must reach on held-out paintings
    "clip_scene": 0.93,
    "clip_object": 0.75,
    "vae_object_ratio": 0.75,
    "generated_scene": 0.90,
    "generated_object": 0.75,
}


class ZeroShot:
    """The miniature CLIP as a zero-shot classifier of scenes and objects.

    Args:
        folder: of the CLIP.
    """

    def __init__(self, folder: Path) -> None:
        self.model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{folder}")
        self.model.eval()
        tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
        with torch.no_grad():
            self.scenes = self.model.encode_text(tokenizer([spelled(name) for name in SCENES]), normalize=True)
            self.objects = self.model.encode_text(tokenizer([spelled(name) for name in OBJECTS]), normalize=True)

    @torch.no_grad()
    def __call__(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return scene and object indices (B,) of pictures (B, 3, H, W) in [0, 1]; small ones are enlarged to 64 px."""
        if pixels.shape[-1] != SIZE:
            pixels = F.interpolate(pixels, size=SIZE, mode="bicubic", align_corners=False).clamp(0, 1)
        features = torch.cat([self.model.encode_image(normalise(part), normalize=True) for part in pixels.split(128)])
        return (features @ self.scenes.T).argmax(1), (features @ self.objects.T).argmax(1)


def normalise(pixels: Tensor) -> Tensor:
    """Apply CLIP's mean and standard deviation to (B, 3, H, W) in [0, 1]."""
    mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
    return (pixels - mean) / std


def accuracy(predicted: Tensor, truth: Tensor) -> float:
    """Return the share of equal entries."""
    return float((predicted == truth).float().mean())


@torch.no_grad()
def write_report(
    folder: Path, grids: Path, seed: int, count: int = 2048, rounds: int = 4, steps: int = 25, guidance: float = 3.0
) -> None:
    """Measure CLIP, autoencoder and generation, print the metrics, write ``quality.json`` and picture grids.

    Held-out paintings use a stream of ``seed`` that no training stage uses.
    """
    classify = ZeroShot(folder / "clip")
    metrics: dict[str, float] = {}

    def measure(name: str, pixels: Tensor, scenes: Tensor, objects: Tensor) -> None:
        scene, thing = classify(pixels)
        metrics[f"{name}_scene"], metrics[f"{name}_object"] = accuracy(scene, scenes), accuracy(thing, objects)

    held = paint_set(count, seed * 1_000_003 + 900_001)
    pixels = held.images.float() / 255
    small = F.interpolate(pixels, size=SMALL, mode="area")
    measure("clip", pixels, held.scene, held.object)
    measure("clip_32px", small, held.scene, held.object)

    pipeline = StableDiffusionPipeline.from_pretrained(
        folder / "diffusion",
        torch_dtype=torch.float32,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    vae = pipeline.vae
    decoded = torch.cat([vae.decode(vae.encode(part * 2 - 1).latent_dist.mean).sample for part in small.split(256)])
    decoded = ((decoded + 1) / 2).clamp(0, 1)
    metrics["vae_psnr"] = float((-10 * ((decoded - small) ** 2).mean((1, 2, 3)).log10()).mean())
    measure("vae", decoded, held.scene, held.object)
    metrics["vae_object_ratio"] = metrics["vae_object"] / metrics["clip_32px_object"]

    pictures: list[Tensor] = []
    for number in range(rounds):
        for s, scene_name in enumerate(SCENES):
            prompts = [f"a {spelled(name)} in a {spelled(scene_name)}" for name in OBJECTS]
            generators = [torch.Generator().manual_seed(number * 1000 + s * 100 + o) for o in range(len(OBJECTS))]
            out = pipeline(
                prompts,
                num_inference_steps=steps,
                guidance_scale=guidance,
                generator=generators,
                output_type="np",
                height=SMALL,
                width=SMALL,
            )
            pictures.append(torch.from_numpy(np.asarray(out.images)).permute(0, 3, 1, 2))
    generated = torch.cat(pictures)
    scenes = torch.arange(len(SCENES)).repeat_interleave(len(OBJECTS)).repeat(rounds)
    measure("generated", generated, scenes, torch.arange(len(OBJECTS)).repeat(len(SCENES) * rounds))

    for key, value in metrics.items():
        goal = f"  (wanted: {TARGETS[key]:.2f})" if key in TARGETS else ""
        print(f"{key:20s} {value:8.4f}{goal}")
    rounded = {key: round(value, 4) for key, value in metrics.items()}
    write_text(folder / "quality.json", json.dumps(rounded, indent=2) + "\n")
    grids.mkdir(parents=True, exist_ok=True)
    _grid(pixels[:32], 16, 2).save(grids / "paintings.png")
    _grid(torch.stack([small[:16], decoded[:16]]).flatten(0, 1), 16, 4).save(grids / "reconstructions.png")
    _grid(generated[: len(SCENES) * len(OBJECTS)], len(OBJECTS), 3).save(grids / "generated.png")


def _grid(pixels: Tensor, columns: int, enlarge: int) -> Image.Image:
    """Arrange pictures (B, 3, H, W) in [0, 1] into a grid, each pixel enlarged."""
    rows = [torch.cat(list(row), 2) for row in pixels.split(columns)]
    grid = (torch.cat(rows, 1).permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()
    return Image.fromarray(grid).resize((grid.shape[1] * enlarge, grid.shape[0] * enlarge), Image.Resampling.NEAREST)
