"""The eight scenes of the miniature: large flat structures in colours of their own.

Every function paints a square RGB image of ``size`` pixels; unit coordinates run from (0, 0) at the top left to (1, 1)
at the bottom right.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image

from .pen import Color, Pen, gradient, mix, shift_hue

Scene = Callable[[int, np.random.Generator], Image.Image]


def amusement_park(size: int, rng: np.random.Generator) -> Image.Image:
    """A Ferris wheel beside a striped tent under bunting, pink ground."""
    sky = shift_hue((120, 215, 235), rng.uniform(-0.03, 0.03))
    image = gradient(size, sky, (255, 240, 205), 0.75)
    flip = rng.random() < 0.5
    pen = Pen(image, size, (size if flip else 0.0, 0.0), flip=flip)
    ground = rng.uniform(0.76, 0.84)
    pen.box(0, ground, 1, 1, (240, 150, 175))
    x, radius = rng.uniform(0.28, 0.36), rng.uniform(0.24, 0.29)
    y = ground - radius - 0.08
    pen.stroke(((x - 0.17, ground + 0.02), (x, y), (x + 0.17, ground + 0.02)), 0.035, (120, 80, 150))
    pen.ellipse(x, y, radius, radius, (120, 80, 150))
    pen.ellipse(x, y, radius - 0.035, radius - 0.035, mix(sky, (255, 255, 255), 0.55))
    turn = rng.uniform(0, math.pi / 4)
    cabins: tuple[Color, ...] = ((235, 60, 70), (250, 205, 50), (60, 170, 90), (70, 110, 225))
    for k in range(8):
        angle = turn + k * math.pi / 4
        dx, dy = math.cos(angle) * radius, math.sin(angle) * radius
        pen.stroke(((x, y), (x + dx, y + dy)), 0.018, (120, 80, 150), round_joints=False)
        pen.ellipse(x + dx, y + dy, 0.05, 0.05, cabins[k % 4])
    left, right = x + rng.uniform(0.30, 0.34), 1.02
    eaves, top = ground - rng.uniform(0.15, 0.2), ground - rng.uniform(0.42, 0.5)
    middle, step = (left + right) / 2, (right - left) / 6
    for k in range(6):
        stripe: Color = (230, 50, 65) if k % 2 == 0 else (255, 250, 240)
        a, b = left + k * step, left + (k + 1) * step
        pen.box(a + (0.012 if k == 0 else 0), eaves, b, ground + 0.04, stripe)
        pen.polygon(((middle, top), (a - (0.03 if k == 0 else 0), eaves), (b, eaves)), stripe)
    for k in range(7):
        a = k / 7
        pen.polygon(((a, 0), (a + 1 / 7, 0), (a + 1 / 14, 0.11)), cabins[k % 4])
    return image


def stadium(size: int, rng: np.random.Generator) -> Image.Image:
    """Stands full of people below floodlights, a striped green pitch with white lines."""
    image = Image.new("RGB", (size, size), shift_hue((45, 60, 125), rng.uniform(-0.03, 0.03)))
    pen = Pen(image, size)
    top, pitch = rng.uniform(0.17, 0.23), rng.uniform(0.53, 0.6)
    pen.polygon(((0, top - 0.05), (0.5, top), (1, top - 0.05), (1, pitch), (0, pitch)), (95, 100, 130))
    fans: tuple[Color, ...] = ((235, 75, 75), (245, 245, 245), (250, 205, 70), (80, 140, 230))
    rows, columns = 4, 12
    picks = rng.integers(0, len(fans), size=(rows, columns))
    for row in range(rows):
        y = top + 0.06 + row * (pitch - top - 0.1) / (rows - 1)
        for column in range(columns):
            x = (column + (0.5 if row % 2 else 0.0)) / columns + 0.02
            pen.box(x - 0.021, y - 0.026, x + 0.021, y + 0.026, fans[picks[row, column]])
    pen.box(0, pitch - 0.035, 1, pitch + 0.01, (245, 245, 250))
    shift, bands = rng.uniform(-0.08, 0.08), 6
    for k in range(-1, bands + 1):
        green: Color = (60, 165, 70) if k % 2 else (85, 190, 85)
        a, b = k / bands + shift, (k + 1) / bands + shift
        pen.polygon(((a, pitch + 0.01), (b, pitch + 0.01), (b + (b - 0.5), 1.01), (a + (a - 0.5), 1.01)), green)
    centre = 0.5 + shift
    pen.ellipse(centre, 0.83, 0.24, 0.1, (250, 255, 250))
    pen.ellipse(centre, 0.83, 0.21, 0.078, (72, 178, 78))
    pen.box(0, 0.82, 1, 0.842, (250, 255, 250))
    for x in (rng.uniform(0.1, 0.16), rng.uniform(0.84, 0.9)):
        pen.box(x - 0.015, 0.08, x + 0.015, top + 0.02, (200, 205, 220))
        pen.box(x - 0.09, 0.02, x + 0.09, 0.12, (255, 252, 215))
    return image


def mountain(size: int, rng: np.random.Generator) -> Image.Image:
    """Grey-blue peaks with snow under a clear sky, a green meadow."""
    image = gradient(size, shift_hue((70, 140, 225), rng.uniform(-0.03, 0.02)), (205, 230, 250), 0.7)
    pen = Pen(image, size)
    main = rng.uniform(0.3, 0.7)
    side = main + rng.uniform(0.34, 0.42) * (1 if main < 0.5 else -1)
    other = main - rng.uniform(0.3, 0.4) * (1 if main < 0.5 else -1)
    for x, top, half, rock in (
        (other, rng.uniform(0.36, 0.44), 0.34, (125, 140, 175)),
        (side, rng.uniform(0.28, 0.36), 0.4, (110, 125, 165)),
        (main, rng.uniform(0.08, 0.16), 0.52, (90, 105, 150)),
    ):
        foot = 0.86
        pen.polygon(((x, top), (x + half, foot), (x - half, foot)), rock)
        pen.polygon(((x, top), (x + half, foot), (x + half * 0.1, foot)), mix(rock, (50, 60, 110), 0.4))
        low, w = top + 0.42 * (foot - top), 0.42 * half
        edge = ((1.0, 0.0), (0.45, -0.07), (0.1, 0.02), (-0.3, -0.07), (-0.65, 0.0), (-1.0, 0.0))  # of the snow
        pen.polygon([(x, top), *((x + w * u, low + v) for u, v in edge)], (252, 253, 255))
    hill = rng.uniform(0.74, 0.8)
    meadow = ((0, hill), (0.3, hill + 0.03), (0.65, hill - 0.01), (1, hill + 0.03), (1, 1.01), (0, 1.01))
    pen.polygon(meadow, (95, 165, 80))
    return image


def beach(size: int, rng: np.random.Generator) -> Image.Image:
    """A sun over a turquoise sea, yellow sand and a leaning palm."""
    image = gradient(size, shift_hue((150, 220, 245), rng.uniform(-0.03, 0.03)), (250, 245, 215), 0.5)
    flip = rng.random() < 0.5
    pen = Pen(image, size, (size if flip else 0.0, 0.0), flip=flip)
    horizon, shore = rng.uniform(0.4, 0.47), rng.uniform(0.6, 0.67)
    x, y, radius = rng.uniform(0.62, 0.85), rng.uniform(0.14, 0.22), rng.uniform(0.085, 0.11)
    pen.ellipse(x, y, radius, radius, (255, 225, 70))
    pen.box(0, horizon, 1, 1, (25, 165, 195))
    pen.polygon(((0, shore - 0.03), (0.4, shore + 0.02), (1, shore - 0.02), (1, 1.01), (0, 1.01)), (235, 250, 250))
    pen.polygon(((0, shore + 0.01), (0.4, shore + 0.06), (1, shore + 0.02), (1, 1.01), (0, 1.01)), (245, 215, 140))
    foot, lean, top = rng.uniform(0.08, 0.16), rng.uniform(0.05, 0.12), rng.uniform(0.2, 0.28)
    crown = (foot + lean, top)
    trunk = ((foot - 0.04, 0.8), (foot + 0.04, 0.8), (crown[0] + 0.02, top), (crown[0] - 0.02, top))
    pen.polygon(trunk, (150, 100, 60))
    for angle in (-0.15, 0.55, 1.1, math.pi - 0.55, math.pi + 0.15, -1.0, math.pi + 1.0):
        cos, sin = math.cos(angle), math.sin(angle)
        bow, tip = (crown[0] + 0.15 * cos, top + 0.12 * sin - 0.06), (crown[0] + 0.24 * cos, top + 0.17 * sin)
        pen.polygon((crown, bow, tip, (crown[0] + 0.11 * cos, top + 0.1 * sin + 0.01)), (40, 140, 70))
    return image


def battlefield(size: int, rng: np.random.Generator) -> Image.Image:
    """A burning orange sky with black smoke over brown mud, steel crosses and craters."""
    glow = shift_hue((250, 140, 60), rng.uniform(-0.02, 0.02))
    image = gradient(size, (120, 45, 40), glow, 0.62)
    pen = Pen(image, size)
    ground = rng.uniform(0.6, 0.67)
    for x in (rng.uniform(0.05, 0.35), rng.uniform(0.6, 0.95)):
        drift = rng.uniform(-0.05, 0.05)
        for k in range(5):
            pen.ellipse(x + drift * k, ground - 0.04 - 0.13 * k, 0.05 + 0.03 * k, 0.09, (62, 48, 50))
    mud = ((0, ground), (0.35, ground - 0.03), (0.7, ground + 0.02), (1, ground - 0.02), (1, 1.01), (0, 1.01))
    pen.polygon(mud, (105, 72, 48))
    for x in (rng.uniform(0.15, 0.4), rng.uniform(0.55, 0.85)):
        y = rng.uniform(0.86, 0.93)
        pen.ellipse(x, y, 0.16, 0.05, (60, 40, 30))
    for k in range(3):
        x, y, r = (k + 0.5) / 3 + rng.uniform(-0.08, 0.08), ground + rng.uniform(0.02, 0.08), 0.085
        for dx, dy in ((r, r), (r, -r)):
            pen.stroke(((x - dx, y - dy), (x + dx, y + dy)), 0.036, (35, 32, 38), round_joints=False)
    return image


def sewer(size: int, rng: np.random.Generator) -> Image.Image:
    """A brick tunnel with a black mouth and a stream of acid green water."""
    brick = shift_hue((112, 108, 72), rng.uniform(-0.03, 0.03))
    image = Image.new("RGB", (size, size), brick)
    pen = Pen(image, size)
    mortar = mix(brick, (40, 40, 25), 0.55)
    courses, offset = 6, rng.uniform(0, 0.25)
    for row in range(courses + 1):
        y = row / courses
        pen.box(0, y - 0.012, 1, y + 0.012, mortar)
        for k in range(-1, 5):
            x = k * 0.25 + offset + (0.125 if row % 2 else 0.0)
            pen.box(x - 0.012, y, x + 0.012, y + 1 / courses, mortar)
    x, radius, water = rng.uniform(0.4, 0.6), rng.uniform(0.33, 0.38), rng.uniform(0.68, 0.75)
    y = rng.uniform(0.42, 0.48)
    for r, color in ((radius + 0.06, mix(brick, (215, 205, 160), 0.5)), (radius, (22, 26, 20))):
        pen.ellipse(x, y, r, r, color)
        pen.box(x - r, y, x + r, 1, color)
    pen.box(0, water, 1, 1.01, (135, 185, 30))
    for _ in range(3):
        a, b = rng.uniform(0, 0.75), rng.uniform(water + 0.06, 0.95)
        pen.box(a, b, a + 0.25, b + 0.025, (195, 225, 80))
    return image


def forest(size: int, rng: np.random.Generator) -> Image.Image:
    """A dark forest at night: black trunks from top to bottom before blue-green mist."""
    mist = shift_hue((60, 130, 125), rng.uniform(-0.03, 0.03))
    image = gradient(size, (12, 40, 48), mist, 0.75)
    pen = Pen(image, size)
    offset = rng.uniform(-0.03, 0.03)
    for k in range(5):
        x, width = k / 4 + offset + rng.uniform(-0.03, 0.03), rng.uniform(0.04, 0.06)
        pen.box(x - width / 2, 0, x + width / 2, 0.86, mix((12, 40, 48), mist, 0.45))
    floor = rng.uniform(0.8, 0.86)
    pen.polygon(((0, floor), (0.5, floor + 0.03), (1, floor - 0.01), (1, 1.01), (0, 1.01)), (14, 34, 26))
    for k in range(4):
        x, half = (k + 0.5) / 4 + rng.uniform(-0.05, 0.05), rng.uniform(0.035, 0.05)
        foot = rng.uniform(0.88, 0.96)
        pen.polygon(((x - half, 0), (x + half, 0), (x + half, foot - 0.08), (x + 2.2 * half, foot)), (8, 18, 18))
        pen.polygon(((x - half, 0), (x + half, 0), (x + half, foot - 0.08), (x - 2.2 * half, foot)), (8, 18, 18))
        side, height = (1 if rng.random() < 0.5 else -1), rng.uniform(0.22, 0.45)
        branch = ((x, height + 0.12), (x + side * 0.11, height), (x + side * 0.13, height - 0.12))
        pen.stroke(branch, 0.028, (8, 18, 18))
    for k in range(6):
        pen.ellipse(k / 5, rng.uniform(-0.02, 0.03), 0.14, 0.11, (10, 28, 24))
    return image


def graveyard(size: int, rng: np.random.Generator) -> Image.Image:
    """A violet dusk with a pale moon, a dark hill and rows of grey tombstones."""
    image = gradient(size, shift_hue((60, 40, 105), rng.uniform(-0.03, 0.03)), (190, 120, 175), 0.65)
    pen = Pen(image, size)
    x, radius = rng.uniform(0.2, 0.8), rng.uniform(0.11, 0.14)
    pen.ellipse(x, rng.uniform(0.18, 0.24), radius, radius, (250, 245, 215))
    hill = rng.uniform(0.56, 0.62)
    pen.polygon(((0, hill + 0.04), (0.5, hill - 0.03), (1, hill + 0.04), (1, 1.01), (0, 1.01)), (58, 62, 66))
    offset = rng.uniform(-0.05, 0.05)
    for row, (y, half, count) in enumerate(((hill + 0.12, 0.07, 4), (0.96, 0.1, 3))):
        for k in range(count):
            x = (k + 0.5) / count + offset * (1 if row else -1)
            stone = mix((165, 168, 178), (140, 142, 155), rng.random())
            if (k + row) % 3 == 1:
                pen.box(x - half * 0.3, y - half * 2.6, x + half * 0.3, y, stone)
                pen.box(x - half, y - half * 2.0, x + half, y - half * 1.45, stone)
            else:
                pen.ellipse(x, y - half * 1.4, half, half, stone)
                pen.box(x - half, y - half * 1.4, x + half, y, stone)
    return image


SCENE_PAINTERS: dict[str, Scene] = {
    "amusement_park": amusement_park,
    "stadium": stadium,
    "mountain": mountain,
    "beach": beach,
    "battlefield": battlefield,
    "sewer": sewer,
    "forest": forest,
    "graveyard": graveyard,
}
