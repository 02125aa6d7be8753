"""The sixteen objects of the miniature: big plain shapes, each with an outline and a colour of its own.

Every function draws with a pen whose unit coordinates run from (-1, -1) to (1, 1); the longest side of the shape spans
about two units. ``painter`` scales, turns and places it and lays a thin rim in the colour given in ``OBJECT_PAINTERS``
around it.
"""

import math
from collections.abc import Callable

from .pen import Color, Pen

Draw = Callable[[Pen], None]

_LIGHT: Color = (255, 250, 225)
_DARK: Color = (30, 25, 45)


def balloon(pen: Pen) -> None:
    """A red balloon on a string."""
    pen.stroke(((0, 0.35), (0.07, 0.65), (-0.05, 0.98)), 0.08, (90, 60, 70))
    pen.polygon(((0, 0.3), (-0.15, 0.56), (0.15, 0.56)), (190, 20, 35))
    pen.ellipse(0, -0.3, 0.62, 0.7, (230, 30, 45))
    pen.ellipse(-0.22, -0.55, 0.14, 0.2, (255, 175, 175), 0.5)


def cake(pen: Pen) -> None:
    """A pink cake of two tiers with three candles."""
    for x in (-0.3, 0.0, 0.3):
        pen.box(x - 0.06, -0.72, x + 0.06, -0.3, (80, 130, 230))
        pen.ellipse(x, -0.83, 0.08, 0.14, (255, 200, 40))
    pen.box(-0.55, -0.36, 0.55, 0.2, (250, 150, 190))
    pen.box(-0.55, -0.4, 0.55, -0.18, (255, 250, 245))
    pen.box(-0.9, 0.16, 0.9, 0.85, (250, 150, 190))
    pen.box(-0.9, 0.16, 0.9, 0.4, (255, 250, 245))
    for x in (-0.6, 0.0, 0.6):
        pen.ellipse(x, 0.4, 0.16, 0.16, (255, 250, 245))


def skull(pen: Pen) -> None:
    """A white skull with black eye sockets."""
    bone: Color = (245, 242, 228)
    pen.ellipse(0, -0.22, 0.8, 0.72, bone)
    pen.box(-0.45, 0.2, 0.45, 0.92, bone)
    for x in (-0.36, 0.36):
        pen.ellipse(x, -0.1, 0.25, 0.27, (20, 15, 25))
    pen.polygon(((0, 0.14), (-0.12, 0.4), (0.12, 0.4)), (20, 15, 25))
    for x in (-0.17, 0.17):
        pen.box(x - 0.05, 0.58, x + 0.05, 0.92, (20, 15, 25))


def coffin(pen: Pen) -> None:
    """A brown coffin with a golden cross."""
    pen.polygon(((-0.3, -1), (0.3, -1), (0.58, -0.42), (0.34, 1), (-0.34, 1), (-0.58, -0.42)), (120, 62, 25))
    lid = ((-0.22, -0.86), (0.22, -0.86), (0.44, -0.4), (0.24, 0.86), (-0.24, 0.86), (-0.44, -0.4))
    pen.polygon(lid, (165, 95, 45))
    pen.box(-0.08, -0.68, 0.08, 0.5, (250, 210, 70))
    pen.box(-0.29, -0.4, 0.29, -0.24, (250, 210, 70))


def rainbow(pen: Pen) -> None:
    """A rainbow of five bands."""
    bands: tuple[Color, ...] = ((230, 40, 40), (250, 150, 30), (250, 230, 50), (50, 185, 80), (60, 90, 220))
    edges = [1.0 - 0.13 * k for k in range(len(bands) + 1)]
    arc = [(math.cos(math.pi * k / 20), -math.sin(math.pi * k / 20)) for k in range(21)]
    for outer, inner, color in zip(edges, edges[1:], bands, strict=False):
        ring = [(outer * x, outer * y + 0.5) for x, y in arc] + [(inner * x, inner * y + 0.5) for x, y in reversed(arc)]
        pen.polygon(ring, color)


def eagle(pen: Pen) -> None:
    """A brown eagle with spread wings and a white head."""
    brown: Color = (105, 62, 30)
    for side in (-1, 1):
        front = ((0, -0.1), (0.45, -0.5), (1.0, -0.62), (0.96, -0.2))
        back = ((0.84, -0.02), (0.72, -0.08), (0.66, 0.16), (0.5, 0.1), (0.42, 0.3), (0.2, 0.34), (0, 0.45))
        pen.polygon([(side * x, y) for x, y in (*front, *back)], brown)
    pen.polygon(((-0.12, 0.3), (0.12, 0.3), (0.3, 0.8), (-0.3, 0.8)), brown)
    pen.ellipse(0, 0.1, 0.24, 0.42, (75, 42, 20))
    pen.ellipse(0, -0.42, 0.24, 0.25, (250, 248, 240))
    pen.polygon(((0.06, -0.54), (0.48, -0.38), (0.08, -0.24)), (250, 175, 20))


