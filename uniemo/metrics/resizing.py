"""How images are resized for the networks, each way as the protocol's source does it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def clean_resize(images: Tensor, size: int) -> Tensor:
    """Resize as clean-fid does: antialiased bicubic on floats, not keeping the aspect, clipped, never rounded.

    clean-fid runs Pillow on each channel of one image; this runs a batch on its device. The two agree to 0.01 of 255
    levels (tested).

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: side S of the result.

    Returns:
        (B, 3, S, S) in [0, 1]; images of that size are returned as they are.
    """
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def eight_bit_resize(images: Tensor, size: int) -> Tensor:
    """Resize as Pillow does on 8-bit images (torchvision's ``Resize((S, S))`` on files): antialiased bilinear.

    Pillow rounds after the rows and again after the columns, halves upwards. Newer Pillows begin with the columns where
    that is cheaper; those of the time of the published tables do not, and neither does this. On files the two agree
    but for one level in a thousandth of the values (tested).

    Args:
        images: (B, 3, H, W) in [0, 1]; rounded to 8 bits first, which changes nothing for images from files.
        size: side S of the result.

    Returns:
        (B, 3, S, S), multiples of 1/255.
    """
    levels = _rounded(images * 255)
    for shape in ((levels.shape[-2], size), (size, size)):
        if levels.shape[-2:] != shape:
            levels = _rounded(F.interpolate(levels, shape, mode="bilinear", antialias=True, align_corners=False))
    return levels / 255


def resize_and_crop(images: Tensor, size: int) -> Tensor:
    """Resize the shorter edge (antialiased bicubic, clipped) and cut out the centre, as CLIP does.

    Args:
        images: (B, 3, H, W) in [0, 1].
        size: side S of the result.

    Returns:
        (B, 3, S, S) in [0, 1]; images of that size are returned as they are.
    """
    height, width = images.shape[-2:]
    if (height, width) == (size, size):
        return images
    scale = size / min(height, width)
    target = (max(size, round(height * scale)), max(size, round(width * scale)))
    images = F.interpolate(images, target, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return images[..., top : top + size, left : left + size]


def _rounded(levels: Tensor) -> Tensor:
    """Round halves upwards, as Pillow's fixed-point arithmetic does."""
    return (levels + 0.5).floor().clamp(0, 255)
