"""The work folder: cells' folders, their logs, the lock, and the running of one cell."""

from __future__ import annotations

import datetime
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniemo.cache import atomic_write
from uniemo.errors import UniEmoError
from uniemo.studies.cells import Cell, Command, Setting
from uniemo.studies.ledger import Ledger, Record, commit, read_figures
from uniemo.studies.process import Processes, last_line

STEPS = "steps.json"  # of a cell's folder: the steps that have ended well


class StepFailed(Exception):
    """A command of a cell has failed; the message says which, how, and where its log is."""


@dataclass(frozen=True)
class WorkFolder:
    """Where studies leave everything.

    Attributes:
        root: the folder.
    """

    root: Path

    @property
    def cells(self) -> Path:
        """Folder of all cells."""
        return self.root / "cells"

    @property
    def ledger(self) -> Ledger:
        """The results."""
        return Ledger(self.root / "results.jsonl")

    def output(self, setting: Setting) -> Path:
        """Return the folder of tables, plots and pictures."""
        return self.root / (f"{setting.scale}-quick" if setting.quick else setting.scale)

    def folder(self, cell: Cell) -> Path:
        """Return a cell's folder."""
        return self.cells / cell.hash

    def is_whole(self, cell: Cell) -> bool:
        """Whether every step of a cell has ended and what it wrote is there."""
        folder = self.folder(cell)
        steps = read_steps(folder)
        return len(steps) == len(cell.commands) and all((folder / step["into"]).is_dir() for step in steps)

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Keep other runs out of the folder; yields the lock's file descriptor, for commands to inherit.

        A command that outlives a killed run holds the lock until it ends, so that nobody writes beside it.

        Raises:
            UniEmoError: another run, or what is left of one, is at work here.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / "lock", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise UniEmoError(
                    f"--work must be a folder in which nothing runs; in {self.root} a run, or a command that a killed "
                    "run has left, is at work: wait for it or take another folder"
                ) from error
            yield file.fileno()


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """Return what is known of a cell's steps that have ended well."""
    path = folder / STEPS
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def run_cell(cell: Cell, work: WorkFolder, processes: Processes, environment: dict[str, str]) -> Record:
    """Run the steps of a cell that have not ended yet.

    Args:
        cell: whose parents are there.
        work: the folder.
        processes: that run the commands.
        environment: of the commands.

    Returns:
        The record for the ledger.

    Raises:
        StepFailed: a command ended with another code than 0.
        Stopped: the run was stopped.
    """
    folder = work.folder(cell)
    folder.mkdir(parents=True, exist_ok=True)
    steps = read_steps(folder)
    for number, command in enumerate(cell.commands):
        if number < len(steps):
            continue
        started = datetime.datetime.now(datetime.timezone.utc)
        words = [*command.on_disk(work.cells, cell.hash), *_going_on(command, folder)]
        log = folder / f"{number + 1}_{command.into}.log"
        ended = processes.run(words, log, environment)
        if ended.code != 0:
            raise StepFailed(f"uniemo {command.run} ended with code {ended.code}: {last_line(log)} ({log})")
        step = {
            "run": command.run,
            "into": command.into,
            "started": started.isoformat(timespec="seconds"),
            "seconds": round(ended.seconds, 1),
            "peak_memory": ended.peak_memory,
        }
        steps.append(step)
        with atomic_write(folder / STEPS) as path:
            path.write_text(json.dumps(steps, indent=1) + "\n", encoding="utf-8")
    return record(cell, folder, steps)


def record(cell: Cell, folder: Path, steps: list[dict[str, Any]]) -> Record:
    """Return the line of a finished cell; of a step that was interrupted, time and memory of its last start."""
    return {
        "cell": cell.hash,
        "name": cell.name,
        "choices": dict(cell.choices),
        "seed": cell.seed,
        "scale": cell.scale,
        "quick": cell.quick,
        "commit": commit(),
        "started": steps[0]["started"],
        "seconds": round(sum(step["seconds"] for step in steps), 1),
        "peak_memory": max(step["peak_memory"] for step in steps),
        "cores": os.cpu_count(),
        "figures": read_figures(folder),
    }


def _going_on(command: Command, folder: Path) -> list[str]:
    """Return the words that make a step go on where it was interrupted; clear away what it cannot go on from."""
    target = folder / command.into
    if command.run == "fit" and (target / "last.ckpt").is_file():
        return ["--resume"]
    shutil.rmtree(target, ignore_errors=True)
    return []
