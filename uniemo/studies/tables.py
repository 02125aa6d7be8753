"""Tables in Markdown and LaTeX: what was measured here, and the paper's numbers in columns of their own."""

from __future__ import annotations

from collections.abc import Callable

from uniemo.studies.cells import Setting
from uniemo.studies.measured import Measured, Table, networks
from uniemo.studies.study import Column, Row, Study

_NOTHING = "–"
_LATEX = str.maketrans({"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "–": "--", "γ": r"$\gamma$"})


def markdown(study: Study, table: Table, setting: Setting) -> str:
    """Return a study's table in Markdown, with notes below it.

    Args:
        study: rows and columns.
        table: what was measured.
        setting: scale and extent.
    """
    head = _heading(study)
    lines = [_line(head), _line(["---"] * len(head))]
    group = ""
    for row in study.rows:
        if row.group != group:
            group = row.group
            lines.append(_line([f"**{group}**", *[""] * (len(head) - 1)]))
        lines.append(_line(_cells(study, row, table, lambda text: f"**{text}**")))
    return "\n".join([*lines, "", *notes(study, table, setting)]) + "\n"


def latex(study: Study, table: Table, setting: Setting) -> str:
    """Return a study's table in LaTeX (booktabs), with notes below it."""
    head = _heading(study)
    left = len(head) - 2 * len(study.columns)
    lines = [rf"\begin{{tabular}}{{{'l' * left}{'r' * (len(head) - left)}}}", r"\toprule", _row(head), r"\midrule"]
    group = ""
    for row in study.rows:
        if row.group != group:
            group = row.group
            lines.append(rf"\multicolumn{{{len(head)}}}{{l}}{{\emph{{{group.translate(_LATEX)}}}}} \\")
        lines.append(_row(_cells(study, row, table, lambda text: rf"\textbf{{{text}}}")))
    lines += [r"\bottomrule", r"\end{tabular}", ""]
    below = [rf"\par\footnotesize {note.translate(_LATEX)}" for note in notes(study, table, setting)]
    return "\n".join([*lines, *below]) + "\n"


def shown(value: Measured, column: Column) -> str:
    """Return mean and spread with the number of seeds in brackets."""
    spread = value.spread
    text = f"{value.mean:.{column.digits}f}"
    if spread is not None:
        text += f" ± {spread:.{column.digits}f}"
    return f"{text} ({len(value.by_seed)})"


def notes(study: Study, table: Table, setting: Setting) -> list[str]:
    """Return the sentences below a table: how it is read, what was not run and why."""
    extent = "a first look (few steps and images)" if setting.quick else "in full"
    lines = [
        f"Here: {setting.scale} scale, {extent}; mean ± standard deviation over seeds (number of seeds), best in bold. "
        "Paper: the numbers printed there."
    ]
    if setting.scale == "miniature":
        named = ", whatever backbone a row names for the paper" if _has_notes(study) else ""
        lines.append(
            f"Everything here is measured on paintings with the miniature's own CLIP and diffusion model{named}."
        )
    if networks(table):
        lines.append(f"Images are measured with {', '.join(networks(table))}, not with the paper's networks.")
    lines += [
        f"{name} is within one per cent of its highest possible value in every row here: it hardly tells them apart."
        for name in _saturated(study, table)
    ]
    reasons: dict[str, list[str]] = {}
    for row in study.rows:
        if row.cell is not None and setting.scale in row.not_run:
            reasons.setdefault(row.not_run[setting.scale], []).append(row.name)
    lines += [f"Not run here ({reason}): {', '.join(names)}." for reason, names in reasons.items()]
    foreign = [row.name for row in study.rows if row.cell is None]
    if foreign:
        lines.append(f"The paper's alone, not part of this framework: {', '.join(foreign)}.")
    return [*lines, *([study.remarks] if study.remarks else [])]


def _saturated(study: Study, table: Table) -> list[str]:
    """Return the names of columns whose values, of two rows at least, all lie within one per cent below the maximum."""
    found = []
    for column in study.columns:
        highest = 100.0 if column.percent else 1.0
        means = [table[row.name, column.name].mean for row in study.rows if (row.name, column.name) in table]
        if len(means) > 1 and all(0.99 * highest < mean <= highest for mean in means):
            found.append(column.name)
    return found


def _heading(study: Study) -> list[str]:
    """Return the headings: label, note where rows have one, for each figure here and in the paper."""
    arrows = {"high": "↑", "low": "↓"}
    figures = [
        f"{column.name} {arrows[column.best]}{' %' if column.percent else ''}, {who}"
        for column in study.columns
        for who in ("here", "paper")
    ]
    return ["method", *([""] if _has_notes(study) else []), *figures]


def _has_notes(study: Study) -> bool:
    """Whether any row has a note."""
    return any(row.note for row in study.rows)


def _cells(study: Study, row: Row, table: Table, bold: Callable[[str], str]) -> list[str]:
    """Return the cells of a row."""
    cells = [row.label, *([row.note] if _has_notes(study) else [])]
    for column in study.columns:
        value = table.get((row.name, column.name))
        text = _NOTHING if value is None else shown(value, column)
        best = value is not None and not row.reference and value.mean == _best(study, column, table)
        cells.append(bold(text) if best else text)
        cells.append(f"{row.paper[column.name]:.{column.digits}f}" if column.name in row.paper else _NOTHING)
    return cells


def _best(study: Study, column: Column, table: Table) -> float:
    """Return the best mean of a column over all methods."""
    rows = [row.name for row in study.rows if not row.reference]
    means = [table[row, column.name].mean for row in rows if (row, column.name) in table]
    return max(means) if column.best == "high" else min(means)


def _line(cells: list[str]) -> str:
    """Return a line of Markdown."""
    return f"| {' | '.join(cells)} |"


def _row(cells: list[str]) -> str:
    """Return a line of LaTeX."""
    text = " & ".join(cell.translate(_LATEX) if not cell.startswith("\\") else _escaped_bold(cell) for cell in cells)
    return text.replace("↑", r"$\uparrow$").replace("↓", r"$\downarrow$") + r" \\"


def _escaped_bold(cell: str) -> str:
    """Escape what stands in bold."""
    inner = cell.removeprefix(r"\textbf{").removesuffix("}")
    return rf"\textbf{{{inner.translate(_LATEX)}}}"
