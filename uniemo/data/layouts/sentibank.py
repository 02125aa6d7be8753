"""Twitter II (SentiBank) as people have it: topic folders with groundTruthLabel.txt, or a CSV."""

from __future__ import annotations

from pathlib import Path

from uniemo.data.layouts.collector import POLARITY, Collector
from uniemo.data.layouts.disk import child, folders
from uniemo.data.layouts.tables import cells, header_key, read_table
from uniemo.data.layouts.twitter import image_bases, is_twitter1
from uniemo.data.listing import Layout, Listing
from uniemo.errors import UniEmoError

_WORDS = ("positive", "negative")
_TRUTH = ("groundtruth", "truth", "groundtruthlabel", "label", "sentiment", "image", "polarity")


def _truth_file(root: Path) -> Path | None:
    """Return ``groundTruthLabel.txt``, in ``twitter/`` or at the root."""
    inner = child(root, "twitter")
    return (child(inner, "groundTruthLabel.txt") if inner is not None else None) or child(root, "groundTruthLabel.txt")


def _labels(path: Path) -> list[str]:
    """Return the label of each row of ``groundTruthLabel.txt``, in order.

    Raises:
        UniEmoError: no column of 'positive' and 'negative'.
    """
    rows = cells(path)

    def is_word(cell: str) -> bool:
        return POLARITY.find(cell) is not None and any(letter.isalpha() for letter in cell)

    header = bool(rows) and not any(is_word(cell) for cell in rows[0][1])
    body = [row for _, row in (rows[1:] if header else rows)]
    width = max((len(row) for row in body), default=0)
    shares = [sum(column < len(row) and is_word(row[column]) for row in body) for column in range(width)]
    columns = [column for column in range(width) if shares[column] >= 0.5 * len(body)]
    if not columns:
        raise UniEmoError(f"groundTruthLabel.txt must have a column of positive and negative; {path} has none: restore")
    keys = [header_key(cell) for cell in rows[0][1]] if header else []
    named = [column for name in _TRUTH for column in columns if column < len(keys) and keys[column] == name]
    column = [*named, columns[-1]][0]
    return [row[column] if column < len(row) else "" for row in body]


def read_topics(root: Path) -> Listing:
    """Read ``twitter/<topic>/<N>.jpg``, where N is the row (from 1, the header not counted) with the label."""
    path = _truth_file(root)
    if path is None:
        raise UniEmoError(f"data.root must hold twitter/groundTruthLabel.txt; {root} does not: restore it")
    base = "" if path.parent == root else path.parent.name
    found = Collector("twitter2-topics", root, POLARITY)
    pictures: dict[int, str] = {}
    for topic in folders(path.parent):
        for image in found.disk.pictures(f"{base}/{topic}" if base else topic):
            stem = Path(image).stem
            if not stem.isdigit():
                found.notes.append(f"{image} is left out: its name is no row of {path.name}")
                continue
            if int(stem) in pictures:
                raise UniEmoError(
                    f"image numbers must differ over all topics; {pictures[int(stem)]} and {image} are both row {stem} "
                    f"of {path}: unpack the archive again"
                )
            pictures[int(stem)] = image
    labels = _labels(path)
    for number, label in enumerate(labels, 1):
        listed = pictures.pop(number, None)
        if listed is None:
            found.absent[f"{base}/<topic>/{number}.jpg" if base else f"<topic>/{number}.jpg"] = None
        elif label:
            found.add(listed, label, [""], where=f"row {number} of {path}")
        else:
            found.unknown[listed] = label
    for number, image in sorted(pictures.items()):
        found.notes.append(f"{image} is left out: {path.name} has {len(labels)} rows, none for {number}")
    return found.listing()


def _table(root: Path) -> Path | None:
    """Return the CSV at the root whose labels are polarities; those of Twitter I have names of their own."""
    for path in sorted(root.iterdir()):
        if path.suffix.lower() == ".csv" and path.is_file() and not is_twitter1(path.name):
            try:
                rows = read_table(path, POLARITY.known, limit=50)
            except UniEmoError:
                continue
            if sum(POLARITY.known(row.label) for row in rows) > len(rows) / 2:
                return path
    return None


def read_csv(root: Path) -> Listing:
    """Read ``images/`` with a CSV of polarities."""
    path = _table(root)
    if path is None:
        raise UniEmoError(f"data.root must hold a CSV of images and positive or negative; {root} does not: restore it")
    found = Collector("twitter2-csv", root, POLARITY)
    for row in read_table(path, POLARITY.known):
        found.add(row.image, row.label, image_bases(root), where=f"line {row.line} of {path}")
    return found.listing()


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "twitter2-topics",
        "TwitterII",
        "twitter/<topic>/<N>.jpg twitter/groundTruthLabel.txt",
        lambda root: _truth_file(root) is not None,
        read_topics,
    ),
    Layout(
        "twitter2-csv",
        "TwitterII",
        "images/ and a CSV of file and 0, 1 or positive, negative",
        lambda root: _table(root) is not None,
        read_csv,
    ),
)
