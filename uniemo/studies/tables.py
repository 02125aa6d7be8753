"""Tables in Markdown and LaTeX: what was measured here, and the paper's numbers in columns of their own."""

from __future__ import annotations

from dataclasses import dataclass

from uniemo.studies.cells import Setting
from uniemo.studies.measured import Measurements, networks, samplers
from uniemo.studies.study import Column, Row, Study

_NOTHING = "–"
_ARROWS = {"high": " ↑", "low": " ↓", "none": ""}
_LATEX = {"%": r"\%", "_": r"\_", "&": r"\&", "#": r"\#", "±": r"$\pm$", "–": "--", "γ": r"$\gamma$"}
_LATEX_TABLE = str.maketrans({**_LATEX, "↑": r"$\uparrow$", "↓": r"$\downarrow$"})


@dataclass(frozen=True)
class Entry:
    """A cell of a table: ``kind`` is ``text``, ``paper``, ``best`` or empty, ``spread`` is with the number of seeds."""

    text: str
    kind: str = ""
    spread: str = ""

    @property
    def whole(self) -> str:
        """Text and spread."""
        return f"{self.text} {self.spread}".strip()


@dataclass(frozen=True)
class Line:
    """A row of a table; ``group`` is a heading above it, if any."""

    group: str
    entries: tuple[Entry, ...]


def heading(study: Study, measurements: Measurements) -> list[Entry]:
    """Return the headings: method, note and sampler where rows have one, each metric here and, if any, in the paper."""
    entries = [Entry("method", "text"), *([Entry("", "text")] if study.has_notes else [])]
    entries += [Entry("sampler", "text")] if samplers(measurements) else []
    for column in study.columns:
        name = f"{column.name}{_ARROWS[column.best]}{' %' if column.percent else ''}"
        entries.append(Entry(name))
        if _printed(study, column):
            entries.append(Entry(name, "paper"))
    return entries


def lines(study: Study, measurements: Measurements) -> list[Line]:
    """Return the rows, the best of each column marked."""
    found, group, sampled = [], "", samplers(measurements)
    for row in study.rows:
        entries = [Entry(row.label, "text"), *([Entry(row.note, "text")] if study.has_notes else [])]
        entries += [Entry(sampled.get(row.name, _NOTHING), "text")] if sampled else []
        for column in study.columns:
            entries.append(_entry(study, row, column, measurements))
            if _printed(study, column):
                paper = row.paper.get(column.name)
                entries.append(Entry(_NOTHING if paper is None else f"{paper:.{column.digits}f}", "paper"))
        found.append(Line(row.group if row.group != group else "", tuple(entries)))
        group = row.group
    return found


def markdown(study: Study, measurements: Measurements, setting: Setting) -> str:
    """Return a study's table in Markdown, with notes below it."""
    study = study.at(setting.scale)

    def line(entries: list[str]) -> str:
        return f"| {' | '.join(entries)} |"

    head = _titles(study, measurements)
    texts = [line(head), line(["---"] * len(head))]
    for row in lines(study, measurements):
        if row.group:
            texts.append(line([f"**{row.group}**", *[""] * (len(head) - 1)]))
        texts.append(line([f"**{entry.whole}**" if entry.kind == "best" else entry.whole for entry in row.entries]))
    return "\n".join([*texts, "", *notes(study, measurements, setting)]) + "\n"


def latex(study: Study, measurements: Measurements, setting: Setting) -> str:
    """Return a study's table in LaTeX (booktabs), with notes below it."""
    study = study.at(setting.scale)

    def line(entries: list[str]) -> str:
        return " & ".join(entries) + r" \\"

    def text(entry: Entry) -> str:
        escaped = entry.whole.translate(_LATEX_TABLE)
        return rf"\textbf{{{escaped}}}" if entry.kind == "best" else escaped

    head = heading(study, measurements)
    columns = "".join("l" if entry.kind == "text" else "r" for entry in head)
    texts = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
    texts += [line([title.translate(_LATEX_TABLE) for title in _titles(study, measurements)]), r"\midrule"]
    for row in lines(study, measurements):
        if row.group:
            texts.append(line([rf"\multicolumn{{{len(head)}}}{{l}}{{\emph{{{row.group.translate(_LATEX_TABLE)}}}}}"]))
        texts.append(line([text(entry) for entry in row.entries]))
    texts += [r"\bottomrule", r"\end{tabular}", ""]
    texts += [rf"\par\footnotesize {note.translate(_LATEX_TABLE)}" for note in notes(study, measurements, setting)]
    return "\n".join(texts) + "\n"


