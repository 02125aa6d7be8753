"""``uniemo data``: tools around datasets on disk."""

from __future__ import annotations

import importlib

from uniemo.cli.messages import near
from uniemo.errors import UniEmoError

# tool: (module with ``run(args) -> int``, one line of help); args are those behind the tool's name
TOOLS: dict[str, tuple[str, str]] = {
    "check": ("uniemo.cli.data_check", "look at every file of a dataset and report what is wrong with it"),
    "split": ("uniemo.cli.data_split", "write a seeded, stratified split, or five folds, without duplicates across"),
    "synthesize": ("uniemo.cli.data_synthesize", "paint a dataset with known emotions, in a real dataset's layout"),
    "attributes": ("uniemo.cli.data_attributes", "lay out EmoSet's images by scene and object, as links"),
}

_HELP = """usage: uniemo data <tool> [options]

tools:
{tools}

Datasets are opened as they come, each in the layouts that are around: docs/datasets.md lists them.

examples:
  uniemo data check /data/FI --output fi.json
  uniemo data split /data/FI --out fi_split.json --seed 1
  uniemo data synthesize --layout fi-zip --out painted/

"uniemo data <tool> --help" explains a tool.
"""


def run(args: list[str]) -> int:
    """Run a tool; ``args`` begin with "data"."""
    if len(args) < 2 or args[1] in ("-h", "--help", "help"):
        width = max(map(len, TOOLS))
        print(_HELP.format(tools="\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in TOOLS.items())), end="")
        return 0
    if args[1] not in TOOLS:
        raise UniEmoError(f"uniemo data has the tools {', '.join(TOOLS)}; got {args[1]!r}{near(args[1], TOOLS)}")
    return importlib.import_module(TOOLS[args[1]][0]).run(args[2:])