def flower(pen: Pen) -> None:
    """A magenta flower with a yellow heart on a green stem."""
    pen.stroke(((0, -0.2), (0.0, 0.98)), 0.14, (40, 150, 55))
    pen.ellipse(0.26, 0.62, 0.28, 0.12, (40, 150, 55), -0.5)
    pen.ellipse(-0.26, 0.72, 0.28, 0.12, (40, 150, 55), 0.5)
    for k in range(6):
        angle = k * math.pi / 3
        pen.ellipse(0.36 * math.cos(angle), -0.36 + 0.36 * math.sin(angle), 0.26, 0.26, (225, 40, 165))
    pen.ellipse(0, -0.36, 0.24, 0.24, (255, 215, 45))


def butterfly(pen: Pen) -> None:
    """A blue butterfly with wide wings."""
    for side in (-1, 1):
        pen.ellipse(side * 0.55, -0.32, 0.5, 0.36, (40, 85, 225), -side * 0.6)
        pen.ellipse(side * 0.42, 0.42, 0.36, 0.32, (40, 85, 225), side * 0.6)
        pen.ellipse(side * 0.58, -0.34, 0.25, 0.18, (120, 215, 255), -side * 0.6)
        pen.ellipse(side * 0.43, 0.42, 0.16, 0.14, (120, 215, 255), side * 0.6)
        pen.stroke(((0, -0.4), (side * 0.22, -0.85)), 0.07, (30, 22, 40))
    pen.ellipse(0, 0.05, 0.1, 0.6, (30, 22, 40))


def sword(pen: Pen) -> None:
    """A steel sword with a golden guard, point upwards."""
    pen.polygon(((0, -1), (0.22, -0.72), (0.22, 0.38), (-0.22, 0.38), (-0.22, -0.72)), (225, 233, 245))
    pen.polygon(((0, -1), (0.22, -0.72), (0.22, 0.38), (0, 0.38)), (150, 165, 195))
    pen.box(-0.56, 0.34, 0.56, 0.54, (240, 180, 30))
    pen.box(-0.11, 0.54, 0.11, 0.84, (150, 40, 40))
    pen.ellipse(0, 0.86, 0.17, 0.14, (240, 180, 30))


def tank(pen: Pen) -> None:
    """An olive tank with a long gun."""
    pen.box(0.1, -0.42, 1.0, -0.28, (72, 88, 40))
    pen.polygon(((-0.5, -0.6), (0.2, -0.6), (0.4, -0.1), (-0.62, -0.1)), (98, 118, 52))
    pen.polygon(((-0.95, -0.12), (0.9, -0.12), (0.98, 0.2), (-1.0, 0.2)), (118, 140, 62))
    pen.box(-0.72, 0.16, 0.72, 0.66, (45, 45, 42))
    pen.ellipse(-0.72, 0.41, 0.25, 0.25, (45, 45, 42))
    pen.ellipse(0.72, 0.41, 0.25, 0.25, (45, 45, 42))
    for x in (-0.66, -0.22, 0.22, 0.66):
        pen.ellipse(x, 0.41, 0.15, 0.15, (150, 150, 140))


def flame(pen: Pen) -> None:
    """An orange flame with a yellow heart."""
    right = ((0.05, -1), (0.3, -0.55), (0.62, -0.05), (0.66, 0.42), (0.42, 0.85), (0, 0.98))
    left = ((-0.42, 0.85), (-0.66, 0.42), (-0.6, 0.02), (-0.46, -0.42), (-0.28, -0.1), (-0.14, -0.5))
    pen.polygon((*right, *left), (245, 90, 15))
    inner = ((0.04, -0.3), (0.3, 0.15), (0.36, 0.5), (0.2, 0.78), (0, 0.86), (-0.2, 0.78), (-0.36, 0.5), (-0.22, 0.2))
    pen.polygon(inner, (255, 215, 50))


