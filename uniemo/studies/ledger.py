"""``results.jsonl``: one line for each finished cell, the only thing that tables and plots are made from."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from uniemo import __version__

Record = dict[str, Any]


class Ledger:
    """The file of results.

    Args:
        path: of the JSON Lines file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> dict[str, Record]:
        """Return the last record of each cell by hash; half a line that a killed run has left is passed over."""
        records: dict[str, Record] = {}
        if not self.path.is_file():
            return records
        for line in self.path.read_text(encoding="utf-8").splitlines():
            try:
                record = json.loads(line)
                records[record["cell"]] = record
            except (json.JSONDecodeError, KeyError, TypeError):
                continue
        return records

    def add(self, record: Record) -> None:
        """Append a record, on a line of its own whatever stands before it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            file.seek(0, os.SEEK_END)
            if file.tell():
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
            file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())


def read_figures(folder: Path) -> dict[str, float]:
    """Return the figures that ``uniemo test`` left in a cell's folder, empty when nothing was tested."""
    path = folder / "test" / "test.json"
    if not path.is_file():
        return {}
    values = json.loads(path.read_text(encoding="utf-8"))
    return {key: value for key, value in values.items() if isinstance(value, (int, float))}


def commit() -> str:
    """Return the commit of the code at hand, or the version where it is no checkout."""
    here = Path(__file__).parent.parent

    def git(*words: str) -> str:
        try:
            done = subprocess.run(["git", *words], capture_output=True, text=True, cwd=here, check=False)
        except OSError:  # no git
            return ""
        return done.stdout.strip()

    name = git("rev-parse", "--short", "HEAD")
    if not name:
        return f"version {__version__}"
    return f"{name} with changes" if git("status", "--porcelain", "--", str(here)) else name
