"""The paintings that the miniature's networks are pre-trained on, and the views of them that training shows."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from uniemo.cache import atomic_write
from uniemo.miniature.painter import DIFFICULTY, paint
from uniemo.miniature.styles import DATASET_STYLES, pick_style
from uniemo.miniature.table import OBJECTS, SCENES

SIZE = 64  # pixels of a painting's side
SMALL = 32  # of the pictures that the diffusion model knows
_EMPTY_SHARE = 0.04  # of pre-training scenes without an object
EMPTY = len(OBJECTS)  # object index of a scene without an object
_FIELDS = ("images", "masks", "scene", "object")


@dataclass(frozen=True)
class Paintings:
    """Paintings with their names.

    Attributes:
        images: (N, 3, 64, 64) uint8.
        masks: (N, 64, 64) bool, where the object is.
        scene: (N,) int64 index into ``SCENES``.
        object: (N,) int64 index into ``OBJECTS``, ``EMPTY`` for a scene without an object.
    """

    images: Tensor
    masks: Tensor
    scene: Tensor
    object: Tensor

    def __len__(self) -> int:
        """Return the number of paintings."""
        return len(self.images)


def paint_set(count: int, seed: int) -> Paintings:
    """Paint ``count`` pictures of an object in a scene, uniform and independent."""
    arrays = _paint_arrays((seed, count, 0.0, DIFFICULTY, "emoset"))
    return Paintings(*(torch.from_numpy(arrays[key]) for key in _FIELDS))


def load_or_paint(path: Path, count: int, seed: int, difficulty: float, workers: int) -> Paintings:
    """Read the pre-training set, painting it first when it is not there."""
    if not path.is_file():
        chunk = 1000
        sizes = [min(chunk, count - start) for start in range(0, count, chunk)]
        jobs = [(seed * 1_000_003 + i, size, _EMPTY_SHARE, difficulty, "pretraining") for i, size in enumerate(sizes)]
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(_paint_arrays, jobs))
        arrays = {key: np.concatenate([part[key] for part in parts]) for key in _FIELDS}
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    with np.load(path) as file:
        return Paintings(*(torch.from_numpy(file[key]) for key in _FIELDS))


def _paint_arrays(job: tuple[int, int, float, float, str]) -> dict[str, NDArray[np.generic]]:
    """Paint pictures as arrays; ``job`` is seed, number, share of scenes without an object, difficulty, styles' set."""
    seed, count, empty, difficulty, styles = job
    rng = np.random.default_rng(seed)
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    masks = np.zeros((count, SIZE, SIZE), bool)
    scene = rng.integers(len(SCENES), size=count)
    thing = np.where(rng.random(count) < empty, EMPTY, rng.integers(len(OBJECTS), size=count))
    for i in range(count):
        name = None if thing[i] == EMPTY else OBJECTS[thing[i]]
        levels = rng.integers(1, 10, size=2) / 10  # brightness, colourfulness
        style = pick_style(DATASET_STYLES[styles], rng)
        painting = paint(SCENES[scene[i]], name, rng, SIZE, float(levels[0]), float(levels[1]), difficulty, style)
        images[i] = np.asarray(painting.image).transpose(2, 0, 1)
        masks[i] = painting.object_mask
    return {"images": images, "masks": masks, "scene": scene, "object": thing}


def clip_views(images: Tensor, generator: torch.Generator) -> Tensor:
    """Crop, flip and degrade uint8 paintings (B, 3, 64, 64) as later stages will show them; returns [0, 1] floats.

    A third is seen whole; half passes through 32 px, some of it blurred or noisy, as generated ones are.
    """
    count = len(images)
    pixels = images.float() / 255
    grid = F.affine_grid(_crops(count, generator), [count, 3, SIZE, SIZE], align_corners=False)
    cropped = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    whole = torch.rand(count, generator=generator) < 1 / 3
    pixels = torch.where(whole[:, None, None, None], pixels, cropped)
    fate = torch.rand(count, generator=generator)[:, None, None, None]  # (B, 1, 1, 1)
    small = F.interpolate(pixels, size=SMALL, mode="area")
    noise = torch.randn(small.shape, generator=generator) * 0.06 * torch.rand(count, 1, 1, 1, generator=generator)
    noisy = small + noise * (fate < 0.25).float()
    blurred = F.interpolate(
        F.interpolate(noisy, size=22, mode="area"), size=SMALL, mode="bilinear", align_corners=False
    )
    noisy = torch.where(fate < 0.12, blurred, noisy)
    enlarged = F.interpolate(noisy.clamp(0, 1), size=SIZE, mode="bicubic", align_corners=False).clamp(0, 1)
    return torch.where(fate < 0.5, enlarged, pixels)


def small_views(paintings: Paintings, index: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return (B, 3, 32, 32) pictures in [−1, 1], 60 % cropped and flipped, and their object masks (B, 1, 32, 32).

    Args:
        paintings: the pre-training set.
        index: (B,) which of them.
        generator: of crops and flips.
    """
    pixels = torch.cat([paintings.images[index].float() / 127.5 - 1, paintings.masks[index, None].float()], 1)
    theta = _crops(len(index), generator)
    theta[torch.rand(len(index), generator=generator) < 0.4] = torch.eye(2, 3)
    grid = F.affine_grid(theta, [len(index), 4, SIZE, SIZE], align_corners=False)
    views = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    views = F.interpolate(views, size=SMALL, mode="area")
    return views[:, :3], views[:, 3:]


def _crops(count: int, generator: torch.Generator) -> Tensor:
    """Return random square crops and flips as affine matrices (count, 2, 3) for ``affine_grid``."""
    side = 0.7 + 0.3 * torch.rand(count, generator=generator)
    shift = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - side)[:, None]
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = side * flip, side
    theta[:, :, 2] = shift
    return theta
