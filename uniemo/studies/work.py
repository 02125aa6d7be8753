"""The work folder: cells' folders, the lock, and ``results.jsonl``, from which tables and plots are made."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniemo import __version__
from uniemo.cache import to_json
from uniemo.errors import UniEmoError, naming
from uniemo.studies.cells import Cell, Setting
from uniemo.studies.hits import read_hits
from uniemo.studies.run_files import read_evaluation, read_lines, read_mapping, read_metrics
from uniemo.text_files import read_json

Result = dict[str, Any]  # a line of results.jsonl
STEPS = "steps.json"  # in a cell's folder: the steps that have ended well


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
    def results_file(self) -> Path:
        """One line for each finished cell."""
        return self.root / "results.jsonl"

    def output(self, setting: Setting) -> Path:
        """Return the folder of tables, plots and pictures."""
        return self.root / (f"{setting.scale}-quick" if setting.quick else setting.scale)

    def folder(self, cell: Cell) -> Path:
        """Return a cell's folder."""
        return self.cells / cell.hash

    def is_finished(self, cell: Cell) -> bool:
        """Whether every step of a cell has ended well and what it wrote is there."""
        folder = self.folder(cell)
        steps = read_steps(folder)
        return len(steps) == len(cell.commands) and all((folder / step["into"]).is_dir() for step in steps)

    def results(self) -> dict[str, Result]:
        """Return the last result of each cell by its hash."""
        return {line["cell"]: line for line in read_lines(self.results_file) if "cell" in line}

    @contextmanager
    def locked(self) -> Iterator[int]:
        """Keep other runs out of the folder; yields the lock's file descriptor, for processes to inherit.

        A command that outlives a killed run holds the lock until it ends, so that nothing writes beside it.

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


def describe(cell: Cell) -> Result:
    """Return what a result says about its cell."""
    return {
        "cell": cell.hash,
        "name": cell.name,
        "choices": dict(cell.choices),
        "seed": cell.seed,
        "scale": cell.scale,
        "quick": cell.quick,
    }


def result_of(description: Result, folder: Path) -> Result:
    """Return the result of a finished cell; of a step that was interrupted, time and memory of its last start."""
    steps = read_steps(folder)
    evaluated = [folder / step["into"] for step in steps if step["run"] == "evaluate"]
    samplers = [read_mapping(path / "result.json").get("generated", {}).get("space") for path in evaluated]
    samplers.append(read_mapping(folder / "test" / "test_generation.json").get("space"))
    return {
        **description,
        "commit": commit(),
        "started": steps[0]["started"],
        "seconds": round(sum(step["seconds"] for step in steps), 1),
        "peak_memory": max(step["peak_memory"] for step in steps),
        "cores": os.cpu_count(),
        "sampler": next((one for one in samplers if one), None),  # of generated images
        "figures": {name: value for path in evaluated for name, value in read_evaluation(path).items()}
        | read_metrics(folder / "test"),
        "hits": read_hits(folder),
    }


def add_result(path: Path, result: Result) -> None:
    """Append to ``results.jsonl``, on a line of its own even after half a line of a killed run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(to_json(result).encode())
        file.flush()
        os.fsync(file.fileno())


def read_steps(folder: Path) -> list[dict[str, Any]]:
    """Return what is known of a cell's steps that have ended well.

    Raises:
        UniEmoError: the file that says so is damaged.
    """
    path = folder / STEPS
    try:
        steps = read_json(path) if path.is_file() else []
        if not isinstance(steps, list) or not all(isinstance(step, dict) and "into" in step for step in steps):
            raise ValueError("it lists no steps")
    except ValueError as error:
        raise UniEmoError(
            f"{path} must be as it was written; {error}: remove {folder} to run its cell again"
        ) from error
    return steps


def commit() -> str:
    """Return the commit of the running code, or the version outside a checkout."""
    here = Path(__file__).parent.parent

    def git(*args: str) -> str:
        try:
            done = subprocess.run(["git", *args], capture_output=True, text=True, cwd=here, check=False)
        except OSError:  # no git
            return ""
        return done.stdout.strip()

    name = git("rev-parse", "--short", "HEAD")
    if not name:
        return f"version {__version__}"
    return f"{name} with changes" if git("status", "--porcelain", "--", str(here)) else name
