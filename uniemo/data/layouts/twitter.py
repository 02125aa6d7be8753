"""Twitter I (DeepSent) as people have it: votes, lists by agreement, given folds, CSVs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from uniemo.data.layouts.collector import POLARITY, Collector, plural
from uniemo.data.layouts.disk import child, folders, is_picture, visible
from uniemo.data.layouts.tables import cells, header_key, read_lines, read_table
from uniemo.data.listing import Layout, Listing
from uniemo.errors import UniEmoError

AGREEMENTS: dict[str, int] = {"three": 3, "four": 4, "five": 5}  # of five annotators, at least so many
_WORD = "(three|four|five|3|4|5)"
_LIST = re.compile(rf"(?:twitter_?)?{_WORD}_?agrees?\.txt", re.IGNORECASE)
_CSV = re.compile(rf"(?:twitter_?)?{_WORD}_?agrees?\.csv", re.IGNORECASE)
_FOLDS = re.compile(rf"(?:twitter_?)?{_WORD}_?agrees?", re.IGNORECASE)
_FOLD = re.compile(r"test_?(\d+)", re.IGNORECASE)
_TOTAL_NAMES = ("total", "totalvotes", "count", "num", "n")
_VOTE_NAMES = ("votes", "vote", "positive", "positivevotes", "pos", "agree", "yes")


def _number(word: str) -> int:
    """Return 3, 4 or 5 for a digit or a word."""
    return int(word) if word.isdigit() else AGREEMENTS[word.lower()]


def _by_agreement(folder: Path | None, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Return the entries of a folder that a pattern names, by agreement."""
    names = visible(folder) if folder is not None else []
    matches = ((pattern.fullmatch(name), name) for name in names)
    return {_number(match.group(1)): folder / name for match, name in matches if match is not None and folder}


def _first(root: Path, pattern: re.Pattern[str]) -> dict[int, Path]:
    """Return what a pattern names in the root, or in ``ground_truth/``."""
    return _by_agreement(root, pattern) or _by_agreement(child(root, "ground_truth", "groundtruth"), pattern)


def _choose(given: dict[int, Path], agreement: str, root: Path, what: str) -> Path:
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


def image_bases(root: Path) -> list[str]:
    """Return the folders that a list may mean, those with pictures first."""
    found = child(root, "images", "image", "imgs"), child(root, "Agg_AMT_Candidates"), child(root, "twitter")
    return [*(path.name for path in found if path is not None and path.is_dir()), ""]


def is_twitter1(name: str) -> bool:
    """Whether a CSV's name is one of Twitter I's."""
    return _CSV.fullmatch(name) is not None or name.lower() == "amt_result.csv"


def _votes_file(root: Path) -> Path | None:
    inner = child(root, "Agg_AMT_Candidates")
    return child(root, "amt_result.csv") or (child(inner, "amt_result.csv") if inner is not None else None)


def _votes(path: Path) -> list[tuple[int, str, int, int]]:
    """Return (line, image, total, positive votes) of ``amt_result.csv``, header or not.

    Without a column of totals, positive and negative votes make them.

    Raises:
        UniEmoError: a line without two whole numbers, or with more votes than annotators.
    """
    rows = cells(path)
    keys = [header_key(cell) for cell in rows[0][1]] if rows else []
    total_at = next((keys.index(name) for name in (*_TOTAL_NAMES, "negative") if name in keys), 1)
    votes_at = next((keys.index(name) for name in _VOTE_NAMES if name in keys), 2)
    result = []
    for line, row in rows:
        image = next((cell for cell in row if is_picture(cell)), None)
        if image is None and (line, row) == rows[0]:
            continue  # the header
        try:
            total, votes = int(float(row[total_at])), int(float(row[votes_at]))
            total += votes * (not set(_TOTAL_NAMES) & set(keys) and "negative" in keys)
        except (IndexError, ValueError) as error:
            raise UniEmoError(
                f"amt_result.csv must give filename, total and votes; line {line} of {path} is "
                f"{', '.join(row)[:80]!r}: restore it"
            ) from error
        if not 0 <= votes <= total:
            raise UniEmoError(f"votes must lie in 0 … total; line {line} of {path} has {votes} of {total}: restore it")
        result.append((line, image if image is not None else row[0], total, votes))
    return result


