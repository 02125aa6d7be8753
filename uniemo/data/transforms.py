"""One geometric transform for both views of an image (design: "Views") and its mask."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from uniemo.data.images import Box, LargeJpeg
from uniemo.errors import UniEmoError

# CLIP's own pixel statistics (open_clip.constants.OPENAI_DATASET_MEAN / _STD), for every CLIP, the miniature included.
CLIP_MEAN: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

_ASPECTS = (0.9, 1.1)  # least and largest width / height of a training box; mild: the VAE's view is a training target
_FLIPPED = 0.5  # share of training views that are mirrored
_VERSION = 2  # goes up with every change that makes other pixels of the same file in training


def denormalise(images: Tensor) -> Tensor:
    """Turn CLIP-normalised images (B, 3, H, W) back into [0, 1]."""
    scale = images.new_tensor(CLIP_STD).view(-1, 1, 1)
    shift = images.new_tensor(CLIP_MEAN).view(-1, 1, 1)
    return (images * scale + shift).clamp(0, 1)


def central_box(width: int, height: int) -> Box:
    """Return the largest square in the middle of a picture: left, upper, right, lower, in pixels and halves."""
    side = float(min(width, height))
    left, upper = (width - side) / 2, (height - side) / 2
    return left, upper, left + side, upper + side


def _resize(image: Image.Image, box: Box, size: int) -> Tensor:
    """Return the box of an RGB or grey image resized (antialiased bicubic): (C, S, S) uint8."""
    image = image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    return torch.from_numpy(np.array(image)).view(size, size, -1).permute(2, 0, 1)


def _float(pixels: Tensor) -> Tensor:
    """Return uint8 pixels as contiguous float32."""
    return pixels.to(torch.float32, memory_format=torch.contiguous_format)


def _to_unit(pixels: Tensor) -> Tensor:
    """Return uint8 pixels in [-1, 1]."""
    return _float(pixels).mul_(1 / 127.5).sub_(1)


def _flipped(pixels: Tensor, flip: bool) -> Tensor:
    """Return pixels (C, S, S), mirrored if asked."""
    return pixels.flip(-1) if flip else pixels


class PairedTransform:
    """Crop one box of an image and return it as the view of the encoder, the view of the VAE and the mask.

    Training: a random box (area ``crop_scale`` of the largest square, aspect 0.9 to 1.1) or the central square
    (``crop``), and a random flip. Evaluation: the central square, which is "resize the shorter edge, then centre crop".

    In training a JPEG whose shorter side exceeds 128 pixels is decoded at 1/2, 1/4 or 1/8 of its size as long as the
    box keeps the pixels of the larger view; its box is rounded to whole pixels of that scale
    (``benchmarks/decoding.py`` measures what this gains and how far pixels differ). Every other image is decoded whole
    and resized by Pillow.

    Args:
        image_size: R, pixels of the encoder's view.
        diffusion_size: D, pixels of the VAE's view; None leaves that view out.
        train: random box and flip.
        crop_scale: smallest and largest area of the box, as a share of the largest square in the picture.
        crop: ``random`` box in training, or the ``central`` square; evaluation always takes the latter.
    """

    def __init__(
        self,
        image_size: int,
        diffusion_size: int | None = None,
        train: bool = False,
        crop_scale: tuple[float, float] = (0.7, 1.0),
        crop: Literal["random", "central"] = "random",
    ) -> None:
        self.image_size = image_size
        self.diffusion_size = diffusion_size
        self.train = train
        self.crop_scale = crop_scale
        self.crop = crop
        mean64, std64 = (torch.tensor(values, dtype=torch.float64).view(3, 1, 1) for values in (CLIP_MEAN, CLIP_STD))
        self._scale = (1 / (255 * std64)).float()
        self._shift = (mean64 / std64).float()

    def geometry(self, width: int, height: int, rng: np.random.Generator) -> tuple[Box, bool]:
        """Return the box (left, upper, right, lower) in pixels and whether to flip."""
        central = central_box(width, height)
        if not self.train:
            return central, False
        area, aspect, x, y, coin = rng.random(5).tolist()  # NumPy's own scalars would slow all that follows
        if self.crop == "central":
            return central, bool(coin < _FLIPPED)
        low, high = self.crop_scale
        side = min(width, height) * math.sqrt(low + (high - low) * area)
        low, high = map(math.log, _ASPECTS)
        stretch = math.exp((low + (high - low) * aspect) / 2)
        box_width, box_height = min(side * stretch, width), min(side / stretch, height)
        left, upper = x * (width - box_width), y * (height - box_height)
        right, lower = min(left + box_width, width), min(upper + box_height, height)
        return (left, upper, right, lower), bool(coin < _FLIPPED)

    def __call__(
        self, image: Image.Image | LargeJpeg, rng: np.random.Generator, mask: Image.Image | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Transform one image.

        Args:
            image: RGB, any size; or a JPEG file whose pixels are still to be decoded.
            rng: source of the random box and flip; not touched in evaluation.
            mask: grey, same shape as the image (another resolution is allowed).

        Returns:
            The encoder's view (3, R, R), normalised; the VAE's view (3, D, D) in [-1, 1] or None; the mask (1, R, R) in
            [0, 1] or None.
        """
        box, flip = self.geometry(image.width, image.height, rng)
        hole = None
        if mask is not None:
            x, y = mask.width / image.width, mask.height / image.height
            mask_box = (box[0] * x, box[1] * y, min(box[2] * x, mask.width), min(box[3] * y, mask.height))
            hole = _float(_flipped(_resize(mask, mask_box, self.image_size), flip)) / 255
        if self.diffusion_size is None:
            return self.view(image, box, flip), None, hole
        view, target = self._crop(image, box, flip, (self.image_size, self.diffusion_size))
        return self._normalise(view), _to_unit(target), hole

    def view(self, image: Image.Image | LargeJpeg, box: Box, flip: bool) -> Tensor:
        """Return the encoder's view (3, R, R) alone, equal to the one that comes with the VAE's."""
        (view,) = self._crop(image, box, flip, (self.image_size,))
        return self._normalise(view)

    def target(self, image: Image.Image | LargeJpeg, box: Box, flip: bool) -> Tensor:
        """Return the VAE's view (3, D, D) in [-1, 1] alone, equal to the one that comes with the encoder's.

        Mirroring the result is the same as to ``flip``.

        Raises:
            UniEmoError: there is no such view.
        """
        if self.diffusion_size is None:
            raise UniEmoError("data.diffusion_size must be set for the VAE's view; got null")
        (target,) = self._crop(image, box, flip, (self.diffusion_size,))
        return _to_unit(target)

    def target_key(self) -> str:
        """Return a name that changes with the VAE's view of a file's central square in training."""
        return f"central-{self.diffusion_size}-{self._detail()}-v{_VERSION}"

    def _detail(self) -> int:
        """Return the pixels that a crop's shorter side keeps when it is decoded: those of the larger view."""
        return max(self.image_size, self.diffusion_size or 0)

    def _normalise(self, pixels: Tensor) -> Tensor:
        """Return uint8 pixels (3, R, R) CLIP-normalised."""
        return _float(pixels).mul_(self._scale).sub_(self._shift)

    def _crop(self, image: Image.Image | LargeJpeg, box: Box, flip: bool, sizes: Sequence[int]) -> list[Tensor]:
        """Return the box as (3, S, S) uint8 for each size S; each is the same whatever the others are."""
        if isinstance(image, LargeJpeg):
            pixels = image.crop(box, self._detail())[None]  # (1, 3, h, w)
            views = [interpolate(pixels, (size, size), mode="bicubic", antialias=True)[0] for size in sizes]
        else:
            views = [_resize(image, box, size) for size in sizes]
        return [_flipped(view, flip) for view in views]
