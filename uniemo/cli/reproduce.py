"""``uniemo reproduce``: the paper's tables and figures."""

from __future__ import annotations

import argparse
import shlex
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from uniemo.cli.parsing import Parser, check_new_file, check_writable, number
from uniemo.errors import Processes, Seed, UniEmoError
from uniemo.launch import cpu_cores

if TYPE_CHECKING:
    from uniemo.studies.cells import Cell, Setting
    from uniemo.studies.study import Study
    from uniemo.studies.work import WorkFolder

_DESCRIPTION = """Reproduce tables and figures of the paper, on the embedded miniature or at true size.

Every method is trained and tested by uniemo fit, test, generate and filter, each cell once, whatever number of tables
needs it. Finished cells are never run again: after a stop start it again. Results gather in WORK/results.jsonl; tables
(Markdown, LaTeX), plots and the page RESULTS.md are made from it alone. GNU make runs the cells (WORK/Makefile); to run
them on a SLURM cluster set RUN="srun --gres=gpu:1"."""

_EXAMPLES = """examples:
  uniemo reproduce all --dry-run                                what would be run, and about how long it takes
  uniemo reproduce all --quick --seeds 0                        a first look at everything
  uniemo reproduce table4 fig6 --seeds 0 1 2
  uniemo reproduce all --no-run --results RESULTS.md            write the page from the results that are there
  uniemo reproduce table1 --scale paper --data /data --seeds 0  true size; /data holds EmoSet, FI, ...
"""
_MOST_JOBS = 8  # on a machine without GPUs, unless asked for more: each holds a model in memory