def read_votes(root: Path, agreement: str = "five") -> Listing:
    """Read ``Agg_AMT_Candidates`` with ``amt_result.csv``: a majority of k votes is agreement k."""
    _choose(dict.fromkeys(AGREEMENTS.values(), root), agreement, root, "votes")
    path = _votes_file(root)
    if path is None:
        raise UniEmoError(f"data.root must hold amt_result.csv; {root} does not: restore it")
    found = Collector("twitter1-amt", root, POLARITY)
    below = 0
    for line, image, total, votes in _votes(path):
        if max(votes, total - votes) < AGREEMENTS[agreement] or 2 * votes == total:
            below += 1
            continue
        label = "positive" if 2 * votes > total else "negative"
        found.add(image, label, image_bases(root), where=f"line {line} of {path}")
    if below:
        found.notes.append(f"{plural(below)} left out: fewer than {agreement} annotators agree on them")
    return found.listing()


def _read_lists(layout: str, given: Callable[[Path], dict[int, Path]]) -> Callable[..., Listing]:
    def read(root: Path, agreement: str = "five") -> Listing:
        path = _choose(given(root), agreement, root, "a list")
        found = Collector(layout, root, POLARITY)
        rows = read_table(path, POLARITY.known) if path.suffix.lower() == ".csv" else read_lines(path)
        for row in rows:
            found.add(row.image, row.label, image_bases(root), where=f"line {row.line} of {path}")
        return found.listing()

    return read


def _fold_folders(root: Path) -> dict[int, Path]:
    """Return ``{five,four,three}_agrees/`` that hold ``test1/`` …, by agreement."""
    found = _first(root, _FOLDS)
    return {number: path for number, path in found.items() if any(map(_FOLD.fullmatch, folders(path)))}


def read_folds(root: Path, agreement: str = "five") -> Listing:
    """Read ``five_agrees/test{1..5}/{train,test}.txt``; fold k tests on ``test<k>/test.txt``."""
    folder = _choose(_fold_folders(root), agreement, root, "folds")
    found = Collector("twitter1-folds", root, POLARITY)
    numbered = {int(match.group(1)): name for name in folders(folder) if (match := _FOLD.fullmatch(name))}
    folds = []
    for _, name in sorted(numbered.items()):
        tested = set()
        for part in ("train", "test"):
            path = child(folder / name, f"{part}.txt") or folder / name / f"{part}.txt"
            for row in read_lines(path):
                image = found.add(row.image, row.label, image_bases(root), where=f"line {row.line} of {path}")
                if image is not None and part == "test":
                    tested.add(image)
        folds.append(frozenset(tested))
    found.repeated.clear()  # each image stands in every fold's lists
    return found.listing(folds)


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "twitter1-folds",
        "TwitterI",
        "images/ {five,four,three}_agrees/test{1..5}/{train,test}.txt",
        lambda root: bool(_fold_folders(root)),
        read_folds,
        ("agreement",),
    ),
    Layout(
        "twitter1-agrees",
        "TwitterI",
        "images/ ground_truth/twitter_{three,four,five}_agrees.txt",
        lambda root: bool(_first(root, _LIST)),
        _read_lists("twitter1-agrees", lambda root: _first(root, _LIST)),
        ("agreement",),
    ),
    Layout(
        "twitter1-csv",
        "TwitterI",
        "images/ {3,4,5}agree.csv",
        lambda root: bool(_first(root, _CSV)),
        _read_lists("twitter1-csv", lambda root: _first(root, _CSV)),
        ("agreement",),
    ),
    Layout(
        "twitter1-amt",
        "TwitterI",
        "Agg_AMT_Candidates/*.jpg amt_result.csv (filename, total, votes)",
        lambda root: _votes_file(root) is not None,
        read_votes,
        ("agreement",),
    ),
)
