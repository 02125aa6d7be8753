"""``uniemo reproduce``: the paper's tables and figures."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from uniemo.cli.parsing import Parser, natural, positive
from uniemo.errors import UniEmoError

if TYPE_CHECKING:
    from uniemo.studies.cells import Cell, Setting
    from uniemo.studies.runner import Summary
    from uniemo.studies.study import Study
    from uniemo.studies.work import WorkFolder

_DESCRIPTION = """Reproduce tables and figures of the paper, on the embedded miniature or at true size.

Every method is trained and tested by this command's own sisters (uniemo fit, test, generate, filter), each cell once,
whatever number of tables it stands in. Finished cells are never run again: after a stop start it again. Results
gather in WORK/results.jsonl; tables (Markdown, LaTeX), plots and the page RESULTS.md are made from it alone."""

_EXAMPLES = """examples:
  uniemo reproduce all --dry-run                                what would be run, and about how long it takes
  uniemo reproduce all --quick --seeds 0                        a first look at everything
  uniemo reproduce table4 fig6 --seeds 0 1 2
  uniemo reproduce all --no-run --results RESULTS.md            write the page from the results that are there
  uniemo reproduce table1 --scale paper --data /data --seeds 0  true size; /data holds EmoSet, FI, ...
"""


def _parser() -> Parser:
    """Return the options."""
    from uniemo.studies.reading import known_studies

    parser = Parser("uniemo reproduce", _DESCRIPTION, _EXAMPLES)
    names = f"{', '.join(known_studies())}, all, or YAML files of your own"
    parser.add_argument("studies", nargs="+", metavar="STUDY", help=names)
    parser.add_argument("--seeds", nargs="+", type=natural, help="seeds (each study's own number: 3 or 1)")
    parser.add_argument("--quick", action="store_true", help="a first look: fewer steps, fewer images")
    parser.add_argument("--scale", choices=("miniature", "paper"), default="miniature", help="(miniature)")
    parser.add_argument(
        "--data", type=Path, help="paper scale: folder with EmoSet, FI, EmotionROI, TwitterI, TwitterII"
    )
    parser.add_argument(
        "--jobs", type=positive, help="cells at once (one for each GPU, else one for each core, up to 8)"
    )
    parser.add_argument(
        "--work", type=Path, default=Path("runs/studies"), help="folder of cells and results (runs/studies)"
    )
    parser.add_argument(
        "--results", type=Path, help="where the page of results goes (RESULTS.md in the work folder, beside the tables)"
    )
    parser.add_argument(
        "--images", type=Path, help="with --results: folder for the page's pictures (docs/results beside the page)"
    )
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--dry-run", action="store_true", help="print every command and the expected time, run nothing")
    only.add_argument("--no-run", action="store_true", help="write tables, plots and the page from what is there")
    return parser


def run(words: list[str]) -> int:
    """Reproduce; ``words`` begin with the command. Returns 1 when a cell has failed."""
    options = _parser().parse_words(words[1:])

    from uniemo.studies.cells import Setting
    from uniemo.studies.work import WorkFolder

    if options.scale == "paper" and (options.data is None or not options.data.expanduser().is_dir()):
        raise UniEmoError(
            f"--data must be the folder that holds EmoSet, FI and the others with --scale paper; got {options.data}"
        )
    setting = Setting(options.scale, options.quick, options.data)
    studies = _studies(options.studies)
    wanted = _wanted(studies, options.seeds, setting)
    work = WorkFolder(options.work)
    if options.dry_run:
        _dry_run(wanted, studies, work, options.jobs)
        return 0
    summary = None if options.no_run else _run(wanted, studies, setting, work, options.jobs)
    _write(studies, setting, work, options)
    return 0 if summary is None else _tell(summary)


def _studies(names: list[str]) -> list[Study]:
    """Read the studies, each once; ``all`` is every packaged one."""
    from uniemo.studies.reading import known_studies, read_study

    every = [one for name in names for one in (known_studies() if name == "all" else [name])]
    return [read_study(name) for name in dict.fromkeys(every)]


def _wanted(studies: list[Study], seeds: list[int] | None, setting: Setting) -> list[Cell]:
    """Return the cells of all studies, each once."""
    from uniemo.studies.cells import cells_of

    cells = [
        cell
        for study in studies
        for seed in (range(study.seeds) if seeds is None else dict.fromkeys(seeds))
        for cell in cells_of(study, seed, setting)
    ]
    return list({cell.hash: cell for cell in cells}.values())


def _files(studies: list[Study], setting: Setting) -> set[str]:
    """Return the hashes of the cells that pictures are drawn from."""
    from uniemo.studies.cells import cells_of

    return {cell.hash for study in studies if study.picture for cell in cells_of(study, 0, setting)}


def _dry_run(wanted: list[Cell], studies: list[Study], work: WorkFolder, jobs: int | None) -> None:
    """Print what would be run."""
    from uniemo.studies.costs import seconds
    from uniemo.studies.runner import default_jobs, devices, pending

    todo = pending(wanted, work)
    for cell in todo:
        print(f"# {cell.title}")
        for command in cell.commands:
            print(shlex.join(["uniemo", *command.on_disk(work.cells, cell.hash)]))
    known = work.ledger.read()
    jobs = jobs or default_jobs(devices())
    minutes = sum(seconds(cell, known) for cell in todo) / 60
    print(
        f"# {len(todo)} cells of {', '.join(study.name for study in studies)}; about {minutes:.0f} min of commands, "
        f"{minutes / jobs:.0f} min with {jobs} at once"
    )


def _run(wanted: list[Cell], studies: list[Study], setting: Setting, work: WorkFolder, jobs: int | None) -> Summary:
    """Run what is not there yet."""
    from uniemo.studies.runner import default_jobs, devices, run_cells

    gpus = devices()
    files = _files(studies, setting)
    return run_cells(wanted, work, jobs or default_jobs(gpus), gpus, files, say=lambda line: print(line, flush=True))


def _write(studies: list[Study], setting: Setting, work: WorkFolder, options: argparse.Namespace) -> None:
    """Write tables, plots and pictures of these studies, and the page over all packaged ones and these."""
    from uniemo.studies.reading import known_studies
    from uniemo.studies.results import write_results

    folder = work.output(setting)
    for study in studies:
        if study.picture:
            _picture(study, setting, work)
    page = options.results or folder / "RESULTS.md"
    images = folder if options.results is None else options.images or page.parent / "docs" / "results"
    every = {study.name: study for study in [*_studies(known_studies()), *studies]}
    write_results(list(every.values()), setting, work.ledger.read(), folder, page, images)
    print(f"wrote {page}; tables and plots: {folder}")


def _picture(study: Study, setting: Setting, work: WorkFolder) -> None:
    """Draw a study's picture from the cells of the first seed that are there."""
    from uniemo.studies.cells import cell_of
    from uniemo.studies.pictures import draw

    cells = {row.name: cell_of(study, row, None, 0, setting) for row in study.rows}
    folders = {name: work.folder(cell) for name, cell in cells.items() if cell is not None and work.is_whole(cell)}
    if folders:
        draw(study, folders, work.output(setting) / f"{study.name}.png")


def _tell(summary: Summary) -> int:
    """Print how the run ended."""
    print(f"{len(summary.done)} cells run, {len(summary.before)} were there")
    for cell, why in summary.failed:
        print(f"FAILED {cell.title}: {why}")
    for cell in summary.left_out:
        print(f"left out, for what it needs has failed: {cell.title}")
    return 1 if summary.failed else 0
