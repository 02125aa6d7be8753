"""The miniature's painter: one scene with at most one object, small enough to be read at 32×32 pixels."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from uniemo.errors import Range, Share, UniEmoError, check_ranges

from .clutter import DISTRACTORS, cover, pick_color, weather
from .objects import OBJECT_PAINTERS
from .pen import Pen
from .scenes import SCENE_PAINTERS
from .styles import STYLES

Side = Annotated[int, Range(16, 2**16)]  # of a picture in pixels
DIFFICULTY = 0.2  # of the miniature's datasets; its networks were trained on twice as hard paintings
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
    size: Side = 64,
    brightness: Share = 0.5,
    colorfulness: Share = 0.5,
    difficulty: Share = 0.0,
    style: str = "flat",
) -> Painting:
    """Paint one scene, with one object unless it is None.

    At difficulty 0 the object's longest side is 0.43 to 0.52 of the picture's. The harder, the smaller the object, the
    weaker its rim, the further its hue may turn, and the likelier a second one of its kind, distractors that have no
    emotion, something in front of it, and weather. It lies wholly inside the picture. Layout, position, tilt,
    mirroring and hue come from ``rng`` alone, so equal generators give equal pictures. All but the object and what
    stands in front of it is drawn from the same numbers with and without an object.

    Args:
        scene: one of ``table.SCENES``.
        object: one of ``table.OBJECTS``, or None for the empty scene.
        rng: the only source of randomness.
        size: side in pixels.
        brightness: 0.5 is neutral.
        colorfulness: 0.5 is neutral.
        difficulty: from plain to hard.
        style: one of ``styles.STYLES``.

    Raises:
        UniEmoError: if an argument is not one of its choices or outside its range.
    """
    if scene not in SCENE_PAINTERS:
        raise UniEmoError(f"scene must be one of {', '.join(SCENE_PAINTERS)}; got {scene!r}")
    if object is not None and object not in OBJECT_PAINTERS:
        raise UniEmoError(f"object must be None or one of {', '.join(OBJECT_PAINTERS)}; got {object!r}")
    if style not in STYLES:
        raise UniEmoError(f"style must be one of {', '.join(STYLES)}; got {style!r}")
    check_ranges(paint, locals())
    canvas = SCENE_PAINTERS[scene](size * _OVERSAMPLING, rng)
    around = np.random.default_rng(int(rng.integers(2**32))) if difficulty else rng
    for _ in range(int(around.binomial(3, 0.6 * difficulty)) if difficulty else 0):
        _add_distractor(canvas, around)
    mask = np.zeros((size, size), dtype=bool)
    if object is not None:
        seen = _add_object(canvas, object, rng, difficulty)
        mask = np.asarray(seen.reduce(_OVERSAMPLING)) > 127
    image = _tone(canvas.reduce(_OVERSAMPLING), brightness, colorfulness)
    if difficulty and around.random() < 0.5 * difficulty:
        image = weather(image, difficulty, around)
    return Painting(STYLES[style](image, around), mask)


def _add_distractor(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Draw a thing that has no emotion."""
    thing, color = DISTRACTORS[list(DISTRACTORS)[int(rng.integers(len(DISTRACTORS)))]], pick_color(rng)
    tile, shape = _tile(lambda pen: thing(pen, color), canvas.width * rng.uniform(0.16, 0.3), 0.0, rng, 0.3, 0.0)
    across, down = rng.random(2)
    canvas.paste(tile, (int(across * (canvas.width - tile.width)), int(down * (canvas.width - tile.height))), shape)


def _add_object(canvas: Image.Image, name: str, rng: np.random.Generator, difficulty: float) -> Image.Image:
    """Draw the object onto the canvas and return where it is seen, an L image of the canvas's size."""
    draw, rim_color = OBJECT_PAINTERS[name]
    side, rim = canvas.width, _RIM * canvas.width * (1 - 0.5 * difficulty)
    seen = Image.new("L", canvas.size)
    copies = 2 if difficulty and rng.random() < 0.3 * difficulty else 1
    for copy in range(copies):
        length = side * rng.uniform(0.43 - 0.2 * difficulty, 0.52 - 0.16 * difficulty) * (0.75 if copy else 1)
        tile, shape = _tile(draw, length, rim, rng, 0.22 + 0.4 * difficulty, 0.025 + 0.06 * difficulty)
        across, down = rng.random(2)
        x, y = int(across * (side - tile.width)), int(down * (side - tile.height))
        outline = _grow(shape, rim)
        under = canvas.crop((x, y, x + tile.width, y + tile.height))
        rimmed = under.copy()
        rimmed.paste(rim_color, (0, 0), outline)
        canvas.paste(Image.blend(under, rimmed, 1 - 0.7 * difficulty), (x, y))
        canvas.paste(tile, (x, y), shape)
        seen.paste(255, (x, y), outline)
    if difficulty and rng.random() < 0.6 * difficulty:
        hidden = cover(canvas, seen.getbbox() or (0, 0, 1, 1), rng.uniform(0.15, 0.2 + 0.2 * difficulty), rng)
        seen.paste(0, (0, 0), hidden)
    return seen


def _tile(
    draw: Callable[[Pen], None], length: float, rim: float, rng: np.random.Generator, tilt: float, hue: float
) -> tuple[Image.Image, Image.Image]:
    """Return a shape of the given length (rim included) on a tile of its own, RGBA, and its silhouette, L.

    Tilt in radians and hue shift are at most the given ones to either side; every other shape is mirrored.
    """
    angle, hue_shift = rng.uniform(-tilt, tilt), rng.uniform(-hue, hue)
    flip = bool(rng.random() < 0.5)
    half = math.ceil(length * 0.75 + rim)  # room for the corners of a tilted shape and its rim
    tile = Image.new("RGBA", (2 * half, 2 * half))
    draw(Pen(tile, (length - 2 * rim) / 2, (half, half), angle, flip, hue_shift))
    box = tile.getbbox() or (0, 0, 1, 1)
    margin = math.ceil(rim)
    tile = tile.crop((box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin))
    return tile, tile.getchannel("A")


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
