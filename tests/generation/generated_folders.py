"""Small runs of ``uniemo generate`` and how their images are compared."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.tiny_runs import trained
from uniemo.generation.sampling import plan_images


def joint():
    return str(trained("joint") / "best.ckpt")


def arguments(*more, out="out"):
    fixed = ["generate", "--ckpt", joint(), "--emotion", "all", "--num", "2", "--steps", "2", "--out", out]
    return [*fixed, *more]


def pixels(folder):
    """Return the images of a folder by name, (H, W, 3) each."""
    files = sorted(Path(folder).glob("*/*.png"))
    return {file.relative_to(folder).as_posix(): np.asarray(Image.open(file)) for file in files}


def psnr(first, second):
    """Return the peak signal-to-noise ratio of byte images in dB."""
    error = np.square(first.astype(np.float64) - second.astype(np.float64)).mean()
    return np.inf if error == 0 else 10 * np.log10(255**2 / error)


def assert_same_images(first, second):
    """No pixel differs but by rounding, and most not at all."""
    assert first.keys() == second.keys()
    ratios = [psnr(first[name], second[name]) for name in first]
    assert min(ratios) >= 50
    assert np.mean([np.mean(first[name] == second[name]) for name in first]) > 0.99


def rows_of(num=3):
    """Return rows of two emotions and of a mixture."""
    mixes = ({"awe": 1.0}, {"fear": 1.0}, {"awe": 0.7, "fear": 0.3})
    return [row for mix in mixes for row in plan_images(mix, num, 5)]
