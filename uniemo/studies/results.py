"""RESULTS.md: every table and figure as measured, the paper's claim, and whether it was seen here."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from uniemo.cache import atomic_write
from uniemo.studies.cells import Cell, Setting, cells_of, with_parents
from uniemo.studies.checks import RULE, Comparison, compare, verdict
from uniemo.studies.costs import arithmetic, gpu_hours
from uniemo.studies.ledger import Record
from uniemo.studies.measured import Table, measured
from uniemo.studies.plots import draw
from uniemo.studies.study import Study
from uniemo.studies.tables import latex, markdown

_DIFFERENCES = """\
| | miniature scale, here | paper scale |
|---|---|---|
| pictures | paintings of 64 pixels, 2,000 for training; a known table says the emotion | photographs: EmoSet-118K … |
| CLIP | a small one, trained on captions of such paintings | OpenAI's ViT-B/32, ViT-B/16, ViT-L/14 |
| diffusion model | a small one at 32 pixels | Stable Diffusion 1.5 at 512, XL at 1,024 |
| networks of the metrics | the miniature CLIP: figures compare rows of a table and nothing else | CLIP ViT-L/14 |
| extent | a few epochs, tens of images of each emotion | 5 to 15 epochs, 1,000 images of each emotion |
| weight γ2 of the condition loss | 0.1 (0.3 in a row of table V) | 0.3 |
| what can be read from it | whether a comparison goes the paper's way on a small known problem | the numbers |
"""


def write_study(study: Study, setting: Setting, records: Mapping[str, Record], folder: Path) -> Table:
    """Write a study's table (Markdown, LaTeX) and plot into ``folder``, named after it.

    Returns:
        What was measured.
    """
    table = measured(study, setting, records)
    if study.columns:
        for ending, text in (("md", markdown(study, table, setting)), ("tex", latex(study, table, setting))):
            with atomic_write(folder / f"{study.name}.{ending}") as path:
                path.write_text(text, encoding="utf-8")
    if study.plot:
        draw(study, table, setting, folder / study.name)
    return table


def write_results(
    studies: list[Study], setting: Setting, records: Mapping[str, Record], folder: Path, output: Path, images: Path
) -> None:
    """Write RESULTS.md.

    Args:
        studies: in their order.
        setting: of the results to show.
        records: of the ledger, by hash.
        folder: where tables and plots go, and where pictures of the studies lie.
        output: the page.
        images: folder that the page's plots and pictures are copied to, unless it is ``folder``.
    """
    tables = {study.name: write_study(study, setting, records, folder) for study in studies}
    used = [
        record for record in records.values() if (record["scale"], record["quick"]) == (setting.scale, setting.quick)
    ]
    parts = [_head(setting, used), _overview(studies, tables), _DIFFERENCES if setting.scale == "miniature" else ""]
    for study in studies:
        picture = folder / f"{study.name}.png"
        if picture.is_file() and images.resolve() != folder.resolve():
            with atomic_write(images / picture.name) as path:
                shutil.copyfile(picture, path)
        parts.append(_section(study, tables[study.name], setting, images, output))
    parts.append(_paper_scale(studies))
    with atomic_write(output) as path:
        path.write_text("\n".join(part for part in parts if part), encoding="utf-8")


def _head(setting: Setting, records: list[Record]) -> str:
    """Return the beginning: how all this was measured."""
    commits = sorted({record["commit"] for record in records})
    days = sorted({record["started"][:10] for record in records})
    hours = sum(record["seconds"] for record in records) / 3600
    cores = sorted({record["cores"] for record in records})
    extent = "a first look with few steps and images (--quick)" if setting.quick else "in full"
    measured_by = (
        f"{len(records)} cells, {hours:.1f} hours of commands on machines with {', '.join(map(str, cores))} cores, "
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, commit {', '.join(commits)}."
        if records
        else "Nothing has been measured yet."
    )
    return (
        "# Results\n\n"
        f"Every table and figure of the paper at {setting.scale} scale, {extent}, as measured by `uniemo reproduce` "
        "and written by it: what stands here comes from its results alone. Beside it, in columns of their own, the "
        f"numbers that the paper prints.\n\n{measured_by}\n\n{RULE}\n"
    )


def _overview(studies: list[Study], tables: dict[str, Table]) -> str:
    """Return a table of all claims and what came of them, with a count."""
    lines = ["## The claims", "", "| | claim | here |", "|---|---|---|"]
    counts: Counter[str] = Counter()
    for study in studies:
        short = study.title.partition(":")[0]
        for check in study.checks:
            found = verdict(compare(study, check, tables[study.name]))
            counts[found.partition(" (")[0]] += 1
            lines.append(f"| [{short}](#{_anchor(study.title)}) | {check.claim} | {found} |")
    summary = ", ".join(f"{count} {name}" for name, count in counts.most_common())
    lines += ["", f"Of {sum(counts.values())} claims: {summary}.", "", "## What differs from the paper's scale", ""]
    return "\n".join(lines)


def _section(study: Study, table: Table, setting: Setting, images: Path, output: Path) -> str:
    """Return a study's part: claim, table, plot or picture, comparisons."""
    lines = [f"## {study.title}", "", f"The paper's claim: {study.claim}", ""]
    if study.columns:
        lines += [markdown(study, table, setting)]
    picture = images / f"{study.name}.png"
    if picture.is_file():
        lines += [f"![{study.title}]({Path(os.path.relpath(picture, output.parent)).as_posix()})", ""]
    elif study.picture:
        lines += ["Not drawn yet.", ""]
    if not study.columns and study.remarks:
        lines += [study.remarks, ""]
    for check in study.checks:
        comparisons = compare(study, check, table)
        lines.append(f"- {check.claim}: **{verdict(comparisons)}**. {_in_words(comparisons)}")
    return "\n".join([*lines, ""])


