"""Pictures as data: URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from uniemo.report.reading import Notes

WIDEST = 2000  # pixels; what is wider is shown smaller
HEAVIEST = 600_000  # bytes of a file that goes in as it is


@dataclass(frozen=True)
class Picture:
    """A picture in a page: ``uri`` holds it, ``width`` and ``height`` are the shown ones, ``note`` is for below it."""

    title: str
    uri: str
    width: int
    height: int
    note: str = ""


def embed(path: Path, title: str, notes: Notes, note: str = "") -> Picture | None:
    """Return a picture file for a page, made smaller where it is very large; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            image.load()
            kind, content = image.format, path.read_bytes()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        notes.add(path, error)
        return None
    if kind not in ("PNG", "JPEG") or image.width > WIDEST or len(content) > HEAVIEST:
        size = (WIDEST, max(1, round(image.height * WIDEST / image.width)))
        shown = image.convert("RGB") if image.width <= WIDEST else image.convert("RGB").resize(size)
        kind, content = "JPEG", _jpeg(shown)
        if shown.width < image.width:
            note = " ".join(filter(None, (note, f"Shown smaller; the file has {image.width} × {image.height} pixels.")))
        image = shown
    text = base64.b64encode(content).decode("ascii")
    return Picture(title, f"data:image/{str(kind).lower()};base64,{text}", image.width, image.height, note)


def _jpeg(image: Image.Image) -> bytes:
    """Return a picture as JPEG, lines and letters still crisp."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=88, subsampling=0)
    return buffer.getvalue()
