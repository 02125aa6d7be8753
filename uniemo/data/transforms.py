"""One geometric transform for both views of an image (design: "Views") and its mask."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from uniemo.data.decoding import Box, LargeJpeg
from uniemo.data.images import SMALL

# CLIP's own pixel statistics (open_clip.constants.OPENAI_DATASET_MEAN / _STD), for every CLIP, the miniature included.
CLIP_MEAN: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

_TO_UNIT, _ONE = torch.tensor(1 / 127.5), torch.tensor(1.0)  # [0, 255] to [-1, 1]


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


def _resize(image: Image.Image, box: Box, size: int) -> Tensor:
    """Return the box of an RGB or grey image resized (antialiased bicubic) to (C, size, size) uint8."""
    if box != (0, 0, size, size) or image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=box, reducing_gap=3.0)
    pixels = torch.from_numpy(np.array(image))
    return pixels[None] if pixels.ndim == 2 else pixels.permute(2, 0, 1)


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


def _resize_quickly(image: NDArray[np.uint8], box: Box, size: int) -> Tensor:
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
    pixels = torch.from_numpy(part).permute(2, 0, 1)[None]  # (1, 3, h, w)
    # interpolate(scale_factor=...) would round the size of the result down; the operator takes scale and size.
    wide = torch.ops.aten._upsample_bicubic2d_aa(pixels, [lead_y + size, lead_x + size], False, 1 / step_y, 1 / step_x)
    return wide[0, :, lead_y:, lead_x:]


def _turn(pixels: Tensor, orientation: int, flip: bool) -> Tensor:
    """Return a square cut (C, S, S) of the stored picture upright (EXIF orientation 1 to 8), then mirrored if asked."""
    mirror_x, mirror_y = orientation in (2, 3, 7, 8), orientation in (3, 4, 6, 7)
    if orientation >= 5:
        pixels, mirror_x, mirror_y = pixels.transpose(1, 2), mirror_y, mirror_x
    axes = [axis for axis, mirrored in ((1, mirror_y), (2, mirror_x != flip)) if mirrored]
    return pixels.flip(axes) if axes else pixels


def _float(pixels: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return ``pixels * scale - shift`` of uint8 (C, S, S) as float32."""
    return pixels.contiguous().float().mul_(scale).sub_(shift)


class PairedTransform:
    """Cut one box out of a picture and hand it out for the encoder, for the VAE, and for the mask.

    Training: a random box (area ``crop_scale`` of the largest square, aspect ``crop_ratio``) and a random flip.
    Evaluation: the central square, which is "resize the shorter edge, then centre crop".

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
        self._scale = torch.from_numpy((1 / (255 * np.asarray(std, dtype=np.float64))).astype(np.float32)).view(3, 1, 1)
        self._shift = torch.from_numpy((np.asarray(mean, dtype=np.float64) / std).astype(np.float32)).view(3, 1, 1)

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
        width, height = image.width, image.height
        box, flip = self.geometry(width, height, rng)
        sizes = [self.image_size] + ([] if self.diffusion_size is None else [self.diffusion_size])
        if isinstance(image, LargeJpeg):
            pixels, cut = image.cut(box, max(sizes))
            views = [_turn(_resize_quickly(pixels, cut, size), image.orientation, flip) for size in sizes]
        elif self.train and min(width, height) > SMALL:
            pixels = np.asarray(image)
            views = [_turn(_resize_quickly(pixels, box, size), 1, flip) for size in sizes]
        else:
            views = [_turn(_resize(image, box, size), 1, flip) for size in sizes]
        view = _float(views[0], self._scale, self._shift)
        target = _float(views[1], _TO_UNIT, _ONE) if len(views) > 1 else None
        hole = None
        if mask is not None:
            x, y = mask.width / width, mask.height / height
            mask_box = (box[0] * x, box[1] * y, min(box[2] * x, mask.width), min(box[3] * y, mask.height))
            hole = _turn(_resize(mask, mask_box, self.image_size), 1, flip).contiguous().float() / 255
        return view, target, hole
