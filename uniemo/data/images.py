"""Read image files: any format as upright RGB, and large training JPEGs at the smallest scale that suffices."""

from __future__ import annotations

import os
import struct
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import SEEK_END, BytesIO
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.Image import Transpose
from torch import Tensor
from torch.utils.data import get_worker_info

from uniemo.errors import UniEmoError, first_line

SMALL = 128  # shorter side in pixels up to which a training image is always decoded at full size
Box = tuple[float, float, float, float]

_UPRIGHT = {  # by EXIF orientation; 1 is upright
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
_JPEG_END = b"\xff\xd9"
_TAIL = 1024  # bytes at a file's end; some programs append a few
_DECODER_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error)


class UnreadableImageError(UniEmoError):
    """An image file that is missing or cannot be decoded.

    Args:
        path: the file; or the traceback text from which PyTorch rebuilds a loader worker's error, whose last line is
            taken.
        reason: in a few words; None where ``path`` is such a traceback.
    """

    def __init__(self, path: str | Path, reason: str | None = None) -> None:
        if reason is None:
            message = str(path).strip().rpartition(f"{type(self).__name__}: ")[2]
        else:
            message = f"image must be readable; {path} is not ({reason}): restore the file or take it off the list"
        super().__init__(message)
        self.path = path
        self.reason = reason or message

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[str | Path, str]]:
        """Pickle the arguments, so that the error passes between processes."""
        return type(self), (self.path, self.reason)


@contextmanager
def image_errors(path: str | Path) -> Iterator[None]:
    """Turn any decoder's exception into an UnreadableImageError that names the file."""
    from uniemo.data.files import register_heic

    register_heic()
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableImageError(path, "it does not exist") from error
    except UnidentifiedImageError as error:
        empty = os.path.isfile(path) and not os.path.getsize(path)  # path may also name a row of a shard
        raise UnreadableImageError(path, "zero bytes" if empty else "no picture of a known kind") from error
    except Image.DecompressionBombError as error:
        reason = (
            f"more than {2 * (Image.MAX_IMAGE_PIXELS or 0) // 10**6} megapixels, the most that are read; scale it down"
        )
        raise UnreadableImageError(path, reason) from error
    except _DECODER_ERRORS as error:
        raise UnreadableImageError(path, first_line(error).replace(str(path), "it")) from error


def _check_regular(path: str | Path) -> None:
    from uniemo.text_files import check_regular

    check_regular(path)


def verify_image(path: str | Path) -> str | None:
    """Return why a file is no whole image, or None; see :func:`check_whole`."""
    try:
        with image_errors(path):
            _check_regular(path)
            with open(path, "rb") as file, Image.open(file) as image:
                check_whole(image, file)
    except UnreadableImageError as error:
        return error.reason
    return None


def check_whole(image: Image.Image, file: BinaryIO) -> None:
    """Raise a decoder's error for an image that is cut off or damaged; it cannot be used afterwards.

    Pillow verifies PNG without transparency to the end without decoding it. Of a JPEG that ends as it should the end
    alone is read: nearly all of those that are damaged are cut off. Only what seems to be cut off, or is of another
    kind, is decoded.
    """
    if image.format == "PNG" and not image.has_transparency_data:
        _check_size(image)
        image.verify()
        return
    place = file.tell()
    file.seek(max(0, file.seek(0, SEEK_END) - _TAIL))
    whole = image.format == "JPEG" and _JPEG_END in file.read()
    file.seek(place)
    if not whole:
        to_rgb(image)


def _check_size(image: Image.Image) -> None:
    if image.size == (1, 1):
        raise ValueError("a single pixel, as pages put in the place of pictures")


def exif_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; a damaged EXIF block counts as upright (1)."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (*_DECODER_ERRORS, KeyError, TypeError):
        return 1
    return value if value in _UPRIGHT else 1


