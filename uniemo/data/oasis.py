"""OASIS: photographs with valence and arousal in four categories of content.

::

    images/<theme>.jpg  OASIS.csv      Theme, Category, …, Valence_mean, Valence_SD, Arousal_mean, …

The label is the category: what a photograph shows, not an emotion. Valence and arousal are means over about a hundred
people on a scale of 1 to 7, with the standard deviations of their ratings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

from uniemo.data.affect import read_affect
from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import entry, fold, image_folder, is_image, visible
from uniemo.data.lists import ImageList, Labels, column_key, read_cells
from uniemo.data.manifest import Layout
from uniemo.data.rows import Rows
from uniemo.errors import UniEmoError

CATEGORIES = ("animal", "object", "person", "scenery")
LABELS = Labels(CATEGORIES)
SCALE = (1.0, 7.0)
_COLUMNS = ("Theme", "Category", "Valence_mean", "Arousal_mean", "Valence_SD", "Arousal_SD")


def _table(root: Path) -> Path:
    return entry(root, "OASIS.csv")


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of ``_COLUMNS``.

    Raises:
        UniEmoError: no such columns.
    """
    rows = read_cells(path)
    keys = [column_key(cell) for cell in rows[0][1]] if rows else []
    if not {column_key(name) for name in _COLUMNS} <= set(keys):
        raise UniEmoError(f"OASIS.csv must have the columns {', '.join(_COLUMNS)}; {path} has not: restore it")
    places = [keys.index(column_key(name)) for name in _COLUMNS]
    for number, row in rows[1:]:
        if len(row) > max(places):
            yield number, [row[place] for place in places]


def _matches(root: Path) -> bool:
    """Whether the table and one of its photographs are there; the table may lie beside another dataset."""
    try:
        themes = {fold(theme) for _, (theme, *_) in _rows(_table(root))}
    except UniEmoError:
        return False
    return any(is_image(name) and fold(Path(name).stem) in themes for name in visible(root / image_folder(root)))


def _read(root: Path) -> Rows:
    images, path = ImageList(root, LABELS), _table(root)
    images.scale, base = SCALE, image_folder(root)
    for number, (theme, category, *affect) in _rows(path):
        where = f"line {number} of {path}"
        found = images.add(f"{theme}.jpg", category, [base], where=where)
        if found is not None:
            images.affect[found] = read_affect(affect, SCALE, where)
    images.note_unlisted(base)
    return images.rows()


class OASIS(EmotionDataModule):
    """OASIS; arguments as in :class:`EmotionDataModule`.

    It has no published split: 80 : 5 : 15, stratified by category.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (Layout("oasis", "OASIS", "images/*.jpg OASIS.csv", _matches, _read),)
    # Kurdi et al., "Introducing the Open Affective Standardized Image Set (OASIS)", Behavior Research Methods, 2017;
    # by category as its table has them.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "all": {"all": 900, "animal": 134, "object": 200, "person": 346, "scenery": 220}
    }
