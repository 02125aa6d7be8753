"""Pre-training of the miniature's CLIP: images against the names and captions of their scenes and objects."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import open_clip
import open_clip.tokenizer
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from uniemo.cache import atomic_write
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD
from uniemo.miniature.recipe.store import EMPTY, Store, crop_boxes
from uniemo.miniature.recipe.tokenizer import OBJECT_TEMPLATES, SCENE_TEMPLATES, TEMPLATES, caption, save_tokenizer
from uniemo.miniature.recipe.training import Progress, cosine_rate
from uniemo.miniature.table import OBJECTS, SCENES


def model_config(vocab_size: int) -> dict[str, object]:
    """Return open_clip's description of the miniature CLIP."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": 64, "patch_size": 8, "width": 192, "layers": 6, "head_width": 32},
            "text_cfg": {
                "context_length": 16,
                "vocab_size": vocab_size,
                "width": 128,
                "heads": 4,
                "layers": 3,
                "hf_tokenizer_name": ".",
            },
        },
        "preprocess_cfg": {"mean": list(CLIP_MEAN), "std": list(CLIP_STD), "interpolation": "bicubic"},
    }


def augment(images: Tensor, generator: torch.Generator) -> Tensor:
    """Crop, flip and degrade uint8 paintings (B, 3, 64, 64) as later stages will show them; returns [0, 1] floats.

    A third is seen whole; half passes through 32 px, some of it blurred or noisy, as generated ones are.
    """
    count = len(images)
    pixels = images.float() / 255
    theta = crop_boxes(count, 0.7, generator)
    grid = F.affine_grid(theta, [count, 3, 64, 64], align_corners=False)
    cropped = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    whole = torch.rand(count, generator=generator) < 1 / 3
    pixels = torch.where(whole[:, None, None, None], pixels, cropped)
    fate = torch.rand(count, generator=generator)
    small = F.interpolate(pixels, size=32, mode="area")
    noise = torch.randn(small.shape, generator=generator) * 0.06 * torch.rand(count, 1, 1, 1, generator=generator)
    noisy = small + noise * (fate < 0.25).float()[:, None, None, None]
    blurred = F.interpolate(F.interpolate(noisy, size=22, mode="area"), size=32, mode="bilinear", align_corners=False)
    noisy = torch.where((fate < 0.12)[:, None, None, None], blurred, noisy)
    enlarged = F.interpolate(noisy.clamp(0, 1), size=64, mode="bicubic", align_corners=False).clamp(0, 1)
    return torch.where((fate < 0.5)[:, None, None, None], enlarged, pixels)


def normalise(pixels: Tensor) -> Tensor:
    """Apply the miniature CLIP's mean and standard deviation to (B, 3, H, W) in [0, 1]."""
    mean, std = torch.tensor(CLIP_MEAN).view(3, 1, 1), torch.tensor(CLIP_STD).view(3, 1, 1)
    return (pixels - mean) / std


def _contrast(images: Tensor, texts: Tensor, target: Tensor, scale: Tensor) -> Tensor:
    return F.cross_entropy(scale * images @ texts.T, target)


def train_clip(store: Store, folder: Path, work: Path, steps: int, batch: int, seed: int, rate: float = 1e-3) -> None:
    """Train the miniature CLIP and write it as an open_clip folder.

    Every step contrasts a batch of images with all scene names, all object names and one caption for each pair of
    scene and object (the whole vocabulary is small enough to be the set of negatives).

    Args:
        store: paintings.
        folder: where ``open_clip_config.json``, weights and ``tokenizer/`` go.
        work: folder for the resumable state.
        steps: of ``batch`` images.
        batch: images a step.
        seed: of weights and random numbers.
        rate: peak learning rate.
    """
    torch.manual_seed(seed)
    save_tokenizer(folder)
    tokenizer = open_clip.tokenizer.HFTokenizer(str(folder), context_length=16)
    config = model_config(len(tokenizer.tokenizer))
    model = open_clip.CLIP(**{k: v for k, v in config["model_cfg"].items()})  # type: ignore[attr-defined]
    model.train()
    pairs = torch.cartesian_prod(torch.arange(len(SCENES)), torch.arange(len(OBJECTS)))
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": 0.05},
            {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
        ],
        lr=rate,
        betas=(0.9, 0.98),
    )
    progress = Progress("CLIP", work / "clip.pt", steps, {"model": model, "optimizer": optimizer})
    for step in progress:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        cosine_rate(optimizer, step, steps, rate)
        index = torch.randint(len(store), (batch,), generator=generator)
        scene, thing = store.scene[index], store.object[index]
        texts = _texts(pairs, generator, tokenizer)
        with torch.autocast("cpu", torch.bfloat16):
            image = model.encode_image(normalise(augment(store.images[index], generator)), normalize=True)
            text = model.encode_text(texts, normalize=True)
        image, text = image.float(), text.float()
        scale = model.logit_scale.exp().clamp(max=100)
        first, second = len(SCENES), len(SCENES) + len(OBJECTS)
        has = thing != EMPTY
        loss_scene = _contrast(image, text[:first], scene, scale)
        loss_object = _contrast(image[has], text[first:second], thing[has], scale)
        pair = scene[has] * len(OBJECTS) + thing[has]
        loss_pair = _contrast(image[has], text[second:], pair, scale)
        loss = loss_scene + 2 * loss_object + loss_pair
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        progress.show(scene=loss_scene.item(), object=loss_object.item(), pair=loss_pair.item())
    _save(model, config, folder)


def _texts(pairs: Tensor, generator: torch.Generator, tokenizer: Callable[[list[str]], Tensor]) -> Tensor:
    def choose(templates: tuple[str, ...]) -> str:
        return templates[int(torch.randint(len(templates), (1,), generator=generator))]

    texts = [caption(choose(SCENE_TEMPLATES), s, 0) for s in range(len(SCENES))]
    texts += [caption(choose(OBJECT_TEMPLATES), 0, o) for o in range(len(OBJECTS))]
    texts += [caption(choose(TEMPLATES), int(s), int(o)) for s, o in pairs]
    return tokenizer(texts)


def _save(model: nn.Module, config: dict[str, object], folder: Path) -> None:
    state = {key: value.half().contiguous() for key, value in model.state_dict().items() if key != "attn_mask"}
    with atomic_write(folder / "open_clip_model.safetensors") as temporary:
        save_file(state, temporary)
    with atomic_write(folder / "open_clip_config.json") as temporary:
        temporary.write_text(json.dumps(config, indent=2) + "\n")