def _flatten(image: Image.Image) -> Image.Image:
    """Return RGB of the pixels as stored; 16-bit and float grey is scaled to 8 bits, transparency laid over white.

    Raises:
        ValueError: what white is cannot be known, or nothing is to be seen.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float64)
        white = 1.0 if image.mode == "F" else 65535.0
        low, high = values.min(), values.max()
        if not 0 <= low <= high <= white or (image.mode == "I" and image.format == "TIFF"):  # nan is not
            raise ValueError(
                f"{'floating-point' if image.mode == 'F' else '32-bit'} pixels from {low:g} to {high:g}, whose white "
                "is unknown; save it with 8 or 16 bits"
            )
        return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        if layer.getchannel("A").getextrema() == (0, 0):
            raise ValueError("fully transparent")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def to_rgb(image: Image.Image) -> Image.Image:
    """Return an upright RGB image; transparency is laid over white, of an animation the first frame is taken.

    Raises:
        ValueError: a single pixel, fully transparent, or numbers whose white is unknown.
    """
    _check_size(image)
    image.load()  # Pillow turns TIFF files upright here
    transpose = _UPRIGHT.get(exif_orientation(image))
    image = _flatten(image)
    return image if transpose is None else image.transpose(transpose)


def read_image(path: str | Path) -> Image.Image:
    """Read an image as upright RGB (see :func:`to_rgb`).

    Raises:
        UnreadableImageError: the file is missing, truncated, empty or no image; the message holds its path.
    """
    with image_errors(path):
        _check_regular(path)
        with Image.open(path) as image:
            return to_rgb(image)


def read_mask(path: str | Path) -> Image.Image:
    """Read a grey-scale mask (mode ``L``); errors as for :func:`read_image`."""
    return read_image(path).convert("L")


def load_images(files: Sequence[Path]) -> Tensor:
    """Read images of one size as a tensor.

    Returns:
        (n, 3, H, W) in [0, 1].

    Raises:
        UniEmoError: a file cannot be read, or sizes differ.
    """
    images = [read_image(path) for path in files]
    for path, image in zip(files, images, strict=True):
        if image.size != images[0].size:
            raise UniEmoError(f"images must all have one size; {path} has not that of {files[0]}: generate again")
    pixels = np.stack([np.asarray(image) for image in images])  # (n, H, W, 3)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255


class LargeJpeg:
    """A JPEG file whose pixels are decoded crop by crop, at the scale that the crop needs.

    Args:
        path: the file, or what errors call it.
        data: its content.
        header: the file as Pillow opens it.

    Attributes:
        width: of the upright image, in pixels.
        height: of the upright image, in pixels.
    """

    def __init__(self, path: str | Path, data: bytes, header: Image.Image) -> None:
        self.path = path
        self._data = data
        self._stored = header.size
        self._rgb = header.mode == "RGB"
        self._orientation = exif_orientation(header)
        self.width, self.height = header.size if self._orientation < 5 else header.size[::-1]

    def crop(self, box: Box, size: int) -> Tensor:
        """Decode a crop at 1/1, 1/2, 1/4 or 1/8 of the stored size.

        Args:
            box: (left, upper, right, lower) in pixels of the upright image; rounded to whole pixels of the scale.
            size: pixels that the crop's shorter side keeps, where the box has as many.

        Returns:
            (3, h, w) uint8, upright.

        Raises:
            UnreadableImageError: the pixels cannot be decoded.
        """
        room = min(box[2] - box[0], box[3] - box[1]) / size
        scale = next((scale for scale in (8, 4, 2) if scale <= room), 1)
        with image_errors(self.path):
            pixels = self._upright(self._decode(scale))
        left, upper, right, lower = (round(edge / scale) for edge in box)
        return torch.from_numpy(np.ascontiguousarray(pixels[upper:lower, left:right])).permute(2, 0, 1)

    def _decode(self, scale: int) -> NDArray[np.uint8]:
        """Return (H, W, 3) as stored: simplejpeg is quicker, Pillow reads every colour space and tolerates more."""
        if self._rgb:
            width, height = (-(-side // scale) for side in self._stored)
            with suppress(ValueError):
                return simplejpeg.decode_jpeg(
                    self._data, fastdct=False, fastupsample=False, min_width=width, min_height=height, min_factor=1
                )
        with Image.open(BytesIO(self._data)) as image:
            image.draft(None, (image.width // scale, image.height // scale))
            return np.array(_flatten(image))

    def _upright(self, pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return stored pixels (H, W, 3) as an upright view."""
        if self._orientation in (2, 3, 7, 8):
            pixels = pixels[:, ::-1]
        if self._orientation in (3, 4, 6, 7):
            pixels = pixels[::-1]
        return pixels if self._orientation < 5 else pixels.transpose(1, 0, 2)


def open_image(path: Path) -> Image.Image | LargeJpeg:
    """Read a training image; a JPEG whose shorter side exceeds 128 pixels is not decoded yet.

    Raises:
        UnreadableImageError: as for :func:`read_image`.
    """
    with image_errors(path):
        _check_regular(path)
        data = path.read_bytes()
    return decode_image(path, data)


def decode_image(path: str | Path, data: bytes, whole: bool = False) -> Image.Image | LargeJpeg:
    """Return the image in a file's content, as :func:`open_image` does.

    Args:
        path: what errors call it.
        data: the content.
        whole: decode large JPEGs too.

    Raises:
        UnreadableImageError: as for :func:`read_image`.
    """
    with image_errors(path):
        if not data:
            raise ValueError("zero bytes")
        with Image.open(BytesIO(data)) as image:
            # MPO, several images in one file, is another format
            if not whole and image.format == "JPEG" and min(image.size) > SMALL:
                return LargeJpeg(path, data, image)
            return to_rgb(image)


class ImageCache:
    """Decoded images kept in memory while all of a dataset's images fit.

    Args:
        expected: number of images that will be asked for.
        budget: bytes that they may take decoded; 0 keeps none. Whether they fit is judged by the first image, and the
            budget is never exceeded. Loader workers keep nothing: memory would grow with their number.
    """

    def __init__(self, expected: int, budget: int = 256 * 2**20) -> None:
        self.expected = expected
        self.budget = budget
        self.used = 0
        self._images: dict[Hashable, Image.Image] = {}

    def __len__(self) -> int:
        """Return how many images are kept."""
        return len(self._images)

    def read(self, path: Path, mask: bool = False) -> Image.Image:
        """Return the image (RGB) or mask (grey) at ``path``; callers must not write into it."""
        kept = self._images.get((path, "whole"))
        return kept or self._keep((path, "whole"), read_mask(path) if mask else read_image(path))

    def open(self, path: Path) -> Image.Image | LargeJpeg:
        """Return :func:`open_image` of ``path``; large JPEGs are never kept."""
        image = self._images.get((path, "training")) or open_image(path)
        return self._keep((path, "training"), image) if isinstance(image, Image.Image) else image

    def _keep(self, key: Hashable, image: Image.Image) -> Image.Image:
        """Return ``image``, kept if it fits."""
        size = image.width * image.height * (1 if image.mode == "L" else 4)  # Pillow stores RGB in four bytes
        if not self._images and size * self.expected > self.budget:
            self.budget = 0
        if key not in self._images and self.used + size <= self.budget and get_worker_info() is None:
            self.used += size
            self._images[key] = image
        return image
