"""Sheets of pictures: labelled rows under column headings, in titled panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.font_manager import findfont
from PIL import Image, ImageDraw, ImageFont

CELL = 96  # pixels of a picture's side at least; large ones are made as small
GAP, GROUP_GAP = 4, 18  # between pictures, and between groups of them
MARGIN = 20
INK, SOFT, PAPER, EMPTY = "#1d2126", "#5d6570", "white", "#eef0f3"
_TEXT, _TITLE = 14, 18  # sizes


@dataclass(frozen=True)
class Panel:
    """A part of a sheet.

    Attributes:
        title: above it; empty for none.
        columns: headings.
        rows: label, and for each column its pictures; a column without any is left grey.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, tuple[tuple[Path, ...], ...]], ...]

    @property
    def each(self) -> int:
        """Pictures of a column, side by side."""
        return max((len(group) for _, groups in self.rows for group in groups), default=1) or 1


def draw_sheet(panels: Sequence[Panel]) -> Image.Image:
    """Lay out panels below each other.

    Small pictures are enlarged by a whole factor without smoothing, large ones made smaller.

    Args:
        panels: at least one.

    Returns:
        An RGB picture.
    """
    file = findfont("DejaVu Sans")  # comes with matplotlib; Pillow's own has no Greek
    font, bold = ImageFont.truetype(file, _TEXT), ImageFont.truetype(file, _TITLE)
    left = MARGIN + max(
        int(font.getlength(line)) for panel in panels for label, _ in panel.rows for line in _lines(label)
    )
    left += GROUP_GAP
    width = max(left + _across(panel, len(panel.columns)) - GROUP_GAP + MARGIN for panel in panels)
    width = max(width, *(2 * MARGIN + int(bold.getlength(panel.title)) for panel in panels))
    height = MARGIN + sum(_height(panel) + MARGIN for panel in panels)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw, top = ImageDraw.Draw(sheet), MARGIN
    for panel in panels:
        if panel.title:
            draw.text((MARGIN, top), panel.title, fill=INK, font=bold)
        line = top + (_TITLE + 14 if panel.title else 0)
        for column, name in enumerate(panel.columns):
            centre = left + _across(panel, column) + (panel.each * (CELL + GAP) - GAP) // 2
            draw.text((centre, line), name, fill=SOFT, font=font, anchor="ma")
        line += _TEXT + 10 if any(panel.columns) else 0
        for label, groups in panel.rows:
            draw.multiline_text((MARGIN, line + CELL // 2), "\n".join(_lines(label)), fill=INK, font=font, anchor="lm")
            for column, group in enumerate(groups):
                for place in range(panel.each):
                    at = (left + _across(panel, column) + place * (CELL + GAP), line)
                    sheet.paste(
                        _cell(group[place]) if place < len(group) else Image.new("RGB", (CELL, CELL), EMPTY), at
                    )
            line += CELL + GAP
        top += _height(panel) + MARGIN
    return sheet


def _across(panel: Panel, column: int) -> int:
    """Return how far from the first a column begins."""
    return column * (panel.each * (CELL + GAP) - GAP + GROUP_GAP)


def _height(panel: Panel) -> int:
    """Return a panel's height."""
    heads = (_TITLE + 14 if panel.title else 0) + (_TEXT + 10 if any(panel.columns) else 0)
    return heads + len(panel.rows) * (CELL + GAP)


def _lines(label: str) -> list[str]:
    """Return a row's label in lines of bearable length."""
    lines = [""]
    for word in label.split():
        if lines[-1] and len(lines[-1]) + len(word) > 16:
            lines.append(word)
        else:
            lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _cell(path: Path) -> Image.Image:
    """Return a picture file, CELL pixels square, its middle where it is not square itself."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side))
    if side > CELL:
        return image.resize((CELL, CELL), Image.Resampling.LANCZOS)
    return image.resize((CELL, CELL), Image.Resampling.NEAREST)
