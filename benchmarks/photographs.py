"""A tree in EmoSet's layout whose pictures are real JPEG files of photographs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.decoding import photographs
from benchmarks.startup import write_tree

SMALLEST, LARGEST = (500, 375), (1000, 750)  # what EmoSet's pictures mostly lie between


def write_photograph_tree(root: Path, images: int, seed: int = 0) -> None:
    """Write about ``images`` pictures, each another cut of a photograph that installed packages ship, with annotations.

    Names are as many as EmoSet has: 254 scenes and 409 objects. A file has some 60 to 200 kB.

    Args:
        root: folder to make.
        images: in all three splits, divided as EmoSet divides them but at least 16 in each.
        seed: of cuts, sizes and names.
    """
    write_tree(root, images, seed=seed)
    rng, shown = np.random.default_rng(seed), list(photographs().values())
    for path in sorted((root / "image").glob("*/*.jpg")):
        photograph = shown[rng.integers(len(shown))]
        share = rng.uniform(0.6, 1.0)
        width, height = round(photograph.width * share), round(photograph.height * share)
        left, upper = rng.integers(0, 1 + photograph.width - width), rng.integers(0, 1 + photograph.height - height)
        scale = rng.uniform()
        size = tuple(round(low + (high - low) * scale) for low, high in zip(SMALLEST, LARGEST, strict=True))
        picture = photograph.crop((int(left), int(upper), int(left) + width, int(upper) + height))
        picture.resize(size, Image.Resampling.LANCZOS).save(path, quality=90)
