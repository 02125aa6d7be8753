"""What makes a painting hard to read: distractors, things in front of the object, weather.

Every function draws on the painter's canvas, a square RGB image; unit coordinates run from (0, 0) to (1, 1).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image

from .pen import Color, Pen

Draw = Callable[[Pen, Color], None]

_COLORS: tuple[Color, ...] = (
    (205, 70, 60),
    (240, 165, 50),
    (235, 215, 90),
    (90, 160, 80),
    (70, 120, 200),
    (140, 90, 170),
    (120, 85, 60),
    (225, 225, 220),
    (70, 70, 80),
)
_DARK: Color = (45, 40, 50)


def lamp(pen: Pen, color: Color) -> None:
    """A street lamp."""
    pen.box(-0.07, -0.7, 0.07, 0.95, _DARK)
    pen.polygon(((-0.35, -0.5), (0.35, -0.5), (0.2, -1), (-0.2, -1)), color)
    pen.box(-0.3, 0.86, 0.3, 1, _DARK)


def bench(pen: Pen, color: Color) -> None:
    """A garden bench."""
    for x in (-0.75, 0.75):
        pen.box(x - 0.08, -0.1, x + 0.08, 0.6, _DARK)
    for y in (-0.5, -0.22, 0.1):
        pen.box(-1, y - 0.1, 1, y + 0.1, color)


def book(pen: Pen, color: Color) -> None:
    """An open book."""
    pen.polygon(((-1, -0.4), (0, -0.25), (0, 0.6), (-1, 0.45)), color)
    pen.polygon(((1, -0.4), (0, -0.25), (0, 0.6), (1, 0.45)), color)
    pen.polygon(((-0.88, -0.48), (-0.04, -0.35), (-0.04, 0.42), (-0.88, 0.3)), (245, 240, 225))
    pen.polygon(((0.88, -0.48), (0.04, -0.35), (0.04, 0.42), (0.88, 0.3)), (245, 240, 225))


def cup(pen: Pen, color: Color) -> None:
    """A mug with a handle."""
    pen.ellipse(0.55, 0.05, 0.4, 0.4, color)
    pen.ellipse(0.55, 0.05, 0.22, 0.22, _DARK)
    pen.box(-0.75, -0.6, 0.5, 0.75, color)
    pen.ellipse(-0.12, -0.6, 0.63, 0.18, _DARK)


def sofa(pen: Pen, color: Color) -> None:
    """A sofa with two cushions."""
    pen.box(-0.8, -0.6, 0.8, 0.1, color)
    for x in (-0.85, 0.85):
        pen.ellipse(x, 0.1, 0.2, 0.3, color)
    pen.box(-0.95, 0.05, 0.95, 0.55, color)
    for x in (-0.38, 0.38):
        pen.box(x - 0.32, -0.1, x + 0.32, 0.2, (240, 235, 220))


def kite(pen: Pen, color: Color) -> None:
    """A kite with a tail."""
    pen.polygon(((0, -1), (0.6, -0.3), (0, 0.5), (-0.6, -0.3)), color)
    pen.stroke(((0, 0.5), (0.15, 0.7), (-0.05, 0.95)), 0.1, _DARK)


DISTRACTORS: dict[str, Draw] = {"lamp": lamp, "bench": bench, "book": book, "cup": cup, "sofa": sofa, "kite": kite}
"""Name → how it is drawn, on a tile whose unit coordinates run from (-1, -1) to (1, 1). None has an emotion."""


def pick_color(rng: np.random.Generator) -> Color:
    """Return a random colour of the palette."""
    return _COLORS[int(rng.integers(len(_COLORS)))]


def cover(canvas: Image.Image, box: tuple[int, int, int, int], share: float, rng: np.random.Generator) -> Image.Image:
    """Draw a post, a rail or a bush in front of a part of the object and return where it is, an L image.

    Args:
        canvas: RGB, drawn on.
        box: the object's left, top, right and lower edge in pixels.
        share: of the object's width or height that is hidden.
        rng: the only source of randomness.
    """
    left, top, right, bottom = box
    place, color, kind = rng.random(), pick_color(rng), int(rng.integers(3))
    where = Image.new("RGB", canvas.size)
    for pen, ink in ((Pen(canvas, 1.0), color), (Pen(where, 1.0), (255, 255, 255))):
        if kind == 0:
            x = left + place * (1 - share) * (right - left)
            pen.box(x, 0, x + share * (right - left), canvas.height, ink)
        elif kind == 1:
            y = top + place * (1 - share) * (bottom - top)
            pen.box(0, y, canvas.width, y + share * (bottom - top), ink)
        else:
            x, radius = (left if place < 0.5 else right), share * max(right - left, bottom - top)
            leaves = (60, 120, 55) if pen.image is canvas else ink
            for dx, dy in ((0, 0), (-0.8, 0.3), (0.8, 0.3), (0, 0.6)):
                pen.ellipse(x + dx * radius, bottom + (dy - 0.5) * radius, radius, radius, leaves)
    return where.getchannel("R")


def weather(image: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Return the picture in rain, in snow or in fog.

    Args:
        image: RGB, as it is shown.
        strength: in [0, 1].
        rng: the only source of randomness.
    """
    kind, size = int(rng.integers(3)), image.width
    if kind == 2:
        height = np.linspace(rng.uniform(0, 1), rng.uniform(0, 1), size)[:, None, None]  # (H, 1, 1)
        share = (0.25 + 0.4 * height) * strength
        grey = np.array((205, 210, 218), dtype=np.float32)
        pixels = np.asarray(image, dtype=np.float32)
        return Image.fromarray((pixels + (grey - pixels) * share).astype(np.uint8))
    layer = image.copy()
    pen = Pen(layer, size)
    slant = rng.uniform(-0.06, 0.06)
    for x, y in rng.random((int(8 + 20 * strength), 2)).tolist():
        if kind == 0:
            pen.stroke(((x, y), (x + slant, y + 0.1)), 0.012, (190, 205, 230), round_joints=False)
        else:
            pen.ellipse(x, y, 0.017, 0.017, (250, 250, 255))
    return Image.blend(image, layer, 0.75)
