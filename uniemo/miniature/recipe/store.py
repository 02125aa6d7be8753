"""Paintings in memory: the pre-training set of the miniature."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from uniemo.cache import atomic_write
from uniemo.miniature.painter import paint
from uniemo.miniature.table import OBJECTS, SCENES

SIZE = 64
EMPTY = len(OBJECTS)  # object index of a scene without an object


@dataclass(frozen=True)
class Store:
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


def paint_chunk(job: tuple[int, int, float]) -> dict[str, NDArray[np.generic]]:
    """Paint pictures as arrays.

    Args:
        job: seed, number of pictures, share of scenes without an object.

    Returns:
        The fields of :class:`Store` as arrays.
    """
    seed, count, empty = job
    rng = np.random.default_rng(seed)
    images = np.empty((count, 3, SIZE, SIZE), np.uint8)
    masks = np.zeros((count, SIZE, SIZE), bool)
    scene = rng.integers(len(SCENES), size=count)
    thing = np.where(rng.random(count) < empty, EMPTY, rng.integers(len(OBJECTS), size=count))
    for i in range(count):
        name = None if thing[i] == EMPTY else OBJECTS[thing[i]]
        levels = rng.integers(1, 10, size=2) / 10  # brightness, colourfulness
        painting = paint(SCENES[scene[i]], name, rng, SIZE, float(levels[0]), float(levels[1]))
        images[i] = np.asarray(painting.image).transpose(2, 0, 1)
        masks[i] = painting.object_mask
    return {"images": images, "masks": masks, "scene": scene, "object": thing}


def paint_store(path: Path, count: int, seed: int, empty: float = 0.04, workers: int = 2) -> Store:
    """Paint ``count`` pictures, scene and object uniform and independent, or read them when they are already there.

    Args:
        path: an ``.npz`` file that keeps the pictures.
        count: number of paintings.
        seed: of the random numbers.
        empty: share of scenes without an object.
        workers: processes that paint.
    """
    if not path.is_file():
        chunk = 1000
        jobs = [(seed * 1_000_003 + i, min(chunk, count - i * chunk), empty) for i in range(-(-count // chunk))]
        with ProcessPoolExecutor(workers) as pool:
            parts = list(pool.map(paint_chunk, jobs))
        arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        with atomic_write(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    with np.load(path) as file:
        return Store(*(torch.from_numpy(file[key]) for key in ("images", "masks", "scene", "object")))


def crop_boxes(count: int, smallest: float, generator: torch.Generator) -> Tensor:
    """Return random square crops and flips as affine matrices (count, 2, 3) for ``affine_grid``."""
    side = smallest + (1 - smallest) * torch.rand(count, generator=generator)
    shift = (2 * torch.rand(count, 2, generator=generator) - 1) * (1 - side)[:, None]
    flip = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3)
    theta[:, 0, 0], theta[:, 1, 1] = side * flip, side
    theta[:, :, 2] = shift
    return theta
