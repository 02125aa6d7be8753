"""Reading picture files: one way in, whatever the file holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import get_worker_info

from uniemo.errors import UniEmoError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})


def _grey16(image: Image.Image) -> Image.Image:
    """Return an 8-bit grey image for 16-bit integers, 32-bit integers (a 16-bit range) or floats in [0, 1]."""
    values = np.asarray(image).astype(np.float64)
    scale = 255.0 if image.mode == "F" else 1 / 257.0  # 65535 / 255
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an upright RGB image; transparency is laid over white, of an animation the first frame is taken.

    Args:
        image: any mode that Pillow opens (grey, 16-bit grey, palette, CMYK, with or without transparency).
    """
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _grey16(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def read_image(path: str | Path) -> Image.Image:
    """Read a picture as upright RGB (see :func:`to_rgb`).

    Raises:
        UniEmoError: the file is missing, truncated, empty or no picture; the message holds its path.
    """
    try:
        with Image.open(path) as image:
            image.load()
            return to_rgb(image)
    except FileNotFoundError as error:
        raise UniEmoError(f"image must exist; {path} does not: restore the file or take it off the list") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0].replace(str(path), "it") if str(error) else type(error).__name__
        raise UniEmoError(
            f"image must be readable; {path} is not ({reason}): restore the file or take it off"
        ) from error


def read_mask(path: str | Path) -> Image.Image:
    """Read a grey-scale mask (mode ``L``).

    Raises:
        UniEmoError: as for :func:`read_image`.
    """
    return read_image(path).convert("L")


def load_images(files: Sequence[Path]) -> Tensor:
    """Read pictures of one size as a tensor.

    Returns:
        (n, 3, H, W) in [0, 1].

    Raises:
        UniEmoError: a file cannot be read, or sizes differ.
    """
    pictures = [read_image(path) for path in files]
    for path, picture in zip(files, pictures, strict=True):
        if picture.size != pictures[0].size:
            raise UniEmoError(f"images must all have one size; {path} has not that of {files[0]}: generate again")
    pixels = np.stack([np.asarray(picture) for picture in pictures])  # (n, H, W, 3)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


class ImageCache:
    """Decoded pictures kept in memory while all of a data set's pictures fit.

    Args:
        expected: number of pictures that will be asked for.
        budget: bytes that they may take decoded; 0 keeps none. Whether they fit is judged by the first picture met, and
            the budget is never exceeded whatever the others are. Worker processes keep nothing: memory would grow with
            their number.
    """

    def __init__(self, expected: int, budget: int = 256 * 2**20) -> None:
        self.expected = expected
        self.budget = budget
        self.used = 0
        self._images: dict[Path, Image.Image] = {}

    def __len__(self) -> int:
        """Return how many pictures are kept."""
        return len(self._images)

    def read(self, path: Path, mask: bool = False) -> Image.Image:
        """Return the picture (RGB) or mask (grey) at ``path``; callers must not write into it."""
        kept = self._images.get(path)
        if kept is not None:
            return kept
        image = read_mask(path) if mask else read_image(path)
        size = image.width * image.height * (1 if mask else 4)  # Pillow stores RGB in four bytes
        if not self._images and size * self.expected > self.budget:
            self.budget = 0
        if self.used + size <= self.budget and get_worker_info() is None:
            self.used += size
            self._images[path] = image
        return image
