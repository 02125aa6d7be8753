"""Render a page, with pictures embedded in it."""

from __future__ import annotations

import base64
import datetime
import io
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from uniemo import __version__
from uniemo.studies.run_files import Notes

MARK = '<meta name="generator" content="uniemo report">'  # distinguishes a report from other files
WIDEST = 2000  # pixels; wider pictures are shown smaller
_HEAVIEST = 600_000  # bytes of a file that is embedded as it is


@dataclass(frozen=True)
class Picture:
    """A picture in a page: ``uri`` holds it, ``width`` and ``height`` are the shown ones, ``note`` stands below."""

    title: str
    uri: str
    width: int
    height: int
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Text cells; the first column names the rows, ``note`` stands below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def render(template: str, **content: Any) -> str:  # noqa: ANN401
    """Return the page that a template makes of its content; every text is escaped."""
    templates = Environment(
        loader=PackageLoader("uniemo.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    now = datetime.datetime.now(datetime.timezone.utc)
    made = f"{now:%Y-%m-%d %H:%M} UTC, uniemo {__version__}, Python {platform.python_version()}"
    return templates.get_template(template).render(made=made, mark=MARK, **content)


def embed(path: Path, title: str, notes: Notes, note: str = "") -> Picture | None:
    """Return a picture file for a page, made smaller where it is very large; None where it cannot be read."""
    try:
        with Image.open(path) as image:
            image.load()
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        notes.add(path, error)
        return None
    kind, content = str(image.format), path.read_bytes()
    if kind not in ("PNG", "JPEG") or image.width > WIDEST or len(content) > _HEAVIEST:
        shown = image.convert("RGB")
        if image.width > WIDEST:
            shown = shown.resize((WIDEST, max(1, round(image.height * WIDEST / image.width))))
            note = f"{note} Shown smaller; the file has {image.width} × {image.height} pixels.".strip()
        buffer = io.BytesIO()
        shown.save(buffer, format="JPEG", quality=88, subsampling=0)  # lines and letters stay crisp
        kind, content, image = "JPEG", buffer.getvalue(), shown
    return Picture(title, data_uri(content, kind.lower()), image.width, image.height, note)


def data_uri(content: bytes, kind: str) -> str:
    """Return an image as a ``data:`` URI."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"
