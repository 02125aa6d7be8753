"""Twitter I (DeepSent): positive or negative, measured by five-fold cross-validation.

::

    Agg_AMT_Candidates/*.jpg  amt_result.csv                        filename, total, votes
    images/  ground_truth/twitter_{three,four,five}_agrees.txt      file.jpg 0|1
    images/  {five,four,three}_agrees/test{1..5}/{train,test}.txt   given folds
    images/  {3,4,5}agree.csv
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import child, entry, is_image, subfolders, visible
from uniemo.data.lists import ImageList, column_key, read_cells, read_csv, read_lines
from uniemo.data.manifest import Layout
from uniemo.data.polarity import AGREES, AGREES_CSV, LABELS, list_folders
from uniemo.data.rows import Rows, plural
from uniemo.data.splits import FOLD_FRACTIONS
from uniemo.errors import UniEmoError

AGREEMENTS: dict[str, int] = {"three": 3, "four": 4, "five": 5}  # of five annotators, at least so many

_LIST, _FOLDS = (re.compile(AGREES + suffix, re.IGNORECASE) for suffix in (r"\.txt", ""))
_FOLD = re.compile(r"test_?(\d+)", re.IGNORECASE)
_TOTAL_COLUMNS = ("total", "totalvotes", "count", "num", "n")
_VOTE_COLUMNS = ("votes", "vote", "positive", "positivevotes", "pos", "agree", "yes")


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
        images.add(line.image, line.label, list_folders(root), where=f"line {line.number} of {path}")
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
                image = images.add(line.image, line.label, list_folders(root), where=f"line {line.number} of {path}")
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
        images.add(image, label, list_folders(root), where=f"line {number} of {path}")
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
            lambda root: bool(_by_agreement(root, AGREES_CSV)),
            partial(_read_lists, AGREES_CSV),
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
