"""The folder in which images gather until all are generated, and what becomes of it when a run is stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from uniemo.cache import check_unlocked, lock_folder
from uniemo.data.generated import read_index, write_index
from uniemo.errors import UniEmoError

_PLAN = "plan.jsonl"  # the index that the folder will have


def partial_path(out: Path) -> Path:
    """Return the folder in which the images of ``out`` gather: ``<out>.partial`` beside it."""
    out = Path(os.path.abspath(out))
    return out.with_name(f"{out.name}.partial")


@contextmanager
def partial_folder(out: Path, rows: Sequence[dict[str, Any]], resume: bool) -> Iterator[Path]:
    """Yield ``<out>.partial``, which becomes ``out`` when the block ends without an error.

    Args:
        out: new or empty folder.
        rows: of the images to generate.
        resume: go on with the images of a run that was stopped, and keep those of this one when it is: after an error,
            Ctrl-C or SIGTERM. Otherwise nothing is left then. Only a killed process always leaves them.

    Raises:
        UniEmoError: there is such a folder, and ``resume`` is not set or it was begun with other images or settings.
    """
    folder = partial_path(out)
    check_unlocked(folder, "--out")
    if folder.exists() and not resume:
        raise UniEmoError(
            f"--out must have no partial images beside it; {folder} holds {_count(folder)} of a run that was "
            "killed: add --resume to go on with them, or remove it"
        )
    plan = folder / _PLAN
    if plan.exists():
        _compare(folder, read_index(plan), rows)
    new_parents = [parent for parent in folder.parents if not parent.exists()]
    with ExitStack() as lock:
        lock.enter_context(lock_folder(folder, "--out"))
        try:
            with _stoppable():
                write_index(plan, rows)
                yield folder
                plan.unlink()
                if out.is_dir():
                    out.rmdir()  # only an empty folder may be replaced
                lock.close()  # its file is in the folder
                os.replace(folder, out)
        except BaseException:
            if resume and _count(folder):
                kept = f"{_count(folder)} images are kept in {folder}"
                print(f"{kept}: the same command goes on with them", file=sys.stderr)
            else:
                shutil.rmtree(folder, ignore_errors=True)
                for parent in new_parents:
                    with suppress(OSError):  # another process has written there
                        parent.rmdir()
            raise


def _compare(folder: Path, before: Sequence[dict[str, Any]], rows: Sequence[dict[str, Any]]) -> None:
    """Raise UniEmoError unless the rows are those that a partial folder was begun with."""
    if len(before) != len(rows):
        raise UniEmoError(
            f"--resume must go on as {folder} was begun, with {len(before)} images; got {len(rows)}: set the same "
            "--num and --emotion, or remove the folder"
        )
    for old, row in zip(before, rows, strict=True):
        new = json.loads(json.dumps(row))
        if new != old:
            key = next(key for key in {**new, **old} if new.get(key) != old.get(key))
            raise UniEmoError(
                f"--resume must go on as {folder} was begun, with {key} {old.get(key)!r}; got {new.get(key)!r}: set it "
                "back, or remove the folder"
            )


def _count(folder: Path) -> int:
    """Return how many images are in a partial folder."""
    return sum(1 for _ in folder.glob("*/*.png"))


@contextmanager
def _stoppable() -> Iterator[None]:
    """Let SIGTERM end a block as Ctrl-C does, so that it cleans up."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
