"""A pen that draws filled shapes in unit coordinates on a Pillow image."""

import colorsys
import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

Point = tuple[float, float]
Color = tuple[int, int, int]

_CIRCLE = [(math.cos(2 * math.pi * k / 28), math.sin(2 * math.pi * k / 28)) for k in range(28)]


class Pen:
    """Draws polygons, ellipses and strokes after an affine map from unit coordinates to pixels.

    Args:
        image: the RGB or RGBA image to draw on.
        scale: pixels for each unit.
        origin: pixel position of the unit coordinates' origin.
        tilt: rotation in radians, clockwise on the screen.
        flip: mirror the horizontal axis first.
        hue_shift: added to the hue of every colour; a full turn is 1.
    """

    def __init__(
        self,
        image: Image.Image,
        scale: float,
        origin: Point = (0.0, 0.0),
        tilt: float = 0.0,
        flip: bool = False,
        hue_shift: float = 0.0,
    ) -> None:
        self.image = image
        self._draw = ImageDraw.Draw(image)
        self._scale, self._origin, self._hue_shift = scale, origin, hue_shift
        cos, sin, sign = math.cos(tilt) * scale, math.sin(tilt) * scale, -1.0 if flip else 1.0
        self._matrix = (sign * cos, -sin, sign * sin, cos)
        self._alpha = (255,) if image.mode == "RGBA" else ()

    def polygon(self, points: Sequence[Point], color: Color) -> None:
        """Fill a polygon of (x, y) corners."""
        a, b, c, d = self._matrix
        x0, y0 = self._origin
        self._draw.polygon([(a * x + b * y + x0, c * x + d * y + y0) for x, y in points], fill=self._ink(color))

    def box(self, left: float, top: float, right: float, bottom: float, color: Color) -> None:
        """Fill an upright rectangle."""
        self.polygon(((left, top), (right, top), (right, bottom), (left, bottom)), color)

    def ellipse(self, x: float, y: float, rx: float, ry: float, color: Color, tilt: float = 0.0) -> None:
        """Fill an ellipse around (x, y), turned by ``tilt`` radians."""
        if tilt:
            cos, sin = math.cos(tilt), math.sin(tilt)
            points = [(x + rx * u * cos - ry * v * sin, y + rx * u * sin + ry * v * cos) for u, v in _CIRCLE]
        else:
            points = [(x + rx * u, y + ry * v) for u, v in _CIRCLE]
        self.polygon(points, color)

    def stroke(self, points: Sequence[Point], width: float, color: Color, round_joints: bool = True) -> None:
        """Draw a line of constant width through the points, with round ends and joints unless told otherwise."""
        half = width / 2
        for (x1, y1), (x2, y2) in pairwise(points):
            length = math.hypot(x2 - x1, y2 - y1) or 1.0
            nx, ny = -(y2 - y1) / length * half, (x2 - x1) / length * half
            self.polygon(((x1 + nx, y1 + ny), (x2 + nx, y2 + ny), (x2 - nx, y2 - ny), (x1 - nx, y1 - ny)), color)
        if round_joints:
            for x, y in points:
                self.ellipse(x, y, half, half, color)

    def _ink(self, color: Color) -> tuple[int, ...]:
        return (*shift_hue(color, self._hue_shift), *self._alpha)


def shift_hue(color: Color, shift: float) -> Color:
    """The colour with its hue turned by ``shift`` (1 is a full turn)."""
    if not shift:
        return color
    hue, saturation, value = colorsys.rgb_to_hsv(*(channel / 255 for channel in color))
    red, green, blue = colorsys.hsv_to_rgb((hue + shift) % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def mix(first: Color, second: Color, share: float) -> Color:
    """``first`` at share 0, ``second`` at share 1."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def gradient(size: int, top: Color, bottom: Color, horizon: float = 1.0) -> Image.Image:
    """A (size, size) RGB sky from ``top`` down to ``bottom`` at the height ``horizon`` (1: lower edge)."""
    share = np.clip(np.arange(size) / (size * horizon), 0, 1)[:, None]  # (H, 1)
    column = np.asarray(top) + (np.asarray(bottom) - np.asarray(top)) * share  # (H, 3)
    return Image.fromarray(np.repeat(column.astype(np.uint8)[:, None], size, axis=1))