def notes(study: Study, measurements: Measurements, setting: Setting) -> list[str]:
    """Return the sentences below a table: how it is read, what was not run and why."""
    extent = "a first look (few steps and images)" if setting.quick else "in full"
    sentences = [
        f"Here: {setting.scale} scale, {extent}; mean ± standard deviation over seeds (number of seeds), best in bold. "
        "Paper: the numbers printed there."
    ]
    if setting.scale == "miniature":
        named = ", whatever backbone a row names for the paper" if study.has_notes else ""
        sentences.append(
            f"Everything here is measured on paintings with the miniature's own CLIP and diffusion model{named}."
        )
    if samplers(measurements):
        sentences.append(
            "Sampler: how features of an emotion are sampled; variation varies single training images, so rows compare "
            "at equal samplers alone."
        )
    used = ", ".join(networks(measurements))
    if used and setting.scale == "miniature":
        sentences.append(f"Images are measured with {used}, not with the paper's networks.")
    elif used:
        sentences.append(
            f"Images are measured with {used}. Columns without a protocol are of strict, which decides; the paper's "
            "numbers are to be held against emogen."
        )
    for column in study.columns:
        if _is_saturated(study, column, measurements):
            sentences.append(
                f"{column.name} is within one per cent of its highest possible value in every row here: it hardly "
                "distinguishes them."
            )
    reasons: dict[str, list[str]] = {}
    for row in study.rows:
        if row.cell is not None and setting.scale in row.not_run:
            reasons.setdefault(row.not_run[setting.scale], []).append(row.name)
    sentences += [f"Not run here ({reason}): {', '.join(names)}." for reason, names in reasons.items()]
    foreign = [row.name for row in study.rows if row.cell is None]
    if foreign:
        sentences.append(f"The paper's alone, not part of this framework: {', '.join(foreign)}.")
    return [*sentences, *([study.remarks] if study.remarks else [])]


def _titles(study: Study, measurements: Measurements) -> list[str]:
    """Return the headings as text."""
    whose = {"text": "", "paper": ", paper", "": ", here"}
    return [f"{entry.text}{whose[entry.kind]}" for entry in heading(study, measurements)]


def _entry(study: Study, row: Row, column: Column, measurements: Measurements) -> Entry:
    """Return what was measured for a row in a column."""
    value = measurements.get((row.name, column.name))
    if value is None:
        return Entry(_NOTHING)
    means = _means(study, column, measurements)
    is_best = column.best != "none" and not row.reference
    is_best = is_best and value.mean == (max if column.best == "high" else min)(means)
    seeds = f"({len(value.by_seed)})"
    spread = seeds if value.spread is None else f"± {value.spread:.{column.digits}f} {seeds}"
    return Entry(f"{value.mean:.{column.digits}f}", "best" if is_best else "", spread)


def _means(study: Study, column: Column, measurements: Measurements) -> list[float]:
    """Return the means of a column's methods, references left out."""
    places = [(row.name, column.name) for row in study.rows if not row.reference]
    return [measurements[place].mean for place in places if place in measurements]


def _printed(study: Study, column: Column) -> bool:
    """Whether the paper prints any number of a column."""
    return any(column.name in row.paper for row in study.rows)


def _is_saturated(study: Study, column: Column, measurements: Measurements) -> bool:
    """Whether the values of a column, of two rows at least, all lie within one per cent below its maximum."""
    if column.best == "none":
        return False
    highest = 100.0 if column.percent else 1.0
    means = [measurements[row.name, column.name].mean for row in study.rows if (row.name, column.name) in measurements]
    return len(means) > 1 and all(0.99 * highest < mean <= highest for mean in means)
