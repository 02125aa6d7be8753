"""Lists of images as people wrote them: CSV and text files in any usual form."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from uniemo.data.layouts.disk import is_picture
from uniemo.data.listing import Split
from uniemo.errors import UniEmoError

_PATH_NAMES: tuple[str, ...] = (
    *("path", "imagepath", "imgpath", "filepath", "image", "img", "file", "filename", "imagename", "imgname"),
    *("name", "photo", "picture", "imageid", "id"),
)
_LABEL_NAMES: tuple[str, ...] = (
    *("emotion", "class", "label", "classname", "category", "sentiment", "polarity", "groundtruth", "gt"),
    *("truth", "target", "emotionlabel", "emotionclass", "labelname", "y"),
)
_SPLIT_NAMES = ("split", "set", "subset", "partition", "phase")
_SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}


@dataclass(frozen=True)
class Row:
    """One line of a list: where it stands, the image, its label, and its split where a column tells."""

    line: int
    image: str
    label: str
    split: Split | None = None


def read_text(path: Path) -> str:
    """Return a text file's content, whatever wrote it: UTF-8 with or without a mark, UTF-16, a Chinese or Western PC.

    Raises:
        UniEmoError: the file is missing.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise UniEmoError(f"data.root must hold {path.name}; {path} does not exist: restore it") from error
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", errors="replace")
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("latin-1")


def split_name(word: str) -> Split | None:
    """Return the split that a word means (``valid``, ``Testing`` …), or None."""
    return _SPLITS.get(word.strip().lower())


def header_key(cell: str) -> str:
    """Return a column's name in lower case, letters and digits only."""
    return "".join(letter for letter in cell.lower() if letter.isalnum())


def cells(path: Path, limit: int | None = None) -> list[tuple[int, list[str]]]:
    """Return (line number, cells) for each line that is not empty; commas, tabs or semicolons between cells.

    Args:
        path: text file.
        limit: at most so many lines.
    """
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",\t;", key=first.count)
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    for row in reader:
        if any(cell.strip() for cell in row):
            rows.append((reader.line_num, [cell.strip() for cell in row]))
        if limit is not None and len(rows) >= limit:
            break
    return rows


def read_table(path: Path, known: Callable[[str], bool], limit: int | None = None) -> list[Row]:
    """Read a CSV with a column of images and one of labels, with or without a header.

    Columns are found by what stands in them, then by their names: that of images holds file names, that of labels
    holds labels of the dataset.

    Args:
        path: the file.
        known: whether a cell is a label of the dataset.
        limit: look at the first lines only.

    Raises:
        UniEmoError: no rows, or no two such columns.
    """
    rows = cells(path, limit)
    if not rows:
        raise UniEmoError(f"{path.name} must list at least one image; {path} is empty: restore it")
    width = max(len(row) for _, row in rows)
    keys = [header_key(cell) for cell in rows[0][1]]
    named = set(keys) & {*_PATH_NAMES, *_LABEL_NAMES, *_SPLIT_NAMES}
    header = bool(named) and not any(is_picture(cell) for cell in rows[0][1])
    body = rows[1:] if header else rows
    keys = keys if header else []

    def share(column: int, test: Callable[[str], bool]) -> float:
        values = [row[column] for _, row in body[:200] if column < len(row)]
        return sum(map(test, values)) / max(len(values), 1)

    def pick(test: Callable[[str], bool], names: tuple[str, ...], taken: int | None = None) -> int | None:
        free = [column for column in range(width) if column != taken]
        best = max(free, key=lambda column: (share(column, test), -column), default=None)
        if best is not None and share(best, test) >= 0.5:
            return best
        return next((keys.index(name) for name in names if name in keys and keys.index(name) != taken), None)

    image = pick(is_picture, _PATH_NAMES)
    label = pick(known, _LABEL_NAMES, image)
    if image is None and label is not None and width == 2:
        image = 1 - label
    if label is None and image is not None and width == 2:
        label = 1 - image
    if image is None or label is None:
        raise UniEmoError(
            f"{path.name} must have a column of image files and one of labels (path, class); {path} begins with "
            f"{', '.join(rows[0][1])[:80]!r}: name its columns in a first line"
        )
    split = next((keys.index(name) for name in _SPLIT_NAMES if name in keys), None)
    result = []
    for line, row in body:
        if max(image, label) < len(row) and row[image]:
            place = split_name(row[split]) if split is not None and split < len(row) else None
            result.append(Row(line, row[image], row[label], place))
    return result


def read_lines(path: Path) -> list[Row]:
    """Read a text list: ``file label`` on each line (blanks in file names allowed), or a file name alone.

    The label is the last word, or what follows a comma or tab; it is empty for a line that is a file name alone.
    """
    result = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        text = line.strip().strip('"')
        if not text:
            continue
        if is_picture(text):
            result.append(Row(number, text, ""))
            continue
        for delimiter in ("\t", ",", None):
            parts = text.rsplit(delimiter, 1)
            if len(parts) == 2 and is_picture(parts[0].strip()):
                break
        result.append(Row(number, parts[0].strip(), parts[1].strip() if len(parts) == 2 else ""))
    return result
