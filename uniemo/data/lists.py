"""Lists of images as people wrote them, CSV and text files in any usual form, and what they say together."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from uniemo.data.affect import UNRATED, Affect
from uniemo.data.files import FileFinder, images_below, is_image, passed_over, path_parts, subfolders
from uniemo.data.manifest import SPLITS, Problem, Split
from uniemo.data.rows import Rows, plural
from uniemo.errors import UniEmoError
from uniemo.text_files import read_bytes

_PATH_COLUMNS: tuple[str, ...] = (
    *("path", "imagepath", "imgpath", "filepath", "image", "img", "file", "filename", "imagename", "imgname"),
    *("name", "photo", "picture", "imageid", "id"),
)
_LABEL_COLUMNS: tuple[str, ...] = (
    *("emotion", "class", "label", "classname", "category", "sentiment", "polarity", "groundtruth", "gt"),
    *("truth", "target", "emotionlabel", "emotionclass", "labelname", "y"),
)
_SPLIT_COLUMNS = ("split", "set", "subset", "partition", "phase")
SPLIT_WORDS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_NUMBER = re.compile(r"[+-]?\d+(\.0*)?")


@dataclass(frozen=True)
class Line:
    """One line of a list: its number, the image, its label, and its split where a column gives one."""

    number: int
    image: str
    label: str
    split: Split | None = None


def read_text(path: Path) -> str:
    """Return a text file's content: UTF-8 with or without a mark, UTF-16, or the encoding of a Chinese or Western PC.

    Raises:
        UniEmoError: the file is missing.
    """
    try:
        data = read_bytes(path)
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


def column_key(cell: str) -> str:
    """Return a column's name in lower case, letters and digits only."""
    return "".join(letter for letter in cell.lower() if letter.isalnum())