def _parser() -> Parser:
    """Return the options."""
    from uniemo.studies.study_files import known_studies

    parser = Parser("uniemo reproduce", _DESCRIPTION, _EXAMPLES)
    names = f"{', '.join(known_studies())}, all, or YAML files of your own"
    parser.add_argument("studies", nargs="+", metavar="STUDY", help=names)
    parser.add_argument("--seeds", nargs="+", type=number(Seed), help="seeds (each study's own number: 5 or 1)")
    parser.add_argument("--quick", action="store_true", help="a first look: fewer steps, fewer images")
    parser.add_argument("--scale", choices=("miniature", "paper"), default="miniature", help="(miniature)")
    parser.add_argument(
        "--data", type=Path, help="paper scale: folder with EmoSet, FI, EmotionROI, TwitterI, TwitterII"
    )
    parser.add_argument(
        "--jobs", type=number(Processes), help="cells at once (one for each GPU, else one for each core, up to 8)"
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


def run(args: list[str]) -> int:
    """Reproduce; ``args`` begin with the command. Returns 1 when a cell has failed."""
    options = _parser().parse_args(args[1:])

    from uniemo.studies.cells import Setting, cells_of
    from uniemo.studies.work import WorkFolder

    if options.scale == "paper" and (options.data is None or not options.data.expanduser().is_dir()):
        raise UniEmoError(
            f"--data must be the folder that holds EmoSet, FI and the others with --scale paper; got {options.data}"
        )
    setting, work = Setting(options.scale, options.quick, options.data), WorkFolder(options.work)
    studies = _studies(options.studies)
    every = [
        cell
        for study in studies
        for seed in (range(study.seeds) if options.seeds is None else dict.fromkeys(options.seeds))
        for cell in cells_of(study, seed, setting)
    ]
    wanted = list({cell.hash: cell for cell in every}.values())
    if options.dry_run:
        _dry_run(wanted, studies, work, options.jobs)
        return 0
    check_writable(work.root, "--work")
    if options.results is not None:
        check_new_file(options.results, "--results")
    if not options.no_run:
        _find_weights(wanted, work)
    code = 0 if options.no_run else _run(wanted, studies, setting, work, options.jobs)
    _write(studies, setting, work, options)
    return code


def _studies(names: list[str]) -> list[Study]:
    """Read the studies, each once; ``all`` is every packaged one."""
    from uniemo.studies.study_files import known_studies, read_study

    every = [one for name in names for one in (known_studies() if name == "all" else [name])]
    return [read_study(name) for name in dict.fromkeys(every)]


def _gpus_and_jobs(jobs: int | None) -> tuple[int, int]:
    """Return the number of GPUs, and of cells at once: one for each GPU, else for each core, unless given."""
    import torch

    gpus = torch.cuda.device_count()
    return gpus, jobs or gpus or min(cpu_cores(), _MOST_JOBS)


def _dry_run(wanted: list[Cell], studies: list[Study], work: WorkFolder, jobs: int | None) -> None:
    """Print what would be run."""
    from uniemo.studies.costs import seconds
    from uniemo.studies.make import pending

    todo = pending(wanted, work)
    for cell in todo:
        print(f"# {cell.title}")
        for command in cell.commands:
            print(shlex.join(["uniemo", *command.on_disk(work.cells, cell.hash)]))
    known = work.results()
    _, jobs = _gpus_and_jobs(jobs)
    minutes = sum(seconds(cell, known) for cell in todo) / 60
    print(
        f"# {len(todo)} cells of {', '.join(study.name for study in studies)}; about {minutes:.0f} min of commands, "
        f"{minutes / jobs:.0f} min with {jobs} at once"
    )


def _find_weights(wanted: list[Cell], work: WorkFolder) -> None:
    """Look for the networks of all evaluations before anything is trained."""
    from uniemo.cli.evaluate import published_networks
    from uniemo.studies.make import pending

    cells = pending(wanted, work)
    commands = [one.on_disk(work.cells, cell.hash) for cell in cells for one in cell.commands if one.run == "evaluate"]
    if commands:
        from uniemo.metrics.networks import find_networks

        find_networks(one for args in commands for one in published_networks(args))


def _run(wanted: list[Cell], studies: list[Study], setting: Setting, work: WorkFolder, jobs: int | None) -> int:
    """Run what is not there yet and print how it ended; returns 1 when a cell has failed."""
    from uniemo.studies.cells import cells_of, with_parents
    from uniemo.studies.make import run_cells
    from uniemo.studies.run_cell import failure

    gpus, jobs = _gpus_and_jobs(jobs)
    pictured = {cell.hash for study in studies if study.picture for cell in cells_of(study, 0, setting)}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops it as Ctrl-C does
    try:
        todo = run_cells(wanted, work, jobs, gpus, pictured, say=lambda line: print(line, flush=True))
    finally:
        signal.signal(signal.SIGTERM, before)
    unfinished = [cell for cell in todo if not work.is_finished(cell)]
    print(f"{len(todo) - len(unfinished)} cells run, {len(with_parents(wanted)) - len(todo)} were there")
    for cell in unfinished:
        if all(work.is_finished(parent) for parent in cell.parents):
            print(f"FAILED {cell.title}: {failure(work.folder(cell))}")
    for cell in unfinished:
        if not all(work.is_finished(parent) for parent in cell.parents):
            print(f"left out, for what it needs has failed: {cell.title}")
    return 1 if unfinished else 0


def _write(studies: list[Study], setting: Setting, work: WorkFolder, options: argparse.Namespace) -> None:
    """Write tables, plots and pictures of these studies, and the page over all packaged ones and these."""
    from uniemo.studies.cells import cell_of
    from uniemo.studies.pictures import write_picture
    from uniemo.studies.results_page import write_results
    from uniemo.studies.study_files import with_packaged

    folder = work.output(setting)
    for study in (study for study in studies if study.picture):
        cells = {row.name: cell_of(study, row, None, 0, setting) for row in study.rows}
        folders = {name: work.folder(cell) for name, cell in cells.items() if cell and work.is_finished(cell)}
        if folders:
            write_picture(study, folders, folder / f"{study.name}.png")
    page = options.results or folder / "RESULTS.md"
    images = folder if options.results is None else options.images or page.parent / "docs" / "results"
    write_results(with_packaged(studies), setting, work.results(), folder, page, images)
    print(f"wrote {page}; tables and plots: {folder}")
