"""Opening a file and decoding its pixels: errors that name the file, upright RGB, JPEGs no larger than needed."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from importlib import import_module
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.Image import Transpose

from uniemo.errors import UniEmoError

Box = tuple[float, float, float, float]

JPEG_START = b"\xff\xd8\xff"
_ORIENTATION = 0x0112  # the EXIF tag; 1 is upright, the others need:
UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}


class UnreadableImageError(UniEmoError):
    """An image file that is missing or cannot be decoded.

    Args:
        path: the file.
        reason: in a few words; None where ``path`` is the traceback that PyTorch makes a loader worker's error from, of
            which the last line is taken.
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
        """Let the error travel between processes."""
        return type(self), (self.path, self.reason)


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Turn whatever a decoder raises into an error that names the file."""
    try:
        yield
    except FileNotFoundError as error:
        raise UnreadableImageError(path, "it does not exist") from error
    except UniEmoError:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImageError(path, "no picture of a known kind") from error
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0].replace(str(path), "it") if str(error) else type(error).__name__
        raise UnreadableImageError(path, reason) from error


def orientation(image: Image.Image) -> int:
    """Return how the camera was held (EXIF, 1 to 8); a damaged EXIF block counts as none."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except (OSError, ValueError, SyntaxError, KeyError, TypeError, struct.error):
        return 1
    return value if value in UPRIGHT else 1


def _grey16(image: Image.Image) -> Image.Image:
    """Return an 8-bit grey image for 16-bit integers, 32-bit integers (a 16-bit range) or floats in [0, 1]."""
    values = np.asarray(image).astype(np.float64)
    scale = 255.0 if image.mode == "F" else 1 / 257.0  # 65535 / 255
    return Image.fromarray(np.clip(np.rint(values * scale), 0, 255).astype(np.uint8))


def flatten(image: Image.Image) -> Image.Image:
    """Return RGB; transparency is laid over white."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I") or image.mode == "F":
        return _grey16(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


class JpegHeader(NamedTuple):
    """What a JPEG says of itself in front of its pixels.

    Attributes:
        width: of the stored picture, in pixels.
        height: of the stored picture, in pixels.
        rgb: whether it has three colours.
        orientation: EXIF value, 1 to 8, that turns the stored pixels upright.
    """

    width: int
    height: int
    rgb: bool
    orientation: int


class LargeJpeg:
    """A JPEG file of which only the header has been looked at, to be decoded at the scale that a cut needs.

    Args:
        path: the file.
        data: what it holds.
        header: see :func:`jpeg_header`.

    Attributes:
        orientation: EXIF value, 1 to 8, that turns the stored pixels upright.
        width: of the upright picture, in pixels.
        height: of the upright picture, in pixels.
    """

    def __init__(self, path: Path, data: bytes, header: JpegHeader) -> None:
        self.path = path
        self._data = data
        self._header = header
        self.orientation = header.orientation
        self.width, self.height = header[:2] if self.orientation < 5 else (header.height, header.width)

    def cut(self, box: Box, size: int) -> tuple[NDArray[np.uint8], Box]:
        """Decode the picture as small as a cut of it allows.

        Args:
            box: (left, upper, right, lower) in pixels of the upright picture.
            size: pixels that the box's shorter side must keep, where it has them at all.

        Returns:
            (H, W, 3), the stored picture, not turned, at 1/1, 1/2, 1/4 or 1/8 of its size; and the box in its pixels.

        Raises:
            UnreadableImageError: the pixels cannot be decoded.
        """
        left, upper, right, lower = stored_box(box, self.orientation, self._header.width, self._header.height)
        room = min(right - left, lower - upper) / size
        scale = next((scale for scale in (8, 4, 2) if scale <= room), 1)
        with reading(self.path):
            pixels = _decode_turbo(self._data, self._header, scale)
            if pixels is None:
                pixels = _decode_pillow(self._data, scale)
        return pixels, (left / scale, upper / scale, right / scale, lower / scale)


@cache
def _simplejpeg() -> ModuleType | None:
    """Return the package simplejpeg where it is installed."""
    try:
        return import_module("simplejpeg")
    except ImportError:
        return None


def _has_more(data: bytes) -> bool:
    """Return whether a JPEG's header has what simplejpeg does not tell: EXIF, further pictures, anything odd."""
    place = 2
    while data[place : place + 1] == b"\xff":
        marker, length = data[place + 1 : place + 2], int.from_bytes(data[place + 2 : place + 4], "big")
        if marker == b"\xda":  # the pixels begin
            return False
        if marker == b"\xe1" or data[place + 4 : place + 8] == b"MPF\0":
            return True
        place += 2 + length
    return True


def jpeg_header(data: bytes) -> JpegHeader | None:
    """Look at the header of a file: with simplejpeg where it is enough, which is quicker, else with Pillow.

    Args:
        data: what the file holds.

    Returns:
        None for a file that is no JPEG of a single picture.

    Raises:
        OSError: the header is damaged (or whatever else Pillow raises then, see :func:`reading`).
    """
    if not data.startswith(JPEG_START):
        return None
    turbo, most = _simplejpeg(), Image.MAX_IMAGE_PIXELS
    if turbo is not None and not _has_more(data):
        with suppress(ValueError):
            height, width, colours, _ = turbo.decode_jpeg_header(data)
            if most is None or width * height <= most:  # of larger ones Pillow warns
                return JpegHeader(width, height, colours in ("YCbCr", "RGB"), 1)
    with Image.open(BytesIO(data)) as image:
        if image.format != "JPEG":  # MPO: several pictures in one file
            return None
        return JpegHeader(image.width, image.height, image.mode == "RGB", orientation(image))


def _decode_turbo(data: bytes, header: JpegHeader, scale: int) -> NDArray[np.uint8] | None:
    """Decode a JPEG with simplejpeg: the same pixels as Pillow's in less time.

    Returns:
        (H, W, 3); None where the package is not installed, or for what is better left to Pillow: other colours than
        RGB, and files with anything amiss, which Pillow reads or refuses.
    """
    turbo = _simplejpeg()
    if turbo is None or not header.rgb:
        return None
    least = {"min_width": -(-header.width // scale), "min_height": -(-header.height // scale), "min_factor": 1}
    try:
        return turbo.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, strict=True, **least)
    except ValueError:
        return None


def _decode_pillow(data: bytes, scale: int) -> NDArray[np.uint8]:
    """Return (H, W, 3), a JPEG of any colours decoded by Pillow."""
    with Image.open(BytesIO(data)) as image:
        if scale > 1:
            image.draft(None, (image.width // scale, image.height // scale))
        image.load()
        return np.asarray(flatten(image))


def stored_box(box: Box, orientation: int, width: int, height: int) -> Box:
    """Return where a box of the upright picture lies in the stored one.

    Args:
        box: (left, upper, right, lower) of the upright picture.
        orientation: EXIF value, 1 to 8.
        width: of the stored picture.
        height: of the stored picture.
    """
    left, upper, right, lower = box
    if orientation >= 5:
        left, upper, right, lower = upper, left, lower, right
    if orientation in (2, 3, 7, 8):
        left, right = width - right, width - left
    if orientation in (3, 4, 6, 7):
        upper, lower = height - lower, height - upper
    return left, upper, right, lower
