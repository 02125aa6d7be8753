"""Twitter I (DeepSent) and Twitter II (SentiBank): positive or negative, measured by five-fold cross-validation.

::

    Twitter I    Agg_AMT_Candidates/*.jpg  amt_result.csv                        filename, total, votes
                 images/  ground_truth/twitter_{three,four,five}_agrees.txt      file.jpg 0|1
                 images/  {five,four,three}_agrees/test{1..5}/{train,test}.txt   given folds
                 images/  {3,4,5}agree.csv
    Twitter II   twitter/partition{1..5}/<N>.jpg  twitter/groundTruthLabel.txt   given folds; N is the row, from 1
                 twitter/<topic>/<N>.jpg  twitter/groundTruthLabel.txt
                 images/  and a CSV of file and label
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import child, entry, is_image, subfolders, visible
from uniemo.data.lists import ImageList, Labels, column_key, read_cells, read_csv, read_lines
from uniemo.data.manifest import Layout
from uniemo.data.rows import Rows, plural
from uniemo.data.splits import FOLD_FRACTIONS
from uniemo.errors import UniEmoError
from uniemo.taxonomy import POLARITY_2

# 1 is positive in the datasets' own files (EmoSet's two-class order is the other way round).
LABELS = Labels(
    POLARITY_2,
    {"1": "positive", "+1": "positive", "pos": "positive", "0": "negative", "-1": "negative", "neg": "negative"},
)
AGREEMENTS: dict[str, int] = {"three": 3, "four": 4, "five": 5}  # of five annotators, at least so many

_AGREES = r"(?:twitter_?)?(three|four|five|3|4|5)_?agrees?"
_LIST, _CSV, _FOLDS = (re.compile(_AGREES + suffix, re.IGNORECASE) for suffix in (r"\.txt", r"\.csv", ""))
_FOLD = re.compile(r"test_?(\d+)", re.IGNORECASE)
_PARTITION = re.compile(r"partition[ _-]?(\d+)", re.IGNORECASE)
_TOTAL_COLUMNS = ("total", "totalvotes", "count", "num", "n")
_VOTE_COLUMNS = ("votes", "vote", "positive", "positivevotes", "pos", "agree", "yes")
_TRUTH_COLUMNS = ("groundtruth", "truth", "groundtruthlabel", "label", "sentiment", "image", "polarity")


def _bases(root: Path) -> list[str]:
    """Return the folders that a list may mean, those with images first."""
    found = child(root, "images", "image", "imgs"), child(root, "Agg_AMT_Candidates"), child(root, "twitter")
    return [*(path.name for path in found if path is not None and path.is_dir()), ""]


# Twitter I: lists by agreement.


def _by_agreement(root: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Return the entries of the root, or else of ``ground_truth/``, that a pattern names, by agreement."""
    for folder in (root, child(root, "ground_truth", "groundtruth")):
        found = {}
        for name in [] if folder is None else visible(folder):
            match = pattern.fullmatch(name)
            if match is not None and folder is not None:
                word = match.group(1).lower()
                found[int(word) if word.isdigit() else AGREEMENTS[word]] = folder / name
        if found:
            return found
    return {}


def _choose(given: Mapping[int, Path], agreement: str, root: Path, what: str) -> Path:
    """Return the list of the wanted agreement.

    Raises:
        UniEmoError: unknown agreement, or the tree does not give it.
    """
    if agreement not in AGREEMENTS:
        raise UniEmoError(f"data.agreement must be one of {', '.join(AGREEMENTS)}; got {agreement!r}")
    if AGREEMENTS[agreement] not in given:
        words = [word for word, number in AGREEMENTS.items() if number in given]
        raise UniEmoError(
            f"data.agreement must be one that {root} has {what} for ({', '.join(words) or 'none'}); got {agreement}: "
            "set --data.agreement"
        )
    return given[AGREEMENTS[agreement]]


def _read_lists(pattern: re.Pattern[str], root: Path, agreement: str = "five") -> Rows:
    path = _choose(_by_agreement(root, pattern), agreement, root, "a list")
    images = ImageList(root, LABELS)
    for line in read_csv(path, LABELS.known) if path.suffix.lower() == ".csv" else read_lines(path):
        images.add(line.image, line.label, _bases(root), where=f"line {line.number} of {path}")
    return images.rows()


# Twitter I: given folds.


def _fold_folders(root: Path) -> dict[int, Path]:
    """Return ``{five,four,three}_agrees/`` that hold ``test1/`` …, by agreement."""
    found = _by_agreement(root, _FOLDS)
    return {number: path for number, path in found.items() if any(map(_FOLD.fullmatch, subfolders(path)))}


def _read_folds(root: Path, agreement: str = "five") -> Rows:
    """Read ``five_agrees/test{1..5}/{train,test}.txt``; fold k tests on ``test<k>/test.txt``."""
    folder = _choose(_fold_folders(root), agreement, root, "folds")
    images = ImageList(root, LABELS)
    numbered = {int(match.group(1)): name for name in subfolders(folder) if (match := _FOLD.fullmatch(name))}
    for fold, (_, name) in enumerate(sorted(numbered.items()), 1):
        for part in ("train", "test"):
            path = entry(folder / name, f"{part}.txt")
            for line in read_lines(path):
                image = images.add(line.image, line.label, _bases(root), where=f"line {line.number} of {path}")
                if image is not None and part == "test" and fold not in images.folds.setdefault(image, []):
                    images.folds[image].append(fold)
    images.repeated.clear()  # each image stands in every fold's lists
    return images.rows(folds=len(numbered))


