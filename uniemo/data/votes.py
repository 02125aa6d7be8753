"""Tables with a column of votes or probabilities for each emotion.

The emotion with most is an image's label, the shares of all are its distribution (``data.target``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniemo.data.affect import Affect, read_affect
from uniemo.data.files import is_image, path_parts
from uniemo.data.lists import ImageList, Labels, read_cells
from uniemo.data.manifest import Problem
from uniemo.data.rows import plural
from uniemo.errors import UniEmoError

_WORDS = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class Votes:
    """One line: the image as listed, its votes or probabilities in the emotions' class order, valence and arousal."""

    image: str
    votes: tuple[float, ...]
    affect: Affect = ()


def read_votes(
    path: Path, labels: Labels, limit: int | None = None, scale: tuple[float, float] | None = None
) -> list[Votes]:
    """Read a table of images and votes; commas, tabs, semicolons or blanks between the cells.

    Args:
        path: the table; images stand in its first column.
        labels: a header names them, as in ``Content`` or ``[prob. of anger]``; other columns are passed over. Without
            a header the columns are in class order.
        limit: look at the first lines only, the header included.
        scale: least and greatest value of valence and arousal, which have columns of these names; None reads neither.

    Raises:
        UniEmoError: no rows, an emotion without a column, a cell that is no number from 0 or none of the scale.
    """
    rows = [(number, row if len(row) > 1 else row[0].split()) for number, row in read_cells(path, limit)]
    head = rows[0][1] if rows else []
    header = not any(is_image(_unquoted(cell)) for cell in head)
    words = [(_WORDS.findall(cell) or [""])[-1] for cell in head]
    names = [labels.find(word) for word in words] if header else [None, *labels.emotions]
    wanted = (*labels.emotions, *(("valence", "arousal") if scale is not None else ()))
    if not set(wanted) <= {*names, *words}:
        raise UniEmoError(
            f"{path.name} must have a column for each of {', '.join(wanted)}; {path} begins with "
            f"{', '.join(head)[:80]!r}: restore it"
        )
    columns = [names.index(emotion) for emotion in labels.emotions]
    rated = [words.index(word) for word in ("valence", "arousal")] if scale is not None else []
    result = []
    for number, row in rows[header:]:
        cells = [row[column] if column < len(row) else None for column in (*columns, *rated)]
        where, votes = f"line {number} of {path}", len(columns)
        affect = () if scale is None else read_affect(cells[votes:], scale, where)
        result.append(Votes(_unquoted(row[0]), vote_numbers(cells[:votes], where), affect))
    return result


def vote_numbers(cells: Sequence[Any], where: str) -> tuple[float, ...]:
    """Return the numbers in the cells of a line.

    Args:
        cells: one for each emotion.
        where: line and file, for errors.

    Raises:
        UniEmoError: a cell that is no number from 0.
    """
    try:
        votes = tuple(map(float, cells))
    except (TypeError, ValueError):
        votes = (math.nan,)
    if not all(0 <= vote < math.inf for vote in votes):
        raise UniEmoError(
            f"votes must be numbers from 0, one for each emotion; {where} has {str(cells)[:80]}: restore it"
        )
    return votes


def _unquoted(cell: str) -> str:
    return cell.strip("'\"")


def add_votes(images: ImageList, rows: Iterable[Votes], base: str, keep_ties: bool = True) -> None:
    """Add images with their shares of the votes and the emotion that most are for; ties are counted in a note.

    Args:
        images: gets them.
        rows: each image once.
        base: folder that the list's paths are relative to; "" is the root.
        keep_ties: take the first emotion in class order of a tie; False leaves such images out.
    """
    tied = []
    for row in rows:
        # Not ImageList.add, which looks elsewhere for a missing file: names repeat from folder to folder.
        listed = "/".join(part for part in (base, *path_parts(row.image)) if part)
        path = images.finder.find(listed)
        top = max(row.votes)
        winners = [name for name, votes in zip(images.labels.emotions, row.votes, strict=True) if votes == top]
        if path is None:
            images.problems[listed] = Problem(listed, "it does not exist")
        elif top == 0:
            images.add_unknown(path, "no votes")
        else:
            if len(winners) > 1:
                tied.append(path)
            if keep_ties or len(winners) == 1:
                images.put(path, winners[0], None)
                images.affect[path] = row.affect
                total = sum(row.votes)
                images.distributions[path] = [votes / total for votes in row.votes]
    if tied:
        what = f"the first of {', '.join(images.labels.emotions)} is taken" if keep_ties else "left out"
        images.notes.append(f"{plural(len(tied))} tied between emotions: {what}, first {min(tied)}")
