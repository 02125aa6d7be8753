"""The miniature's painter: one scene with at most one object, small enough to be read at 32×32 pixels."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uniemo.errors import UniEmoError

from .objects import OBJECT_PAINTERS
from .pen import Pen
from .scenes import SCENE_PAINTERS

_OVERSAMPLING = 4  # shapes are drawn this much larger, then averaged down
_RIM = 0.024  # width of the rim around an object, as a share of the picture: 3/4 pixel at 32 pixels
_DIRECTIONS = [(math.cos(2 * math.pi * k / 16), math.sin(2 * math.pi * k / 16)) for k in range(16)]
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Painting:
    """A picture and where its object is.

    Attributes:
        image: RGB, size×size.
        object_mask: (size, size) bool, True where the object (its rim included) covers more than half of the pixel.
    """

    image: Image.Image
    object_mask: NDArray[np.bool_]


def paint(
    scene: str,
    object: str | None,
    rng: np.random.Generator,
    size: int = 64,
    brightness: float = 0.5,
    colorfulness: float = 0.5,
) -> Painting:
    """Paint one scene, with one object unless it is None.

    The object's longest side is 0.43 to 0.52 of the picture's; it lies wholly inside. Layout, position, tilt, mirroring
    and hue come from ``rng`` alone, so equal generators give equal pictures. The scene is drawn before the object: from
    equal generators, the empty scene and the scene with an object differ only under the object.

    Args:
        scene: one of ``table.SCENES``.
        object: one of ``table.OBJECTS``, or None for the empty scene.
        rng: the only source of chance.
        size: side in pixels, at least 16.
        brightness: in [0, 1], 0.5 is neutral.
        colorfulness: in [0, 1], 0.5 is neutral.

    Raises:
        UniEmoError: if an argument is not one of its choices or outside its range.
    """
    if scene not in SCENE_PAINTERS:
        raise UniEmoError(f"scene must be one of {', '.join(SCENE_PAINTERS)}; got {scene!r}")
    if object is not None and object not in OBJECT_PAINTERS:
        raise UniEmoError(f"object must be None or one of {', '.join(OBJECT_PAINTERS)}; got {object!r}")
    if size < 16:
        raise UniEmoError(f"size must be at least 16 pixels; got {size}")
    for name, value in (("brightness", brightness), ("colorfulness", colorfulness)):
        if not 0 <= value <= 1:
            raise UniEmoError(f"{name} must lie in [0, 1]; got {value}")

    canvas = SCENE_PAINTERS[scene](size * _OVERSAMPLING, rng)
    mask = np.zeros((size, size), dtype=bool)
    if object is not None:
        cover = _add_object(canvas, object, rng)
        mask = np.asarray(cover.reduce(_OVERSAMPLING)) > 127
    return Painting(_tone(canvas.reduce(_OVERSAMPLING), brightness, colorfulness), mask)


def _add_object(canvas: Image.Image, name: str, rng: np.random.Generator) -> Image.Image:
    """Draw the object onto the canvas and return where it is, an L image of the canvas's size."""
    draw, rim_color = OBJECT_PAINTERS[name]
    side = canvas.width
    rim = _RIM * side
    length = side * rng.uniform(0.43, 0.52)
    tilt, hue_shift = rng.uniform(-0.22, 0.22), rng.uniform(-0.025, 0.025)
    flip = bool(rng.random() < 0.5)
    across, down = rng.random(2)

    half = math.ceil(length * 0.75 + rim)  # room for the corners of a tilted shape and its rim
    tile = Image.new("RGBA", (2 * half, 2 * half))
    draw(Pen(tile, (length - 2 * rim) / 2, (half, half), tilt, flip, hue_shift))
    box = tile.getbbox() or (0, 0, 1, 1)
    margin = math.ceil(rim)
    tile = tile.crop((box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin))
    x, y = int(across * (side - tile.width)), int(down * (side - tile.height))

    shape = tile.getchannel("A")
    outline = _grow(shape, rim)
    canvas.paste(rim_color, (x, y), outline)
    canvas.paste(tile, (x, y), shape)
    cover = Image.new("L", canvas.size)
    cover.paste(outline, (x, y))
    return cover


def _grow(shape: Image.Image, radius: float) -> Image.Image:
    """Widen a silhouette (L, 0 or 255) by ``radius`` pixels to all sides, within the image."""
    pixels = np.asarray(shape)
    grown = pixels.copy()
    height, width = pixels.shape
    for cos, sin in _DIRECTIONS:
        dx, dy = round(cos * radius), round(sin * radius)
        target = grown[max(dy, 0) : height + min(dy, 0), max(dx, 0) : width + min(dx, 0)]
        source = pixels[max(-dy, 0) : height + min(-dy, 0), max(-dx, 0) : width + min(-dx, 0)]
        np.maximum(target, source, out=target)
    return Image.fromarray(grown)


def _tone(image: Image.Image, brightness: float, colorfulness: float) -> Image.Image:
    """Change brightness by a factor of 0.76 to 1.2 and saturation by 0.65 to 1.3, 1 at the neutral 0.5."""
    if brightness == colorfulness == 0.5:
        return image
    gain = 1 + (brightness - 0.5) * (0.4 if brightness > 0.5 else 0.48)
    saturation = 1 + (colorfulness - 0.5) * (0.6 if colorfulness > 0.5 else 0.7)
    pixels = np.asarray(image, dtype=np.float32)  # (H, W, 3)
    grey = (pixels @ _LUMA)[..., None]
    toned = (grey + (pixels - grey) * saturation) * gain
    return Image.fromarray(np.clip(toned + 0.5, 0, 255).astype(np.uint8))
