"""Run one cell: ``python -m uniemo.studies.run_cell WORK/cells/HASH``, what make calls for each target.

The folder's ``cell.json`` holds the cell's description and commands. Steps that have ended well are not run again; a
training that was interrupted resumes.
"""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import itertools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uniemo.cache import write_json, write_text
from uniemo.errors import one_line
from uniemo.studies.work import STEPS, add_result, read_steps, result_of

CELL = "cell.json"  # what is to be run
FAILED = "failed.txt"  # why the last try failed


def main(folder: Path) -> int:
    """Run the cell of a folder and add its result to ``results.jsonl``; returns 1 when a command fails."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # sent to the whole group: wait for the command, which ends by it
    try:
        return _run(folder)
    except OSError as error:
        print(f"FAILED {folder}: {one_line(error) or error}", flush=True)
        return 1


def _run(folder: Path) -> int:
    """Run the steps that are left."""
    cell = json.loads((folder / CELL).read_text(encoding="utf-8"))
    work = folder.parent.parent
    print(f"start  {cell['title']}", flush=True)  # fails, and so starts nothing, once the run that listens is gone
    with _one_gpu(work / "gpus"):
        for number, step in enumerate(cell["steps"], 1):
            if number > len(read_steps(folder)):
                reason = _run_step(step, folder, folder / f"{number}_{step['into']}.log")
                if reason:
                    write_text(folder / FAILED, reason)
                    print(f"FAILED {cell['title']}: {reason}", flush=True)
                    return 1
    result = result_of(cell["description"], folder)
    add_result(work / "results.jsonl", result)
    print(f"done   {cell['title']}: {result['seconds']:.0f} s, {result['peak_memory'] / 2**30:.1f} GiB", flush=True)
    return 0


def _run_step(step: dict[str, Any], folder: Path, log: Path) -> str:
    """Run a command with its output appended to ``log``; returns why it failed, empty when it ended well."""
    target = folder / step["into"]
    command = list(step["command"])
    if step["run"] == "fit" and (target / "last.ckpt").is_file():
        command.append("--resume")
    else:
        shutil.rmtree(target, ignore_errors=True)
    started, start = datetime.datetime.now(datetime.timezone.utc), time.monotonic()
    with open(log, "ab") as output:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
            close_fds=False,  # it inherits the work folder's lock
        )
    if done.returncode:
        return f"uniemo {step['run']} ended with code {done.returncode}: {last_line(log)} ({log})"
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    ended = {
        "run": step["run"],
        "into": step["into"],
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.monotonic() - start, 1),
        "peak_memory": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit,
    }
    write_json(folder / STEPS, [*read_steps(folder), ended])
    return ""


def failure(folder: Path) -> str:
    """Return why the last try of a cell failed."""
    path = folder / FAILED
    return path.read_text(encoding="utf-8") if path.is_file() else f"see {folder.parent.parent / 'make.log'}"


def last_line(log: Path) -> str:
    """Return the last line of a log that is not blank."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.is_file() else ""
    lines = [line.strip() for line in text.replace("\r", "\n").splitlines() if line.strip()]
    return lines[-1] if lines else "(no output)"


@contextlib.contextmanager
def _one_gpu(locks: Path) -> Iterator[None]:
    """Leave one of several visible GPUs to the cell's commands, the one that the fewest other cells use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if len(visible) < 2:
        yield
        return
    locks.mkdir(exist_ok=True)
    for place in itertools.count():
        with open(locks / str(place), "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            os.environ["CUDA_VISIBLE_DEVICES"] = visible[place % len(visible)]
            yield
            return


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
