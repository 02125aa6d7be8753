"""Twitter II (SentiBank): positive or negative, measured by five-fold cross-validation.

::

    twitter/partition{1..5}/<N>.jpg  twitter/groundTruthLabel.txt   given folds; N is the row, from 1
    twitter/<topic>/<N>.jpg  twitter/groundTruthLabel.txt
    images/  and a CSV of file and label
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import child, subfolders
from uniemo.data.lists import ImageList, column_key, read_cells, read_csv
from uniemo.data.manifest import Layout
from uniemo.data.polarity import AGREES_CSV, LABELS, list_folders
from uniemo.data.rows import Rows
from uniemo.data.splits import FOLD_FRACTIONS
from uniemo.errors import UniEmoError

_PARTITION = re.compile(r"partition[ _-]?(\d+)", re.IGNORECASE)
_TRUTH_COLUMNS = ("groundtruth", "truth", "groundtruthlabel", "label", "sentiment", "image", "polarity")


def _truth_file(root: Path) -> Path | None:
    """Return ``groundTruthLabel.txt``, in ``twitter/`` or at the root."""
    return child(child(root, "twitter"), "groundTruthLabel.txt") or child(root, "groundTruthLabel.txt")


def _truth(path: Path) -> list[str]:
    """Return the label of each row of ``groundTruthLabel.txt``, in order.

    Raises:
        UniEmoError: no column of 'positive' and 'negative'.
    """
    rows = read_cells(path)

    def is_word(cell: str) -> bool:
        return LABELS.known(cell) and any(letter.isalpha() for letter in cell)

    header = bool(rows) and not any(is_word(cell) for cell in rows[0][1])
    body = [row for _, row in (rows[1:] if header else rows)]
    width = max((len(row) for row in body), default=0)
    shares = [sum(column < len(row) and is_word(row[column]) for row in body) for column in range(width)]
    columns = [column for column in range(width) if shares[column] >= 0.5 * len(body)]
    if not columns:
        raise UniEmoError(f"groundTruthLabel.txt must have a column of positive and negative; {path} has none: restore")
    keys = [column_key(cell) for cell in rows[0][1]] if header else []
    named = [column for name in _TRUTH_COLUMNS for column in columns if column < len(keys) and keys[column] == name]
    column = [*named, columns[-1]][0]
    return [row[column] if column < len(row) else "" for row in body]


def _partitions(root: Path) -> dict[str, int]:
    """Return ``partition1`` … beside the labels, each with its number; nothing where the numbers have gaps."""
    path = _truth_file(root)
    names = [] if path is None else subfolders(path.parent)
    found = {name: int(match.group(1)) for name in names if (match := _PARTITION.fullmatch(name))}
    return found if len(found) > 1 and sorted(found.values()) == list(range(1, len(found) + 1)) else {}


def _read_partitions(root: Path) -> Rows:
    """Read Twitter II as distributed: partition k is the test split of fold k."""
    return _read_topics(root, _partitions(root))


def _read_topics(root: Path, folds: Mapping[str, int] | None = None) -> Rows:
    """Read ``twitter/<topic>/<N>.jpg``, where N is the row (from 1, the header not counted) with the label.

    Args:
        root: folder of the tree.
        folds: the given fold that tests on a folder's images, by folder; None for none.
    """
    path = _truth_file(root)
    if path is None:
        raise UniEmoError(f"data.root must hold twitter/groundTruthLabel.txt; {root} does not: restore it")
    base = "" if path.parent == root else f"{path.parent.name}/"
    found = ImageList(root, LABELS)
    images: dict[int, str] = {}
    for image in [image for topic in subfolders(path.parent) for image in found.images_below(f"{base}{topic}")]:
        stem = Path(image).stem
        if not stem.isdigit():
            found.notes.append(f"{image} is left out: its name is no row of {path.name}")
        elif int(stem) in images:
            raise UniEmoError(
                f"image numbers must differ over all topics; {images[int(stem)]} and {image} are both row {stem} "
                f"of {path}: unpack the archive again"
            )
        else:
            images[int(stem)] = image
    labels = _truth(path)
    gaps = 0
    for number, label in enumerate(labels, 1):
        listed = images.pop(number, None)
        if listed is None:
            gaps += 1
            continue
        if label:
            found.add(listed, label, [""], where=f"row {number} of {path}")
        else:
            found.add_unknown(listed, label)
        fold = (folds or {}).get(listed.removeprefix(base).partition("/")[0])
        if fold is not None:
            found.folds[listed] = [fold]
    if gaps:
        found.notes.append(f"{gaps} of the {len(labels)} rows of {path.name} have no image: retweets were removed")
    for number, image in sorted(images.items()):
        found.notes.append(f"{image} is left out: {path.name} has {len(labels)} rows, none for {number}")
    return found.rows(folds=len(folds or ()))


def _table(root: Path) -> Path | None:
    """Return the CSV at the root whose labels are polarities; those of Twitter I have names of their own."""
    for path in sorted(root.iterdir()):
        first = AGREES_CSV.fullmatch(path.name) is not None or path.name.lower() == "amt_result.csv"
        if path.suffix.lower() == ".csv" and path.is_file() and not first:
            try:
                lines = read_csv(path, LABELS.known, limit=50)
            except UniEmoError:
                continue
            if sum(LABELS.known(line.label) for line in lines) > len(lines) / 2:
                return path
    return None


def _read_table(root: Path) -> Rows:
    path = _table(root)
    if path is None:
        raise UniEmoError(f"data.root must hold a CSV of images and positive or negative; {root} does not: restore it")
    images = ImageList(root, LABELS)
    for line in read_csv(path, LABELS.known):
        images.add(line.image, line.label, list_folders(root), where=f"line {line.number} of {path}")
    return images.rows()


class TwitterII(EmotionDataModule):
    """Twitter II in any of its layouts; arguments as in :class:`EmotionDataModule`.

    78 % of its images are positive: look at balanced accuracy too. ``fold`` is as in :class:`TwitterI`: partition k of
    the authors' archive is fold k; ``layout="twitter2-topics"`` deals stratified folds instead.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout(
            "twitter2-partitions",
            "TwitterII",
            "twitter/partition{1..5}/<N>.jpg twitter/groundTruthLabel.txt",
            lambda root: bool(_partitions(root)),
            _read_partitions,
        ),
        Layout(
            "twitter2-topics",
            "TwitterII",
            "twitter/<topic>/<N>.jpg twitter/groundTruthLabel.txt",
            lambda root: _truth_file(root) is not None,
            _read_topics,
        ),
        Layout(
            "twitter2-csv",
            "TwitterII",
            "images/ and a CSV of file and 0, 1 or positive, negative",
            lambda root: _table(root) is not None,
            _read_table,
        ),
    )
    fractions: ClassVar[tuple[float, float, float]] = FOLD_FRACTIONS
    cross_validated: ClassVar[bool] = True
    # Borth et al., "Large-scale Visual Sentiment Ontology and Detectors Using Adjective Noun Pairs", ACM MM 2013.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {"all": {"all": 603, "positive": 470, "negative": 133}}
