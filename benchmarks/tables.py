"""Tables of what speed benchmarks measured, as text and as Markdown, from their JSON files.

    python -m benchmarks.tables                      # writes benchmarks/README.md anew, between its markers

Between ``<!-- NAME:start -->`` and ``<!-- NAME:end -->`` stand the tables of ``NAME.json``, where that file was written
by :func:`benchmarks.timing.report`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.conditions import HERE, sentence
from uniemo.cache import atomic_write

Table = list[list[str]]


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a result, the first row of each its heads: times of the ways, and their ratios if any."""
    extra = result["extra"]
    names = list(dict.fromkeys(name for figures in extra.values() for name in figures))
    ways = [["", "samples per second", "seconds per sample (low to high, deviation)", *names]]
    for way, found in result["seconds per sample"].items():
        per_sample = f"{found['median']:.4g} ({found['low']:.4g} to {found['high']:.4g}, {found['deviation']:.2g})"
        figures = [f"{extra[way][name]:.4g}" if name in extra.get(way, {}) else "" for name in names]
        ways.append([way, f"{1 / found['median']:.4g}", per_sample, *figures])
    kinds = {"wall, median (low to high)": "times as fast", "processor": "times as fast by the processor"}
    ratios = [["times as fast", *kinds]]
    for pair in result["times as fast"]:
        cells = [result[kind].get(pair) for kind in kinds.values()]
        ratios.append([pair, *("" if cell is None else _range(cell) for cell in cells)])
    return [ways, ratios] if len(ratios) > 1 else [ways]


def _range(found: Mapping[str, float]) -> str:
    return f"{found['median']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def plain(table: Sequence[Sequence[str]]) -> str:
    """Return a table as text in columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table
    )


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    head, *body = (f"| {' | '.join(row)} |" for row in table)
    return "\n".join([head, "|---" * len(table[0]) + "|", *body])


def fill(page: Path) -> list[str]:
    """Write the tables into a page, between the markers of each JSON file that lies beside it; return their names."""
    text, filled = page.read_text(encoding="utf-8"), []
    for path in sorted(page.parent.glob("*.json")):
        start, end = f"<!-- {path.stem}:start -->\n", f"<!-- {path.stem}:end -->"
        result = json.loads(path.read_text(encoding="utf-8"))
        if start in text and end in text and "seconds per sample" in result:
            head, _, rest = text.partition(start)
            parts = [f"**{result['title']}**", *map(markdown, tables(result)), sentence(result["conditions"])]
            blocks = "\n\n".join(parts)
            text = f"{head}{start}{blocks}\n{rest[rest.index(end) :]}"
            filled.append(path.stem)
    with atomic_write(page) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return filled


if __name__ == "__main__":
    print("written:", ", ".join(fill(HERE / "README.md")) or "nothing")
