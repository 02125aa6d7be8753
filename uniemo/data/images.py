"""Reading picture files: one way in, whatever the file holds."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import get_worker_info

from uniemo.data.decoding import (
    JPEG_START,
    UPRIGHT,
    LargeJpeg,
    UnreadableImageError,
    flatten,
    jpeg_header,
    orientation,
    reading,
)
from uniemo.data.image_headers import check_files, check_header
from uniemo.errors import UniEmoError

__all__ = [
    "IMAGE_SUFFIXES",
    "ImageCache",
    "LargeJpeg",
    "UnreadableImageError",
    "check_files",
    "check_header",
    "load_images",
    "read_image",
    "read_mask",
    "to_rgb",
]

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp"})
SMALL = 128  # shorter side in pixels up to which a training picture is always decoded whole and kept in memory


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an upright RGB image; transparency is laid over white, of an animation the first frame is taken.

    Args:
        image: any mode that Pillow opens (grey, 16-bit grey, palette, CMYK, with or without transparency).
    """
    turn = UPRIGHT.get(orientation(image))
    image = flatten(image)
    return image if turn is None else image.transpose(turn)


def read_image(path: str | Path, smallest: int | None = None) -> Image.Image:
    """Read a picture as upright RGB (see :func:`to_rgb`).

    Args:
        path: the file.
        smallest: the shorter side's pixels that suffice; a JPEG is then decoded at the smallest of 1/1, 1/2, 1/4 and
            1/8 of its size that has them. None reads every pixel.

    Raises:
        UnreadableImageError: the file is missing, truncated, empty or no picture; the message holds its path.
    """
    with reading(path), Image.open(path) as image:
        if smallest is not None:
            image.draft(None, (smallest, smallest))
        image.load()
        return to_rgb(image)


def read_mask(path: str | Path) -> Image.Image:
    """Read a grey-scale mask (mode ``L``).

    Raises:
        UnreadableImageError: as for :func:`read_image`.
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
        return kept if kept is not None else self._keep(path, read_mask(path) if mask else read_image(path))

    def open(self, path: Path) -> Image.Image | LargeJpeg:
        """Return the picture at ``path``, a large JPEG with its pixels still to be decoded.

        A large JPEG is decoded anew each time, kept or not: at the scale that is needed this is quicker than to cut the
        kept one, and what comes out never depends on what was asked for before.
        """
        kept = self._images.get(path)
        if kept is not None and min(kept.size) <= SMALL:
            return kept
        with reading(path), open(path, "rb", buffering=0) as file:
            if kept is not None and file.read(len(JPEG_START)) != JPEG_START:
                return kept
            file.seek(0)
            data = file.read()
            header = jpeg_header(data)
            if header is not None and min(header.width, header.height) > SMALL:
                return LargeJpeg(path, data, header)
            if kept is not None:
                return kept
            with Image.open(BytesIO(data)) as image:
                image.load()
                return self._keep(path, to_rgb(image))

    def _keep(self, path: Path, image: Image.Image) -> Image.Image:
        """Return ``image``, kept if it fits."""
        size = image.width * image.height * (1 if image.mode == "L" else 4)  # Pillow stores RGB in four bytes
        if not self._images and size * self.expected > self.budget:
            self.budget = 0
        if self.used + size <= self.budget and get_worker_info() is None:
            self.used += size
            self._images[path] = image
        return image
