"""RESULTS.md: every table and figure as measured, the paper's claim, and whether it was seen here."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from uniemo.cache import atomic_write, write_text
from uniemo.studies.cells import Setting, cells_of, with_parents
from uniemo.studies.claims import RULE, Claim, claims_of
from uniemo.studies.costs import arithmetic, gpu_hours
from uniemo.studies.measured import Measurements, measured
from uniemo.studies.plots import plot_study
from uniemo.studies.study import Study
from uniemo.studies.tables import latex, markdown
from uniemo.studies.work import Result


@dataclass(frozen=True)
class Section:
    """A study's part of the page: ``picture`` is the path of its image, from the page."""

    study: Study
    anchor: str
    table: str
    picture: str
    claims: list[Claim]


@dataclass(frozen=True)
class Cost:
    """GPU hours of a study at paper scale: alone, and of those cells that no study before it has."""

    study: Study
    hours: float
    new: float


def write_results(
    studies: list[Study], setting: Setting, results: Mapping[str, Result], folder: Path, output: Path, images: Path
) -> None:
    """Write each study's table and plot into a folder, where their pictures lie, and the page over all.

    The page's plots and pictures are copied to ``images``, unless that is ``folder``.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    tables = [(study, measured(study, setting, results)) for study in studies]
    claims = claims_of(tables)
    sections = [
        Section(study, *_written(study, measurements, setting, folder, output, images), claims[study.name])
        for study, measurements in tables
    ]
    counts = Counter(claim.verdict.partition(" (")[0] for section in sections for claim in section.claims)
    templates = Environment(
        loader=PackageLoader("uniemo.studies"), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    text = templates.get_template("results.md").render(
        setting=setting,
        origin=_origin(setting, results),
        rule=RULE,
        sections=sections,
        counts=dict(counts.most_common()),
        tested=sum(counts[word] for word in ("seen", "reversed", "not seen")),
        costs=_costs(studies),
        arithmetic=arithmetic(),
    )
    write_text(output, text + "\n")


def _written(
    study: Study, measurements: Measurements, setting: Setting, folder: Path, output: Path, images: Path
) -> tuple[str, str, str]:
    """Write a study's table and plot; return its anchor, its table and the path of its picture for the page."""
    table = markdown(study, measurements, setting) if study.columns else ""
    if study.columns:
        for ending, text in (("md", table), ("tex", latex(study, measurements, setting))):
            write_text(folder / f"{study.name}.{ending}", text)
    if study.plot:
        plot_study(study, measurements, setting, folder / study.name)
    picture = folder / f"{study.name}.png"
    if picture.is_file() and images.resolve() != folder.resolve():
        with atomic_write(images / picture.name) as path:
            shutil.copyfile(picture, path)
    shown = images / picture.name
    link = Path(os.path.relpath(shown, output.parent)).as_posix() if shown.is_file() else ""
    kept = "".join(letter for letter in study.title.lower() if letter.isalnum() or letter in " -_")
    anchor = kept.replace(" ", "-")  # as GitHub makes it of a heading
    return anchor, table, link


def _origin(setting: Setting, results: Mapping[str, Result]) -> str:
    """Return how all this was measured."""
    used = [one for one in results.values() if (one["scale"], one["quick"]) == (setting.scale, setting.quick)]
    if not used:
        return "Nothing has been measured yet."
    days = sorted({result["started"][:10] for result in used})
    cores = ", ".join(str(count) for count in sorted({result["cores"] for result in used}))
    hours = sum(result["seconds"] for result in used) / 3600
    return (
        f"{len(used)} cells, {hours:.1f} hours of commands on machines with {cores} cores, "
        f"{' to '.join(dict.fromkeys((days[0], days[-1])))}, commit "
        f"{', '.join(sorted({result['commit'] for result in used}))}."
    )


def _costs(studies: list[Study]) -> list[Cost]:
    """Return what each study costs at the paper's scale."""
    costs, before = [], set()
    for study in studies:
        cells = with_parents(cells_of(study, 0, Setting("paper", data=Path("/data"))))
        new = [cell for cell in cells if cell.hash not in before]
        before |= {cell.hash for cell in cells}
        costs.append(Cost(study, sum(map(gpu_hours, cells)), sum(map(gpu_hours, new))))
    return costs