def _in_words(comparisons: list[Comparison]) -> str:
    """Return the differences of a claim's comparisons, the paper's beside ours."""
    parts = []
    for one in comparisons:
        here = "not measured" if one.difference is None else f"{one.difference:+.4g}"
        if one.error is not None:
            here += f" ± {one.error:.2g}"
        paper = "" if one.in_paper is None else f" (paper {one.in_paper:+.4g})"
        parts.append(f"{one.column} over {one.than}: {here}{paper}")
    return "Gains: " + "; ".join(parts) + "."


def _paper_scale(studies: list[Study]) -> str:
    """Return the commands for the paper's scale and what they will cost."""
    lines = [
        "## At the paper's scale",
        "",
        "With the datasets in one folder (`EmoSet`, `FI`, `EmotionROI`, `TwitterI`, `TwitterII`) and the backbones at "
        "hand; cells that tables share are trained once. One seed:",
        "",
        "| | command | GPU hours alone | of these new, after those above |",
        "|---|---|---|---|",
    ]
    before: set[str] = set()
    total = 0.0
    for study in studies:
        cells = with_parents(cells_of(study, 0, Setting("paper", data=Path("/data"))))
        new = [cell for cell in cells if cell.hash not in before]
        before |= {cell.hash for cell in cells}
        total += _hours(new)
        command = f"`uniemo reproduce {study.name} --scale paper --data /data --seeds 0`"
        lines.append(f"| {study.title.partition(':')[0]} | {command} | {_hours(cells):.1f} | {_hours(new):.1f} |")
    lines += [
        f"| all | `uniemo reproduce all --scale paper --data /data --seeds 0` | {total:.0f} | |",
        "",
        arithmetic(),
    ]
    return "\n".join([*lines, ""])


def _hours(cells: list[Cell]) -> float:
    """Return the GPU hours of cells."""
    return sum(gpu_hours(cell) for cell in cells)


def _anchor(title: str) -> str:
    """Return the anchor that GitHub makes of a heading."""
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")