# Twitter I: votes.


def _votes_file(root: Path) -> Path | None:
    return child(root, "amt_result.csv") or child(child(root, "Agg_AMT_Candidates"), "amt_result.csv")


def _read_votes(root: Path, agreement: str = "five") -> Rows:
    """Read ``Agg_AMT_Candidates`` with ``amt_result.csv``: a majority of k votes is agreement k."""
    _choose(dict.fromkeys(AGREEMENTS.values(), root), agreement, root, "votes")
    path = _votes_file(root)
    if path is None:
        raise UniEmoError(f"data.root must hold amt_result.csv; {root} does not: restore it")
    images = ImageList(root, LABELS)
    below = 0
    for number, image, total, votes in _votes(path):
        if max(votes, total - votes) < AGREEMENTS[agreement] or 2 * votes == total:
            below += 1
            continue
        label = "positive" if 2 * votes > total else "negative"
        images.add(image, label, _bases(root), where=f"line {number} of {path}")
    if below:
        images.notes.append(f"{plural(below)} left out: fewer than {agreement} annotators agree on them")
    return images.rows()


def _votes(path: Path) -> list[tuple[int, str, int, int]]:
    """Return (line, image, total, positive votes) of ``amt_result.csv``, header or not.

    Without a column of totals, positive and negative votes make them.

    Raises:
        UniEmoError: a line without two whole numbers, or with more votes than annotators.
    """
    rows = read_cells(path)
    keys = [column_key(cell) for cell in rows[0][1]] if rows else []
    total_at = next((keys.index(name) for name in (*_TOTAL_COLUMNS, "negative") if name in keys), 1)
    votes_at = next((keys.index(name) for name in _VOTE_COLUMNS if name in keys), 2)
    adds_up = not set(_TOTAL_COLUMNS) & set(keys) and "negative" in keys
    result = []
    for number, row in rows:
        image = next((cell for cell in row if is_image(cell)), None)
        if image is None and (number, row) == rows[0]:
            continue  # the header
        try:
            total, votes = int(float(row[total_at])), int(float(row[votes_at]))
        except (IndexError, ValueError) as error:
            raise UniEmoError(
                f"amt_result.csv must give filename, total and votes; line {number} of {path} is "
                f"{', '.join(row)[:80]!r}: restore it"
            ) from error
        total += votes if adds_up else 0
        if not 0 <= votes <= total:
            raise UniEmoError(
                f"votes must lie in 0 … total; line {number} of {path} has {votes} of {total}: restore it"
            )
        result.append((number, row[0] if image is None else image, total, votes))
    return result


# Twitter II.


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
        first = _CSV.fullmatch(path.name) is not None or path.name.lower() == "amt_result.csv"
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
        images.add(line.image, line.label, _bases(root), where=f"line {line.number} of {path}")
    return images.rows()


# Data modules.


def _layout(name: str, tree: str, matches: Callable[[Path], bool], read: Callable[..., Rows]) -> Layout:
    return Layout(name, "TwitterI", tree, matches, read, ("agreement",))


class TwitterI(EmotionDataModule):
    """Twitter I in any of its layouts; arguments as in :class:`EmotionDataModule`, and one of its own.

    ``fold`` is the fold of five that is the test split (1 where it is not given); validation images come from the other
    four.

    Args:
        root: folder of the dataset.
        agreement: so many of five annotators agree on an image's label, or more.
        options: the further arguments of :class:`EmotionDataModule`.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        _layout(
            "twitter1-folds",
            "images/ {five,four,three}_agrees/test{1..5}/{train,test}.txt",
            lambda root: bool(_fold_folders(root)),
            _read_folds,
        ),
        _layout(
            "twitter1-agrees",
            "images/ ground_truth/twitter_{three,four,five}_agrees.txt",
            lambda root: bool(_by_agreement(root, _LIST)),
            partial(_read_lists, _LIST),
        ),
        _layout(
            "twitter1-csv",
            "images/ {3,4,5}agree.csv",
            lambda root: bool(_by_agreement(root, _CSV)),
            partial(_read_lists, _CSV),
        ),
        _layout(
            "twitter1-amt",
            "Agg_AMT_Candidates/*.jpg amt_result.csv (filename, total, votes)",
            lambda root: _votes_file(root) is not None,
            _read_votes,
        ),
    )
    fractions: ClassVar[tuple[float, float, float]] = FOLD_FRACTIONS
    cross_validated: ClassVar[bool] = True
    # You et al., "Robust Image Sentiment Analysis Using Progressively Trained and Domain Transferred Deep Networks",
    # AAAI 2015, by agreement.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "three": {"all": 1269, "positive": 769, "negative": 500},
        "four": {"all": 1116, "positive": 689, "negative": 427},
        "five": {"all": 882, "positive": 581, "negative": 301},
    }

    # The command line reads the options off EmotionDataModule's signature.
    def __init__(self, root: str, agreement: Literal["three", "four", "five"] = "five", **options: Any) -> None:  # noqa: ANN401
        super().__init__(root, **options)
        self.layout_options = {"agreement": agreement}


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
