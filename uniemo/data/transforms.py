"""One geometric transform for both views of an image (design: "Views") and its mask."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from uniemo.data.decoding import Box, LargeJpeg
from uniemo.data.images import SMALL
from uniemo.errors import UniEmoError

# CLIP's own pixel statistics (open_clip.constants.OPENAI_DATASET_MEAN / _STD), for every CLIP, the miniature included.
CLIP_MEAN: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

Pixels = NDArray[np.uint8]

_TO_UNIT, _ONE = np.float32(1 / 127.5), np.float32(1)  # [0, 255] to [-1, 1]
_VERSION = 1  # goes up with every change that makes other pixels of the same file in training


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


def _resize(image: Image.Image, box: Box, size: int) -> Pixels:
    """Return the box of an RGB or grey image resized (antialiased bicubic) to (size, size, C)."""
    if box != (0, 0, size, size) or image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _anchor(start: float, step: float) -> tuple[int, int] | None:
    """Find where whole pixels of the source and of the result meet.

    Args:
        start: where the box begins, in pixels of the source.
        step: source pixels for one of the result.

    Returns:
        A whole source pixel, perhaps negative, and how many pixels of the result lie between it and ``start``: at least
        two, so that the kernel of the first wanted one sees its neighbourhood. None where they do not meet to within a
        fifth of a source pixel.
    """
    found, least = None, 0.2
    exact = start - step
    for lead in range(2, 20):
        exact -= step
        whole = round(exact)
        off = abs(exact - whole)
        if off < least:
            found, least = (whole, lead), off
            if off < 0.04:
                break
    return found


def _resize_quickly(image: Pixels, box: Box, size: int) -> Pixels:
    """Do for RGB pixels (H, W, 3) what :func:`_resize` does, with PyTorch's vectorised kernel, several times as fast.

    That kernel begins at whole pixels. Therefore it begins at one from which a whole number of result pixels leads to
    the box (see :func:`_anchor`); those in front are computed and thrown away. For the few boxes without such a pixel
    Pillow does the work.
    """
    step_x, step_y = (box[2] - box[0]) / size, (box[3] - box[1]) / size
    anchor_x, anchor_y = _anchor(box[0], step_x), _anchor(box[1], step_y)
    if anchor_x is None or anchor_y is None:
        return _resize(Image.fromarray(image), box, size)
    (left, lead_x), (upper, lead_y) = anchor_x, anchor_y
    right = math.ceil(box[2] + 2 * max(step_x, 1))  # the kernel reaches two pixels of the coarser grid
    lower = math.ceil(box[3] + 2 * max(step_y, 1))
    inside = image[max(upper, 0) : lower, max(left, 0) : right]
    top, side = max(-upper, 0), max(-left, 0)  # what lies outside is filled with the outermost pixels
    part = np.empty((top + inside.shape[0], side + inside.shape[1], 3), np.uint8)
    part[top:, side:] = inside
    part[:top, side:] = inside[0]
    part[:, :side] = part[:, side : side + 1]
    wide = np.empty((lead_y + size, lead_x + size, 3), np.uint8)
    # interpolate(scale_factor=...) would round the size of the result down; the operator takes scale and size.
    torch.ops.aten._upsample_bicubic2d_aa.out(
        torch.from_numpy(part.transpose(2, 0, 1)[None]),  # (1, 3, h, w)
        wide.shape[:2],
        False,
        1 / step_y,
        1 / step_x,
        out=torch.from_numpy(wide.transpose(2, 0, 1)[None]),
    )
    return wide[lead_y:, lead_x:]


def _turn(pixels: Pixels, orientation: int, flip: bool) -> Pixels:
    """Return a square cut (S, S, C) of the stored picture upright (EXIF orientation 1 to 8), then mirrored if asked."""
    mirror_x, mirror_y = orientation in (2, 3, 7, 8), orientation in (3, 4, 6, 7)
    if orientation >= 5:
        pixels, mirror_x, mirror_y = pixels.transpose(1, 0, 2), mirror_y, mirror_x
    return pixels[:: -1 if mirror_y else 1, :: -1 if mirror_x != flip else 1]


def _planes(pixels: Pixels) -> NDArray[np.float32]:
    """Return pixels (S, S, C) as (C, S, S) float32."""
    return pixels.transpose(2, 0, 1).astype(np.float32, order="C")


def _float(pixels: Pixels, scale: NDArray[np.float32] | np.float32, shift: NDArray[np.float32] | np.float32) -> Tensor:
    """Return ``pixels * scale - shift`` of pixels (S, S, C) as (C, S, S).

    NumPy does it: right after a picture was decoded, little of any code is in the processor's caches, and PyTorch's
    operators have more of it.
    """
    planes = _planes(pixels)
    planes *= scale
    planes -= shift
    return torch.from_numpy(planes)


class PairedTransform:
    """Cut one box out of a picture and hand it out for the encoder, for the VAE, and for the mask.

    Training: a random box (area ``crop_scale`` of the largest square, aspect ``crop_ratio``) or the central square
    (``crop``), and a random flip. Evaluation: the central square, which is "resize the shorter edge, then centre crop".

    In training a picture whose shorter side has more than 128 pixels is resized by PyTorch's kernel, and a JPEG of that
    kind may be decoded at 1/2, 1/4 or 1/8 of its size as long as the box keeps the pixels of the larger view
    (``benchmarks/decoding.py`` measures what that gains and how far pixels differ). Evaluation gets decoded pictures
    and resizes them with Pillow, as ``uniemo classify`` does.

    Args:
        image_size: R, pixels of the encoder's view.
        diffusion_size: D, pixels of the VAE's view; None leaves that view out.
        train: random box and flip.
        crop_scale: smallest and largest area of the box, as a share of the largest square in the picture.
        crop_ratio: smallest and largest width / height of the box; mild, since the VAE's view is a training target.
        flip: probability of a horizontal flip in training.
        mean: pixel mean of the encoder's view, in [0, 1].
        std: pixel standard deviation of the encoder's view.
        crop: ``random`` box in training, or the ``central`` square; evaluation always takes the latter.
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
        crop: Literal["random", "central"] = "random",
    ) -> None:
        self.image_size = image_size
        self.diffusion_size = diffusion_size
        self.train = train
        self.crop_scale = crop_scale
        self.crop_ratio = crop_ratio
        self.flip = flip
        self.crop = crop
        self._scale = (1 / (255 * np.asarray(std, dtype=np.float64))).astype(np.float32).reshape(3, 1, 1)
        self._shift = (np.asarray(mean, dtype=np.float64) / std).astype(np.float32).reshape(3, 1, 1)

    def geometry(self, width: int, height: int, rng: np.random.Generator) -> tuple[Box, bool]:
        """Return the box (left, upper, right, lower) in pixels and whether to flip."""
        side = float(min(width, height))
        left, upper = (width - side) / 2, (height - side) / 2
        central = (left, upper, left + side, upper + side)
        if not self.train:
            return central, False
        area, aspect, x, y, coin = rng.random(5).tolist()  # NumPy's own scalars would slow all that follows
        if self.crop == "central":
            return central, bool(coin < self.flip)
        low, high = self.crop_scale
        side *= math.sqrt(low + (high - low) * area)
        low, high = math.log(self.crop_ratio[0]), math.log(self.crop_ratio[1])
        stretch = math.exp((low + (high - low) * aspect) / 2)
        box_width, box_height = min(side * stretch, width), min(side / stretch, height)
        left, upper = x * (width - box_width), y * (height - box_height)
        right, lower = min(left + box_width, width), min(upper + box_height, height)
        return (left, upper, right, lower), bool(coin < self.flip)

    def __call__(
        self, image: Image.Image | LargeJpeg, rng: np.random.Generator, mask: Image.Image | None = None
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Transform one picture.

        Args:
            image: RGB, any size; or a JPEG file whose pixels are still to be decoded.
            rng: source of the random box and flip; not touched in evaluation.
            mask: grey, same shape as the picture (another resolution is allowed).

        Returns:
            The encoder's view (3, R, R), normalised; the VAE's view (3, D, D) in [-1, 1] or None; the mask (1, R, R) in
            [0, 1] or None.
        """
        box, flip = self.geometry(image.width, image.height, rng)
        hole = None
        if mask is not None:
            x, y = mask.width / image.width, mask.height / image.height
            mask_box = (box[0] * x, box[1] * y, min(box[2] * x, mask.width), min(box[3] * y, mask.height))
            hole = torch.from_numpy(_planes(_turn(_resize(mask, mask_box, self.image_size), 1, flip))) / 255
        if self.diffusion_size is None:
            return self.view(image, box, flip), None, hole
        view, target = self._cut(image, box, flip, (self.image_size, self.diffusion_size))
        return _float(view, self._scale, self._shift), _float(target, _TO_UNIT, _ONE), hole

    def view(self, image: Image.Image | LargeJpeg, box: Box, flip: bool) -> Tensor:
        """Return the encoder's view (3, R, R) alone, pixel for pixel the one that comes with the VAE's.

        Args:
            image: as above.
            box: what to cut out, see :meth:`geometry`.
            flip: whether to mirror it.
        """
        (view,) = self._cut(image, box, flip, (self.image_size,))
        return _float(view, self._scale, self._shift)

    def target(self, image: Image.Image | LargeJpeg, box: Box, flip: bool) -> Tensor:
        """Return the VAE's view (3, D, D) in [-1, 1] alone, pixel for pixel the one that comes with the encoder's.

        Args:
            image: as above.
            box: what to cut out.
            flip: whether to mirror it; mirroring the result is the same.

        Raises:
            UniEmoError: there is no such view.
        """
        if self.diffusion_size is None:
            raise UniEmoError("data.diffusion_size must be set for the VAE's view; got null")
        (target,) = self._cut(image, box, flip, (self.diffusion_size,))
        return _float(target, _TO_UNIT, _ONE)

    def target_key(self) -> str:
        """Return a name that changes with the VAE's view of a file's central square in training."""
        return f"central-{self.diffusion_size}-{self._detail()}-v{_VERSION}"

    def _detail(self) -> int:
        """Return the pixels that a cut's shorter side keeps when it is decoded: those of the larger view."""
        return max(self.image_size, self.diffusion_size or 0)

    def _cut(self, image: Image.Image | LargeJpeg, box: Box, flip: bool, sizes: tuple[int, ...]) -> list[Pixels]:
        """Return the box as (S, S, 3) for each size S; what one looks like does not depend on the others."""
        if isinstance(image, LargeJpeg):
            pixels, cut = image.cut(box, self._detail())
            return [_turn(_resize_quickly(pixels, cut, size), image.orientation, flip) for size in sizes]
        if self.train and min(image.width, image.height) > SMALL:
            pixels = np.asarray(image)
            return [_turn(_resize_quickly(pixels, box, size), 1, flip) for size in sizes]
        return [_turn(_resize(image, box, size), 1, flip) for size in sizes]
