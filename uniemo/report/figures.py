"""Figures by name: how they are called, written and ordered, and tables of them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

# figure: (digits, whether it is a share and shown in percent, which side is better)
_FORMS: dict[str, tuple[int, bool, str]] = {
    "accuracy": (2, True, "↑"),
    "balanced_accuracy": (2, True, "↑"),
    "Emo-A": (2, True, "↑"),
    "Emo-A probability": (2, True, "↑"),
    "FID": (2, False, "↓"),
    "LPIPS": (3, False, "↑"),
    "Sem-C": (3, False, "↑"),
    "Sem-D": (4, False, "↑"),
    "coverage": (1, True, ""),
}
_LABELS = {"balanced_accuracy": "balanced accuracy"}
_SAME = 1e-6  # shares that differ by less are the same
HEADLINES = ("accuracy", "balanced_accuracy", "Emo-A", "FID", "LPIPS", "Sem-C", "Sem-D")
_NAME = re.compile(r"(?P<figure>[^\[/]+)(?:\[(?P<network>[^\]]*)\])?(?:/(?P<part>.+))?")


@dataclass(frozen=True)
class Name:
    """A figure's name in parts: ``Emo-A[miniature-clip]/awe`` is (Emo-A, miniature-clip, awe)."""

    figure: str
    network: str
    part: str


@dataclass(frozen=True)
class Tile:
    """A figure to stand large."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Text cells; the first column names the rows, ``note`` stands below."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def parse(name: str) -> Name:
    """Take a figure's name apart; a name of another form is a figure of its own."""
    match = _NAME.fullmatch(name)
    if match is None:
        return Name(name, "", "")
    return Name(match["figure"], match["network"] or "", match["part"] or "")


def label(figure: str, unit: bool = False) -> str:
    """Return how a figure is called in a page, with an arrow to its better side and, on request, its unit."""
    _, share, arrow = _FORMS.get(figure, (0, False, ""))
    return " ".join(filter(None, (_LABELS.get(figure, figure), "%" if share and unit else "", arrow)))


def shown(figure: str, value: float | None, unit: bool = False) -> str:
    """Return a value as text, on request with its unit; a dash for none."""
    if value is None:
        return "–"
    if figure not in _FORMS:
        return f"{value:.4g}"
    digits, share, _ = _FORMS[figure]
    number = round(100 * value, 4) if share else value  # float32 shares: 0.8837500 and 0.8837499 are both 88.38 %
    return f"{number:.{digits}f}{' %' if share and unit else ''}"


def without(figures: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Return the figures whose name begins with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in figures.items() if name.startswith(prefix)}


def overall(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the headline figures over all emotions, by figure; the balanced accuracy where it is another one."""
    found = {parse(name).figure: value for name, value in figures.items() if not parse(name).part}
    if abs(found.get("accuracy", 0.0) - found.get("balanced_accuracy", 1.0)) < _SAME:  # classes of one size
        del found["balanced_accuracy"]
    return {figure: found[figure] for figure in HEADLINES if figure in found}


def networks(figures: Iterable[str]) -> list[str]:
    """Return the networks that figures were measured with."""
    return list(dict.fromkeys(parse(name).network for name in figures if parse(name).network))


def tiles(figures: Mapping[str, float], real: Mapping[str, float]) -> list[Tile]:
    """Return the headline figures, those of real images beside generated ones.

    Args:
        figures: over all emotions and of single ones, as in test.json but without "test/".
        real: the same of real images.
    """
    own, of_real = overall(figures), overall(real)
    return [Tile(label(name), shown(name, value, True), _of_real(name, of_real)) for name, value in own.items()]


def _of_real(figure: str, real: Mapping[str, float]) -> str:
    """Return what stands below a tile's value."""
    return f"real {shown(figure, real[figure], True)}" if figure in real else ""


def attention(figures: Mapping[str, float]) -> Table | None:
    """Return how much of the queries' attention lies where the mask of the image says that the object is."""
    shares = without(figures, "coverage/")
    queries = [name for name in shares if name != "area"]
    if not queries:
        return None
    rows = [(f"{name} queries", shown("coverage", shares[name], True)) for name in queries]
    if "area" in shares:
        rows.append(("attention that is the same everywhere", shown("coverage", shares["area"], True)))
    return Table("Attention inside the masks", ("", "share"), tuple(rows), "The mask says where the object is.")


def by_emotion(figures: Mapping[str, float], emotions: Sequence[str] = ()) -> Table | None:
    """Return the figures of single emotions, a row each; None where there are none.

    Args:
        figures: as for :func:`tiles`.
        emotions: their order; others follow as they come.
    """
    cells: dict[str, dict[str, float]] = {}
    for name, value in figures.items():
        parts = parse(name)
        if parts.part and parts.figure in HEADLINES and "/" not in parts.part:
            cells.setdefault(parts.part, {})[parts.figure] = value
    if not cells:
        return None
    rows = [*(name for name in emotions if name in cells), *(name for name in cells if name not in emotions)]
    columns = [figure for figure in HEADLINES if any(figure in values for values in cells.values())]
    lines = tuple((row, *(shown(figure, cells[row].get(figure)) for figure in columns)) for row in rows)
    return Table("By emotion", ("emotion", *(label(figure, unit=True) for figure in columns)), lines)


def comparison(rows: Sequence[tuple[str, str, Mapping[str, float]]]) -> Table | None:
    """Return the headline figures of several runs, a row each; None where fewer than two have any.

    Args:
        rows: name, where the figures come from, figures.
    """
    found = [(name, source, overall(figures)) for name, source, figures in rows if overall(figures)]
    if len(found) < 2:
        return None
    columns = [figure for figure in HEADLINES if any(figure in values for _, _, values in found)]
    lines = tuple(
        (name, *(shown(figure, values.get(figure)) for figure in columns), source) for name, source, values in found
    )
    return Table("At a glance", ("run", *(label(figure, unit=True) for figure in columns), "figures of"), lines)
