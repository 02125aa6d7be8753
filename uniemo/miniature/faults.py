"""What goes wrong with image files on real disks, made on purpose."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from PIL import Image, ImageDraw, ImageOps

FAULTS: tuple[str, ...] = (
    "truncated",  # cut in the middle of the pixels
    "zero_byte",
    "cmyk",
    "grey",
    "sixteen_bit",  # grey PNG of 16 bits
    "palette",  # a PNG that is called .jpg
    "animated",  # a GIF of three frames that is called .jpg; only the first frame is the painting
    "exif",  # stored on its side, orientation 6
    "upper_extension",
    "script_name",
    "duplicate_across_splits",  # a test image has the bytes of a training image of its class
    "placeholder",  # three different images are the same "no longer available" picture
    "missing_annotation",
    "missing_image",
    "label_case",
    "unknown_label",
)
_ORIENTATION, _TURN_RIGHT = 0x0112, 6  # EXIF tag; value: turn by 90° clockwise to see it upright


def encode(image: Image.Image, suffix: str = ".jpg", fault: str | None = None) -> bytes:
    """Return the bytes of an RGB image's file, PNG or else JPEG by its suffix, where the fault does not say more."""
    if fault == "zero_byte":
        return b""
    if fault == "placeholder":
        return _save(_placeholder(image.size), "JPEG")
    if fault == "cmyk":
        return _save(image.convert("CMYK"), "JPEG")
    if fault == "grey":
        return _save(image.convert("L"), "JPEG")
    if fault == "sixteen_bit":
        return _save(Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257), "PNG")
    if fault == "palette":
        return _save(image.quantize(64), "PNG")
    if fault == "animated":
        stream = BytesIO()
        others = [ImageOps.invert(image), ImageOps.mirror(image)]
        image.save(stream, "GIF", save_all=True, append_images=others, duration=100, loop=0)
        return stream.getvalue()
    if fault == "exif":
        exif = Image.Exif()
        exif[_ORIENTATION] = _TURN_RIGHT
        return _save(image.transpose(Image.Transpose.ROTATE_90), "JPEG", exif=exif.tobytes())
    data = _save(image, "PNG" if suffix.lower() == ".png" else "JPEG")
    if fault == "truncated":
        pixels = data.rindex(b"\xff\xda")  # JPEG's start of scan
        return data[: (pixels + len(data)) // 2]
    return data


def _save(image: Image.Image, format: str, exif: bytes = b"") -> bytes:
    """Encode as JPEG (4:4:4 keeps small colours) or PNG."""
    stream = BytesIO()
    options = {"quality": 95, "subsampling": 0, "exif": exif} if format == "JPEG" else {}
    image.save(stream, format, **options)
    return stream.getvalue()


def _placeholder(size: tuple[int, int]) -> Image.Image:
    """Return what a photo site shows in place of a photo that is gone."""
    image = Image.new("RGB", size, (238, 238, 238))
    pen = ImageDraw.Draw(image)
    width, height = size
    pen.rectangle((width // 8, height // 4, width - width // 8, height - height // 4), outline=(160, 160, 160))
    pen.line((width // 8, height // 4, width - width // 8, height - height // 4), fill=(160, 160, 160))
    return image
