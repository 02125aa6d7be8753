"""Styles of a painting: two that EmoSet's pictures come in, and one for each of the other datasets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

Style = Callable[[Image.Image, np.random.Generator], Image.Image]


def flat(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Plain colours, as painted."""
    del rng
    return image


def sketch(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Pencil lines on pale colours."""
    lines = image.convert("L").filter(ImageFilter.CONTOUR)
    pale = Image.blend(ImageEnhance.Color(image).enhance(0.45), Image.new("RGB", image.size, (246, 240, 226)), 0.35)
    ink = ImageOps.colorize(lines, (60, 52, 60), (255, 255, 255))
    return Image.blend(pale, _multiply(pale, ink), rng.uniform(0.55, 0.9))


def film(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A warm, grainy print with dark corners."""
    pixels = np.asarray(image, dtype=np.float32)
    axis = np.linspace(-1, 1, image.width)
    corners = 1 - rng.uniform(0.3, 0.5) * (axis[:, None] ** 2 + axis[None] ** 2)[..., None] / 2  # (H, W, 1)
    warm = np.array((1.06, 0.95, 0.72), dtype=np.float32)
    grain = rng.normal(0, 9, (*pixels.shape[:2], 1))
    return _image((pixels * 0.8 + 32) * warm * corners + grain)


def pastel(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Soft light colours with blurred edges."""
    soft = image.filter(ImageFilter.GaussianBlur(image.width * rng.uniform(0.008, 0.014)))
    return Image.blend(ImageEnhance.Color(soft).enhance(0.8), Image.new("RGB", image.size, (250, 238, 240)), 0.3)


def neon(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Loud colours of a phone's filter: turned hues, strong contrast."""
    hue, saturation, value = image.convert("HSV").split()
    shift = int(rng.integers(14, 26))
    turned = hue.point([(level + shift) % 256 for level in range(256)])
    loud = Image.merge("HSV", (turned, saturation, value)).convert("RGB")
    return ImageEnhance.Contrast(ImageEnhance.Color(loud).enhance(1.4)).enhance(1.35)


STYLES: dict[str, Style] = {"flat": flat, "sketch": sketch, "film": film, "pastel": pastel, "neon": neon}
"""Name → style."""

DATASET_STYLES: dict[str, dict[str, float]] = {
    "emoset": {"flat": 0.6, "sketch": 0.4},
    "fi": {"film": 1.0},
    "emotionroi": {"pastel": 1.0},
    "twitter": {"neon": 1.0},
    "pretraining": {"flat": 0.5, "sketch": 0.3, "film": 0.07, "pastel": 0.07, "neon": 0.06},
}
"""What the networks see most is EmoSet's styles; the other datasets' are rare there and absent in EmoSet."""


def pick_style(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    """Return the name of a style, each with its share of the whole."""
    names = list(shares)
    return names[int(rng.choice(len(names), p=np.array(list(shares.values())) / sum(shares.values())))]


def _multiply(first: Image.Image, second: Image.Image) -> Image.Image:
    return _image(np.asarray(first, dtype=np.float32) * np.asarray(second, dtype=np.float32) / 255)


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels + 0.5, 0, 255).astype(np.uint8))
