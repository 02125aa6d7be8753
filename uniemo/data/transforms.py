"""One geometric transform for both views of an image (design: "Views") and its mask."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

# CLIP's own pixel statistics (open_clip.constants.OPENAI_DATASET_MEAN / _STD), for every CLIP, the miniature included.
CLIP_MEAN: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

Box = tuple[float, float, float, float]


def denormalise(images: Tensor, mean: tuple[float, ...] = CLIP_MEAN, std: tuple[float, ...] = CLIP_STD) -> Tensor:
    """Turn CLIP-normalised images back into [0, 1].

    Args:
        images: (B, 3, H, W), CLIP-normalised.
        mean: per channel, in [0, 1].
        std: per channel.

    Returns:
        (B, 3, H, W) in [0, 1].
    """
    scale = images.new_tensor(std).view(-1, 1, 1)
    shift = images.new_tensor(mean).view(-1, 1, 1)
    return (images * scale + shift).clamp(0, 1)


def _pixels(image: Image.Image, box: Box, flip: bool, size: int) -> NDArray[np.float32]:
    """Return the box of an RGB or grey image resized (antialiased bicubic) to (size, size[, 3]), in [0, 255]."""
    if box != (0, 0, size, size) or image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    pixels = np.asarray(image, dtype=np.float32)
    return pixels[:, ::-1] if flip else pixels


class PairedTransform:
    """Cut one box out of a picture and hand it out for the encoder, for the VAE, and for the mask.

    Training: a random box (area ``crop_scale`` of the largest square, aspect ``crop_ratio``) and a random flip.
    Evaluation: the central square, which is "resize the shorter edge, then centre crop".

    Args:
        image_size: R, pixels of the encoder's view.
        diffusion_size: D, pixels of the VAE's view; None leaves that view out.
        train: random box and flip.
        crop_scale: smallest and largest area of the box, as a share of the largest square in the picture.
        crop_ratio: smallest and largest width / height of the box; mild, since the VAE's view is a training target.
        flip: probability of a horizontal flip in training.
        mean: pixel mean of the encoder's view, in [0, 1].
        std: pixel standard deviation of the encoder's view.
    """

    def __init__(
        self,
        image_size: int,
        diffusion_size: int | None = None,
        train: bool = False,
        crop_scale: tuple[float, float] = (0.7, 1.0),
        crop_ratio: tuple[float, float] = (0.9, 1.1),
        flip: float = 0.5,
        mean: tuple[float, float, float] = CLIP_MEAN,
        std: tuple[float, float, float] = CLIP_STD,
    ) -> None:
        self.image_size = image_size
        self.diffusion_size = diffusion_size
        self.train = train
        self.crop_scale = crop_scale
        self.crop_ratio = crop_ratio
        self.flip = flip
        self.scale = (1 / (255 * np.asarray(std, dtype=np.float64))).astype(np.float32)
        self.shift = (np.asarray(mean, dtype=np.float64) / std).astype(np.float32)

    def geometry(self, width: int, height: int, rng: np.random.Generator) -> tuple[Box, bool]:
        """Return the box (left, upper, right, lower) in pixels and whether to flip."""
        side = float(min(width, height))
        if not self.train:
            left, upper = (width - side) / 2, (height - side) / 2
            return (left, upper, left + side, upper + side), False
        area, aspect, x, y, coin = rng.random(5)
        low, high = self.crop_scale
        side *= math.sqrt(low + (high - low) * area)
        low, high = math.log(self.crop_ratio[0]), math.log(self.crop_ratio[1])
        stretch = math.exp((low + (high - low) * aspect) / 2)
        box_width, box_height = min(side * stretch, width), min(side / stretch, height)
        left, upper = x * (width - box_width), y * (height - box_height)
        right, lower = min(left + box_width, width), min(upper + box_height, height)
        return (left, upper, right, lower), bool(coin < self.flip)

    def __call__(
        self, image: Image.Image, rng: np.random.Generator, mask: Image.Image | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Transform one picture.

        Args:
            image: RGB, any size.
            rng: source of the random box and flip; not touched in evaluation.
            mask: grey, same shape as the picture (another resolution is allowed).

        Returns:
            The encoder's view (3, R, R), normalised; the VAE's view (3, D, D) in [-1, 1] or None; the mask (1, R, R) in
            [0, 1] or None.
        """
        box, flip = self.geometry(image.width, image.height, rng)
        pixels = _pixels(image, box, flip, self.image_size)
        view = torch.from_numpy((pixels * self.scale - self.shift).transpose(2, 0, 1).copy())  # (3, R, R)
        target = None
        if self.diffusion_size is not None:
            pixels = _pixels(image, box, flip, self.diffusion_size)
            target = torch.from_numpy((pixels * np.float32(1 / 127.5) - np.float32(1)).transpose(2, 0, 1).copy())
        hole = None
        if mask is not None:
            x, y = mask.width / image.width, mask.height / image.height
            mask_box = (box[0] * x, box[1] * y, min(box[2] * x, mask.width), min(box[3] * y, mask.height))
            hole = torch.from_numpy(_pixels(mask, mask_box, flip, self.image_size) / np.float32(255))[None]
        return view, target, hole
