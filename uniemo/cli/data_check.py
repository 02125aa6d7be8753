"""``uniemo data check``: what is wrong with a dataset on disk."""

from __future__ import annotations

from pathlib import Path

from uniemo.cli.parsing import Parser, check_new_file, number
from uniemo.errors import Processes

_DESCRIPTION = """Read every file of a dataset, once, and report what is wrong with it.

Reads the lists as training does and decodes every image: unreadable, truncated and empty files, placeholders, the same
picture twice, across splits or under two emotions, missing images, masks and annotations, names outside the vocabulary,
odd but readable formats; counts by split and emotion beside the published ones (copies differ: that is no fault).
The table on screen comes worst first with the first files of each finding; --output writes all of them as JSON."""

_EXAMPLES = """exit code:
  0  nothing that would stop or spoil training
  1  something would; the last line says what
  2  the folder cannot be read as a dataset

examples:
  uniemo data check /data/EmoSet --output emoset.json
  uniemo data check /data/FI --split-file runs/understanding/split.json
"""


def run(args: list[str]) -> int:
    """Check a dataset; ``args`` are those after "data check"."""
    parser = Parser("uniemo data check", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("root", metavar="ROOT", help="folder of the dataset")
    parser.add_argument("--output", type=Path, metavar="FILE", help="JSON report to write")
    parser.add_argument(
        "--workers", type=number(Processes), help="processes (as many as cores); the report is the same"
    )
    parser.add_argument(
        "--agreement", choices=("three", "four", "five"), help="Twitter I: this list only (all; five with a split file)"
    )
    parser.add_argument(
        "--split-file", "--split_file", type=Path, metavar="FILE", help="look for leaks across the splits of this file"
    )
    parser.add_shared("layout", "dataset", "follow_links")
    options = vars(parser.parse_args(args))
    output = options.pop("output")
    if output is not None:
        check_new_file(output, "--output")

    from uniemo.data.check import check_tree

    report = check_tree(**options)
    if output is not None:
        report.write(output)
    print(report.summary())
    if output is not None:
        print(f"report in {output}")
    elif report.findings:
        print("--output report.json writes every finding with its files")
    return report.exit_code
