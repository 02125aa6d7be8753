"""Run cells with GNU make: a target for each cell that is not finished, its parents as prerequisites.

``uniemo reproduce`` writes ``WORK/Makefile`` and calls ``make -k -j JOBS``: parents are run first, several cells at
once, and after a failure what does not need the failed cell goes on. Each target calls :mod:`uniemo.studies.run_cell`.

Several machines: with the work folder on a disk that all of them see, let SLURM run each cell,

    RUN="srun --gres=gpu:1" uniemo reproduce all --scale paper --data /data --jobs 16

or give each machine other studies or seeds and a work folder of its own, and append the others' ``results.jsonl`` to
one: a cell with a result is not run again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection

from uniemo.cache import write_json, write_text
from uniemo.errors import UniEmoError
from uniemo.launch import cpu_cores
from uniemo.studies.cells import Cell, with_parents
from uniemo.studies.costs import seconds
from uniemo.studies.run_cell import CELL, FAILED
from uniemo.studies.work import WorkFolder, add_result, describe, result_of

PROGRAM = (sys.executable, "-m", "uniemo")  # runs the commands of a cell
_GRACE = 20.0  # seconds that commands have to end by themselves when a run is stopped


def pending(cells: list[Cell], work: WorkFolder, files: Collection[str] = ()) -> list[Cell]:
    """Return the cells that must be run, parents first: those without a result, and the parents that they need.

    A finished cell whose folder was removed is run again only where its files are needed, as those of ``files``.
    """
    known = work.results()
    ordered = with_parents(cells)
    wanted = {cell.hash for cell in cells if cell.hash not in known}
    wanted |= {cell.hash for cell in cells if cell.hash in files and not work.is_finished(cell)}
    for cell in reversed(ordered):
        if cell.hash in wanted:
            wanted |= {parent.hash for parent in cell.parents if not work.is_finished(parent)}
    return [cell for cell in ordered if cell.hash in wanted]


def run_cells(
    cells: list[Cell],
    work: WorkFolder,
    jobs: int,
    gpus: int = 0,
    files: Collection[str] = (),
    say: Callable[[str], None] = print,
) -> list[Cell]:
    """Run cells and their parents; finished cells are skipped.

    Args:
        cells: that are wanted.
        work: the folder, which no other run may use meanwhile.
        jobs: cells at once.
        gpus: of the machine.
        files: hashes of cells whose files are wanted beside their results.
        say: takes a line of progress.

    Returns:
        The cells that were to be run; those that failed, and those that need them, are not finished.

    Raises:
        UniEmoError: no make, or the folder is in use.
        KeyboardInterrupt: commands were stopped, the next run goes on.
    """
    if shutil.which("make") is None:
        raise UniEmoError("uniemo reproduce needs GNU make to run commands; there is none on PATH: install make")
    with work.locked() as lock:
        known = work.results()
        for cell in with_parents(cells):
            if cell.hash not in known and work.is_finished(cell):  # killed just before it wrote its result
                add_result(work.results_file, result_of(describe(cell), work.folder(cell)))
        todo = pending(cells, work, files)
        for cell in todo:
            _write_cell(cell, work)
        write_text(work.root / "Makefile", makefile(todo, work))
        if todo:
            _make(todo, work, jobs, gpus, lock, say)
    return todo


def makefile(todo: list[Cell], work: WorkFolder) -> str:
    """Return a Makefile with a target for each cell, named after its hash."""
    hashes = [cell.hash for cell in todo]
    lines = [f"all: {' '.join(hashes)}", f".PHONY: all {' '.join(hashes)}"]
    for cell in todo:
        command = shlex.join([sys.executable, "-m", "uniemo.studies.run_cell", str(work.folder(cell))])
        lines.append(f"{cell.hash}: {' '.join(parent.hash for parent in cell.parents if parent.hash in hashes)}")
        lines.append(f"\t@$(RUN) {command.replace('$', '$$')}")
    return "\n".join([*lines, ""])


def environment(jobs: int, gpus: int) -> dict[str, str]:
    """Return the variables of all commands: their share of the cores, and the GPUs to choose from."""
    threads = str(max(1, cpu_cores() // jobs))
    # without those of an outer make, whose job server is not ours
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"}
    visible = {"CUDA_VISIBLE_DEVICES": ",".join(map(str, range(gpus)))} if gpus else {}
    return {**visible, **kept, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}


def _write_cell(cell: Cell, work: WorkFolder) -> None:
    """Write what :mod:`uniemo.studies.run_cell` needs into the cell's folder."""
    folder = work.folder(cell)
    (folder / FAILED).unlink(missing_ok=True)
    steps = [
        {"run": command.run, "into": command.into, "command": [*PROGRAM, *command.on_disk(work.cells, cell.hash)]}
        for command in cell.commands
    ]
    content = {"title": cell.title, "description": describe(cell), "steps": steps}
    write_json(folder / CELL, content)


def _make(todo: list[Cell], work: WorkFolder, jobs: int, gpus: int, lock: int, say: Callable[[str], None]) -> None:
    """Run make to its end and pass on what the cells print, with the count and the expected time."""
    ended = 0
    with (
        open(work.root / "make.log", "w") as log,
        subprocess.Popen(
            ["make", "-k", f"-j{jobs}", "-f", str(work.root / "Makefile")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment(jobs, gpus),
            pass_fds=(lock,),
            start_new_session=True,  # Ctrl-C reaches it through _stop alone
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                ended += line.startswith(("done", "FAILED"))
                left = f"; {_left(todo, work, jobs)}" if line.startswith("done") else ""
                say(f"{time.strftime('%H:%M:%S')} [{ended}/{len(todo)}] {line.rstrip()}{left}")
            process.wait()
        except BaseException:
            _stop(process)
            raise


def _left(todo: list[Cell], work: WorkFolder, jobs: int) -> str:
    """Return how many cells are left and how long they will take."""
    known = work.results()
    left = [cell for cell in todo if cell.hash not in known]
    minutes = sum(seconds(cell, known) for cell in left) / jobs / 60
    return f"{len(left)} left, about {minutes:.0f} min" if left else "nothing left"


def _stop(process: subprocess.Popen[str]) -> None:
    """Ask make and all commands to end, and end those that do not within the grace period."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
