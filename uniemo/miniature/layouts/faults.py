"""What goes wrong on real disks, made on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from uniemo.errors import UniEmoError

if TYPE_CHECKING:
    from .shots import Shot

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
CONTENT_FAULTS = FAULTS[: FAULTS.index("exif") + 1]
UNKNOWN_LABEL = "boredom"

_ORIENTATION, _TURN_RIGHT = 0x0112, 6  # EXIF tag; value: turn by 90° clockwise to see it upright
_SCRIPTS = "写真_фото_صورة_"
_SHOTS = {"duplicate_across_splits": 2, "placeholder": 3}  # how many images a fault takes; else one


def encode(image: Image.Image, suffix: str = ".jpg", fault: str | None = None) -> bytes:
    """Return an image file's bytes.

    Args:
        image: RGB.
        suffix: decides the format of files whose fault does not: PNG or else JPEG.
        fault: one of ``FAULTS``.
    """
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
    if format == "JPEG":
        image.save(stream, format, quality=95, subsampling=0, exif=exif)
    else:
        image.save(stream, format)
    return stream.getvalue()


def _placeholder(size: tuple[int, int]) -> Image.Image:
    """Draw what a photo site shows in place of a photo that is gone."""
    image = Image.new("RGB", size, (238, 238, 238))
    pen = ImageDraw.Draw(image)
    width, height = size
    pen.rectangle((width // 8, height // 4, width - width // 8, height - height // 4), outline=(160, 160, 160))
    pen.line((width // 8, height // 4, width - width // 8, height - height // 4), fill=(160, 160, 160))
    return image


def assign(
    shots: Sequence[Shot], faults: Sequence[str], rng: np.random.Generator, by_split: bool
) -> dict[str, list[Shot]]:
    """Give each fault images of its own and change their names and labels where the fault is about those.

    Args:
        shots: the plan; changed in place.
        faults: which ones.
        rng: the only source of chance.
        by_split: a duplicate lies in train and in test, not just anywhere.

    Returns:
        The shots of each fault.

    Raises:
        UniEmoError: the tree has too few images for the faults.
    """
    free = [shots[i] for i in rng.permutation(len(shots))]
    given: dict[str, list[Shot]] = {}
    for fault in sorted(set(faults), key=lambda fault: (fault != "duplicate_across_splits", FAULTS.index(fault))):
        count = _SHOTS.get(fault, 1)
        chosen = _pair(free, by_split) if fault == "duplicate_across_splits" else free[:count]
        if len(chosen) < count:
            raise UniEmoError(f"images must be enough for each fault to strike its own; got {len(shots)}: paint more")
        for shot in chosen:
            free.remove(shot)
        _mark(fault, chosen)
        given[fault] = chosen
    return given


def _pair(free: Sequence[Shot], by_split: bool) -> list[Shot]:
    """Return two shots of one class, the first in train, the second in test where splits count."""
    for first in free:
        for second in free:
            apart = first is not second and (not by_split or (first.split, second.split) == ("train", "test"))
            if apart and first.name == second.name:
                return [first, second]
    return []


def _mark(fault: str, chosen: Sequence[Shot]) -> None:
    """Write a fault down in its shots."""
    for shot in chosen:
        shot.struck = True
    if fault == "duplicate_across_splits":
        chosen[1].source = chosen[0]
        return
    for shot in chosen:
        shot.fault = fault
        if fault == "sixteen_bit":
            shot.suffix = ".png"
        elif fault == "upper_extension":
            shot.suffix = shot.suffix.upper()
        elif fault == "script_name":
            shot.stem = _SCRIPTS + shot.stem
        elif fault == "label_case":
            shot.name = shot.name.capitalize()
        elif fault == "unknown_label":
            shot.name = UNKNOWN_LABEL
