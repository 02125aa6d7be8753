"""Grids of generated images, one row per emotion."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor


def image_grid(rows: Mapping[str, Tensor], zoom_to: int = 64) -> Image.Image:
    """Lay out images in labelled rows.

    Args:
        rows: images (n, 3, H, W) in [0, 1] by the row's label; rows may differ in length, not in image size.
        zoom_to: small images are enlarged by a whole factor to at least this many pixels, without smoothing.

    Returns:
        An RGB picture, labels on the left.
    """
    first = next(iter(rows.values()))
    height, width = first.shape[-2:]
    factor = max(1, -(-zoom_to // max(height, width)))
    font = ImageFont.load_default(size=12)
    margin = 12 + int(max(font.getlength(label) for label in rows))
    cell_w, cell_h = width * factor + 2, height * factor + 2
    columns = max(len(images) for images in rows.values())
    sheet = Image.new("RGB", (margin + columns * cell_w, len(rows) * cell_h), "white")
    draw = ImageDraw.Draw(sheet)
    for row, (label, images) in enumerate(rows.items()):
        draw.text((4, row * cell_h + cell_h // 2 - 7), label, fill="black", font=font)
        for column, image in enumerate(images):
            picture = to_pil(image).resize((width * factor, height * factor), Image.Resampling.NEAREST)
            sheet.paste(picture, (margin + column * cell_w, row * cell_h + 1))
    return sheet


def to_pil(image: Tensor) -> Image.Image:
    """Return an image (3, H, W) in [0, 1] as a picture of 8 bits per channel, rounded."""
    pixels = image.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy())  # (H, W, 3)