def read_cells(path: Path, limit: int | None = None) -> list[tuple[int, list[str]]]:
    """Return (line number, cells) of the lines that are not empty, at most ``limit``; commas, tabs or semicolons.

    Raises:
        UniEmoError: the file is missing or no table.
    """
    text = read_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    lines = io.StringIO(text, newline=None)  # old Excel for Mac ends lines in a carriage return alone
    reader = csv.reader(lines, delimiter=max(",\t;", key=first.count), skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((reader.line_num, [cell.strip() for cell in row]))
            if limit is not None and len(rows) >= limit:
                break
    except csv.Error as error:
        raise UniEmoError(f"{path.name} must be a table; {path} is not ({error}): restore it") from error
    return rows


def read_csv(path: Path, is_label: Callable[[str], bool], limit: int | None = None) -> list[Line]:
    """Read a CSV with a column of images and one of labels, with or without a header.

    Columns are found by their content, then by their names: that of images holds file names, that of labels holds
    labels of the dataset.

    Args:
        path: the file.
        is_label: whether a cell is a label of the dataset.
        limit: look at the first lines only.

    Raises:
        UniEmoError: no rows, or no two such columns.
    """
    rows = read_cells(path, limit)
    if not rows:
        raise UniEmoError(f"{path.name} must list at least one image; {path} is empty: restore it")
    first = rows[0][1]
    keys = [column_key(cell) for cell in first]
    named = set(keys) & {*_PATH_COLUMNS, *_LABEL_COLUMNS, *_SPLIT_COLUMNS}
    header = bool(named) and not any(is_image(cell) for cell in first)
    body, keys = (rows[1:], keys) if header else (rows, [])
    width = max(len(row) for _, row in rows)
    image = _pick(body, keys, width, is_image, _PATH_COLUMNS)
    label = _pick(body, keys, width, is_label, _LABEL_COLUMNS, image)
    if width == 2 and image is None and label is not None:
        image = 1 - label
    if width == 2 and label is None and image is not None:
        label = 1 - image
    if image is None or label is None:
        raise UniEmoError(
            f"{path.name} must have a column of image files and one of labels (path, class); {path} begins with "
            f"{', '.join(first)[:80]!r}: name its columns in a first line"
        )
    split = next((keys.index(name) for name in _SPLIT_COLUMNS if name in keys), None)
    lines = []
    for number, row in body:
        if max(image, label) < len(row) and row[image]:
            word = row[split] if split is not None and split < len(row) else ""
            lines.append(Line(number, row[image], row[label], SPLIT_WORDS.get(word.lower())))
    return lines


def _pick(
    rows: Sequence[tuple[int, list[str]]],
    keys: list[str],
    width: int,
    test: Callable[[str], bool],
    names: tuple[str, ...],
    taken: int | None = None,
) -> int | None:
    """Return the column most of whose cells pass a test, else one with a known name, else None."""

    def share(column: int) -> float:
        values = [row[column] for _, row in rows[:200] if column < len(row)]
        return sum(map(test, values)) / max(len(values), 1)

    free = [column for column in range(width) if column != taken]
    best = max(free, key=lambda column: (share(column), -column), default=None)
    if best is not None and share(best) >= 0.5:
        return best
    return next((keys.index(name) for name in names if name in keys and keys.index(name) != taken), None)


def read_lines(path: Path) -> list[Line]:
    """Read a text list: ``file label`` on each line (blanks in file names allowed), or a file name alone.

    The label is the last word, or what follows a comma or tab; it is empty for a line that is a file name alone.
    """
    result = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        text = line.strip().strip('"')
        if not text:
            continue
        if is_image(text):
            result.append(Line(number, text, ""))
            continue
        for delimiter in ("\t", ",", None):
            parts = text.rsplit(delimiter, 1)
            if len(parts) == 2 and is_image(parts[0].strip()):
                break
        result.append(Line(number, parts[0].strip(), parts[1].strip() if len(parts) == 2 else ""))
    return result


# What the lists say together.


class Labels:
    """Emotion by label, whatever its case and blanks.

    Args:
        emotions: names in class index order.
        words: further words for them.
    """

    def __init__(self, emotions: tuple[str, ...], words: Mapping[str, str] | None = None) -> None:
        self.emotions = emotions
        self.words = {**{name: name for name in emotions}, **(words or {})}

    def find(self, label: str) -> str | None:
        """Return the emotion that a label means, or None."""
        return self.words.get(label_key(label))

    def known(self, label: str) -> bool:
        """Whether a label means an emotion; numbers only where the dataset itself defines them."""
        return label_key(label) in self.words

    def of_folder(self, parts: Sequence[str]) -> str | None:
        """Return the emotion that one of a path's folders names, the innermost first."""
        return next((name for part in reversed(parts) if (name := self.find(part)) in self.emotions), None)


def label_key(label: str) -> str:
    """Return a label in lower case, without quotes and blanks around it; numbers without a fraction of zero."""
    key = " ".join(label.split()).strip("'\"").strip().lower()
    return str(int(float(key))) if _NUMBER.fullmatch(key) else key


class ImageList:
    """The images that lists or class folders name, each once, and what is wrong about them.

    Args:
        root: folder that paths are relative to.
        labels: the dataset's.
    """

    def __init__(self, root: Path, labels: Labels) -> None:
        self.root = root
        self.labels = labels
        self.finder = FileFinder(root)
        self.images: dict[str, tuple[str, Split | None]] = {}  # emotion and split by path
        self.folds: dict[str, list[int]] = {}
        self.distributions: dict[str, list[float]] = {}  # shares of votes by path, of all images or of none
        self.scale: tuple[float, float] | None = None  # of valence and arousal
        self.affect: dict[str, Affect] = {}  # by path
        self.problems: dict[str, Problem] = {}
        self.contradicted: set[str] = set()
        self.repeated: set[str] = set()
        self.notes: list[str] = []
        self.passed: Counter[str] = Counter()  # files beside the images, by kind

    def add(
        self, listed: str, label: str, bases: Sequence[str], split: Split | None = None, where: str = ""
    ) -> str | None:
        """Add a line of a list.

        Args:
            listed: the image as the list names it.
            label: as the list spells it; empty where the folder is the label.
            bases: folders that the list may mean, the likeliest first.
            split: where the list puts it.
            where: file and line, for errors.

        Returns:
            The image as the disk spells it; None where it is missing or its label is unknown.

        Raises:
            UniEmoError: the label is a number that nothing explains.
        """
        parts, key = path_parts(listed), label_key(label)
        number = _NUMBER.fullmatch(key) is not None
        emotion = self.labels.find(label)
        if emotion is None and (not label or number):
            emotion = self.labels.of_folder(parts[:-1])
        path = self.finder.locate(listed, bases, also=[name for name in (emotion, key) if name])
        if emotion is None and path is not None and (not label or number):
            emotion = self.labels.of_folder(path.split("/")[:-1])
        if emotion is None and number:
            raise UniEmoError(
                f"labels must be names ({', '.join(self.labels.emotions)}); {where} has the number {label!r}, and "
                "datasets number their classes in different orders: write names, or keep images in folders named so"
            )
        if path is None:
            missing = "/".join(part for part in (bases[0], *parts) if part)
            self.problems[missing] = Problem(missing, "it does not exist", split)
        elif emotion is None:
            self.add_unknown(path, label or (path.split("/")[-2] if "/" in path else ""), split)
        else:
            self.put(path, emotion, split)
            return path
        return None

    def add_unknown(self, path: str, label: str, split: Split | None = None) -> None:
        """Add an image whose label is none of the dataset's."""
        self.problems[path] = Problem(path, f"label {label!r}", split, label)

    def put(self, path: str, emotion: str, split: Split | None) -> None:
        """Add an image that is there; named twice it stays on the test side, with two labels it is left out."""
        if path in self.contradicted:
            return
        if path not in self.images:
            self.images[path] = emotion, split
            return
        known, before = self.images[path]
        if known != emotion:
            self.contradicted.add(path)
            del self.images[path]
        else:
            self.repeated.add(path)
            self.images[path] = emotion, max(before, split, key=lambda one: -1 if one is None else SPLITS.index(one))

    def add_folders(self, folder: str, split: Split | None = None, skip: Sequence[str] = ()) -> None:
        """Add the images of each class's folder in ``folder`` ("" is the root)."""
        loose = images_below(self.root, folder, 1, self.passed)
        if loose:
            self.notes.append(f"{plural(len(loose))} in no class folder, first {loose[0]}")
        for name in subfolders(self.root / folder):
            if name.lower() in skip:
                continue
            emotion = self.labels.find(name)
            for path in self.images_below(f"{folder}/{name}" if folder else name):
                if emotion is None:
                    self.add_unknown(path, name, split)
                else:
                    self.put(path, emotion, split)

    def images_below(self, folder: str) -> list[str]:
        """Return the images in a folder and those inside it; other files are counted."""
        return images_below(self.root, folder, passed=self.passed)

    def note_unlisted(self, folder: str) -> None:
        """Note how many images in a folder no list names."""
        listed = {*self.images, *self.problems, *self.contradicted}
        extra = [path for path in images_below(self.root, folder) if path not in listed]
        if extra:
            self.notes.append(f"{plural(len(extra))} in no list, first {extra[0]}")

    def rows(
        self,
        mask_of: Callable[[str], str | None] = lambda path: None,
        folds: int = 0,
        attributes: Mapping[str, tuple[str | None, Sequence[str]]] | None = None,
    ) -> Rows:
        """Return everything, sorted by path, so that nothing depends on the file system's order.

        Args:
            mask_of: gives an image's mask.
            folds: how many cross-validation folds the tree gives.
            attributes: scene and objects of images, whose names then make the vocabulary; None for none.
        """
        notes = [*self.notes, *passed_over(self.passed)]
        names: tuple[str, ...] | None = () if attributes is None else None
        rows = Rows(self.root, self.labels.emotions, names, names, self.scale, folds=folds, notes=notes)
        rows.problems += sorted(self.problems.values(), key=lambda problem: problem.image)
        for path in sorted(self.images):
            emotion, split = self.images[path]
            scene, objects = (attributes or {}).get(path, (None, ()))
            in_folds, shares = self.folds.get(path, ()), self.distributions.get(path, ())
            affect = () if self.scale is None else self.affect.get(path, UNRATED)
            rows.add(path, emotion, split, scene, objects, mask_of(path), None, in_folds, shares, affect)
        for images, what in (
            (self.repeated - self.contradicted, "listed more than once"),
            (self.contradicted, "listed with two emotions and left out"),
        ):
            if images:
                rows.notes.append(f"{plural(len(images))} {what}, first {min(images)}")
        return rows
