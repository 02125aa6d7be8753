"""Running cells: parents first, several at once, none twice; resumable after any interruption."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import FrameType

from uniemo.studies.cells import Cell, with_parents
from uniemo.studies.costs import seconds
from uniemo.studies.ledger import Record
from uniemo.studies.process import Processes, Stopped
from uniemo.studies.work import StepFailed, WorkFolder, read_steps, record, run_cell

_MOST_JOBS = 8  # on a CPU machine, unless asked for more: each holds a model in memory


@dataclass
class Summary:
    """How a run ended.

    Attributes:
        done: cells that were run to their end.
        before: cells that had been finished earlier.
        failed: cell and what it said.
        left_out: cells that needed one that failed.
    """

    done: list[Cell] = field(default_factory=list)
    before: list[Cell] = field(default_factory=list)
    failed: list[tuple[Cell, str]] = field(default_factory=list)
    left_out: list[Cell] = field(default_factory=list)


def pending(cells: list[Cell], work: WorkFolder, files: Collection[str] = ()) -> list[Cell]:
    """Return the cells that must be run, parents first: those without a result, and the parents that they need.

    A finished cell whose folder was removed is run again only where its files are needed.

    Args:
        cells: that are wanted.
        work: the folder; a cell whose last step ended just before a run was killed gets its result now.
        files: hashes of cells whose files are wanted, for pictures, beside their results.
    """
    known = work.ledger.read()
    ordered = with_parents(cells)
    for cell in ordered:
        if cell.hash not in known and work.is_whole(cell):
            work.ledger.add(record(cell, work.folder(cell), read_steps(work.folder(cell))))
            known[cell.hash] = {}
    wanted = {cell.hash for cell in cells if cell.hash not in known}
    wanted |= {cell.hash for cell in cells if cell.hash in files and not work.is_whole(cell)}
    for cell in reversed(ordered):
        if cell.hash in wanted:
            wanted |= {parent.hash for parent in cell.parents if not work.is_whole(parent)}
    return [cell for cell in ordered if cell.hash in wanted]


def devices() -> int:
    """Return the number of GPUs."""
    import torch

    return torch.cuda.device_count()


def default_jobs(gpus: int) -> int:
    """Return how many cells run at once: one for each GPU, else one for each core, up to eight."""
    return gpus or min(cores(), _MOST_JOBS)


def cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def environment(slot: int, jobs: int, gpus: int) -> dict[str, str]:
    """Return the variables of a command: its share of the cores, and its GPU.

    Args:
        slot: which of the cells that run at once, from 0.
        jobs: how many run at once.
        gpus: of the machine.
    """
    threads = str(max(1, cores() // jobs))
    shares = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus:
        names = visible.split(",") if visible else [str(number) for number in range(gpus)]
        shares["CUDA_VISIBLE_DEVICES"] = names[slot % gpus]
    return shares


def run_cells(
    cells: list[Cell],
    work: WorkFolder,
    jobs: int,
    gpus: int = 0,
    files: Collection[str] = (),
    processes: Processes | None = None,
    say: Callable[[str], None] = print,
) -> Summary:
    """Run cells and their parents; cells that are finished are left alone.

    Args:
        cells: that are wanted.
        work: the folder, which no other run may use meanwhile.
        jobs: cells at once.
        gpus: of the machine.
        files: hashes of cells whose files are wanted beside their results.
        processes: that run the commands; None starts ``uniemo``.
        say: takes a line of progress.

    Returns:
        What was done, what failed.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; commands were stopped, the next run goes on.
    """
    with work.locked() as lock, _terminating():
        processes = replace(processes or Processes(), keep_open=lock)
        todo = pending(cells, work, files)
        summary = Summary(before=[cell for cell in with_parents(cells) if cell not in todo])
        pool = ThreadPoolExecutor(jobs)
        try:
            _Queue(todo, work, processes, jobs, gpus, say, summary).run(pool)
        except BaseException:
            processes.stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return summary


class _Queue:
    """The cells that wait, those that run, and what is said about them."""

    def __init__(
        self,
        todo: list[Cell],
        work: WorkFolder,
        processes: Processes,
        jobs: int,
        gpus: int,
        say: Callable[[str], None],
        summary: Summary,
    ) -> None:
        self.waiting = list(todo)
        self.total = len(todo)
        self.work = work
        self.processes = processes
        self.jobs = jobs
        self.gpus = gpus
        self.say = say
        self.summary = summary
        self.running: dict[Future[Record], tuple[Cell, int]] = {}

    def run(self, pool: ThreadPoolExecutor) -> None:
        """Run until nothing waits."""
        while self.waiting or self.running:
            self._start(pool)
            ended, _ = wait(self.running, timeout=1.0, return_when=FIRST_COMPLETED)
            for future in ended:
                self._end(future)

    def _start(self, pool: ThreadPoolExecutor) -> None:
        """Start the first cells whose parents are there, on the free places."""
        unfinished = {cell.hash for cell in self.waiting} | {cell.hash for cell, _ in self.running.values()}
        ready = [cell for cell in self.waiting if not any(parent.hash in unfinished for parent in cell.parents)]
        taken = {slot for _, slot in self.running.values()}
        free = [slot for slot in range(self.jobs) if slot not in taken]
        for cell, slot in zip(ready, free, strict=False):
            self.waiting.remove(cell)
            shares = environment(slot, self.jobs, self.gpus)
            self.running[pool.submit(run_cell, cell, self.work, self.processes, shares)] = (cell, slot)
            self.say(f"{self._place()} start  {cell.title}")

    def _end(self, future: Future[Record]) -> None:
        """Keep a cell's result, or leave out those that need it."""
        cell, _ = self.running.pop(future)
        try:
            result = future.result()
        except StepFailed as error:
            self.summary.failed.append((cell, str(error)))
            self._leave_out(cell)
            self.say(f"{self._place()} FAILED {cell.title}: {error}")
        except Stopped:
            raise KeyboardInterrupt from None
        else:
            self.work.ledger.add(result)
            self.summary.done.append(cell)
            took, memory = result["seconds"], result["peak_memory"] / 2**30
            self.say(f"{self._place()} done   {cell.title}: {took:.0f} s, {memory:.1f} GiB; {self._left()}")

    def _leave_out(self, failed: Cell) -> None:
        """Take the cells out that need one that failed."""
        gone = {failed.hash}
        for cell in list(self.waiting):  # parents stand first
            if any(parent.hash in gone for parent in cell.parents):
                gone.add(cell.hash)
                self.waiting.remove(cell)
                self.summary.left_out.append(cell)

    def _place(self) -> str:
        """Return how many cells have ended, of how many, and the clock."""
        ended = self.total - len(self.waiting) - len(self.running)
        return f"{time.strftime('%H:%M:%S')} [{ended}/{self.total}]"

    def _left(self) -> str:
        """Return how many cells are left and how long they will take."""
        left = [*self.waiting, *(cell for cell, _ in self.running.values())]
        if not left:
            return "nothing left"
        known = self.work.ledger.read()
        minutes = sum(seconds(cell, known) for cell in left) / self.jobs / 60
        return f"{len(left)} left, about {minutes:.0f} min"


@contextmanager
def _terminating() -> Iterator[None]:
    """Let SIGTERM stop the run as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