def drum(pen: Pen) -> None:
    """A blue drum with golden rims, a white skin and two crossed sticks."""
    for side in (-1, 1):
        pen.stroke(((side * 0.2, -0.3), (-side * 0.78, -0.9)), 0.14, (150, 80, 30))
    pen.ellipse(0, 0.6, 0.82, 0.3, (240, 180, 30))
    pen.box(-0.82, -0.2, 0.82, 0.58, (25, 60, 200))
    pen.ellipse(0, 0.44, 0.82, 0.28, (25, 60, 200))
    pen.ellipse(0, -0.2, 0.82, 0.32, (240, 180, 30))
    pen.ellipse(0, -0.24, 0.66, 0.2, (255, 252, 240))


def firework(pen: Pen) -> None:
    """A burst of eight broad rays, yellow and turquoise in turn."""
    for k in range(8):
        angle = 2 * math.pi * k / 8
        reach = 1.0 if k % 2 else 0.9
        left, right, shoulder = angle - 0.27, angle + 0.27, 0.7 * reach
        ray = (
            (0.0, 0.0),
            (shoulder * math.cos(left), shoulder * math.sin(left)),
            (reach * math.cos(angle), reach * math.sin(angle)),
            (shoulder * math.cos(right), shoulder * math.sin(right)),
        )
        pen.polygon(ray, (255, 230, 40) if k % 2 else (40, 225, 215))
    pen.ellipse(0, 0, 0.24, 0.24, (255, 90, 60))


def rocket(pen: Pen) -> None:
    """A white rocket with a red nose, red fins and a round window."""
    for side in (-1, 1):
        pen.polygon(((side * 0.26, 0.15), (side * 0.66, 0.62), (side * 0.62, 0.88), (side * 0.2, 0.66)), (215, 35, 40))
    pen.polygon(((-0.18, 0.7), (0.18, 0.7), (0, 1.0)), (255, 170, 30))
    body = ((-0.32, -0.4), (-0.36, 0.1), (-0.26, 0.72), (0.26, 0.72), (0.36, 0.1), (0.32, -0.4))
    pen.polygon(body, (240, 243, 250))
    pen.polygon(((0, -1), (-0.2, -0.72), (-0.33, -0.36), (0.33, -0.36), (0.2, -0.72)), (215, 35, 40))
    pen.ellipse(0, 0.0, 0.19, 0.19, (45, 130, 220))


def worm(pen: Pen) -> None:
    """A thick pink worm in waves."""
    body = [(-0.8 + 1.5 * k / 16, 0.36 * math.sin(2.1 * math.pi * k / 16)) for k in range(17)]
    pen.stroke(body, 0.46, (240, 120, 120))
    pen.stroke(body[4:7], 0.46, (205, 75, 85))
    pen.ellipse(body[-1][0], body[-1][1], 0.27, 0.27, (240, 120, 120))
    for dx in (-0.03, 0.17):
        pen.ellipse(body[-1][0] + dx, body[-1][1] - 0.06, 0.075, 0.09, (30, 15, 20))


def spider(pen: Pen) -> None:
    """A black spider with eight bent legs and red eyes."""
    black: Color = (22, 18, 28)
    for side in (-1, 1):
        for knee, foot in (((0.5, -0.66), (0.72, -0.98)), ((0.66, -0.28), (1.0, -0.42))):
            pen.stroke(((0, 0), (side * knee[0], knee[1]), (side * foot[0], foot[1])), 0.11, black)
            pen.stroke(((0, 0), (side * knee[0], -knee[1]), (side * foot[0], -foot[1])), 0.11, black)
    pen.ellipse(0, 0.2, 0.36, 0.42, black)
    pen.ellipse(0, -0.28, 0.24, 0.22, black)
    pen.ellipse(0, 0.22, 0.14, 0.2, (220, 30, 40))
    for x in (-0.1, 0.1):
        pen.ellipse(x, -0.34, 0.06, 0.06, (255, 70, 70))


OBJECT_PAINTERS: dict[str, tuple[Draw, Color]] = {  # drawing and the colour of its rim
    "balloon": (balloon, _LIGHT),
    "cake": (cake, _DARK),
    "skull": (skull, _DARK),
    "coffin": (coffin, _LIGHT),
    "rainbow": (rainbow, _LIGHT),
    "eagle": (eagle, _LIGHT),
    "flower": (flower, _LIGHT),
    "butterfly": (butterfly, _LIGHT),
    "sword": (sword, _DARK),
    "tank": (tank, _LIGHT),
    "flame": (flame, _LIGHT),
    "drum": (drum, _LIGHT),
    "firework": (firework, _DARK),
    "rocket": (rocket, _DARK),
    "worm": (worm, _LIGHT),
    "spider": (spider, _LIGHT),
}
