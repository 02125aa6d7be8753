"""``uniemo data``: tools around datasets on disk."""

from __future__ import annotations

import importlib

from uniemo.cli.parsing import near
from uniemo.errors import UniEmoError

# tool: (module with ``run(words) -> int``, one line of help); words are those behind the tool's name
TOOLS: dict[str, tuple[str, str]] = {
    "check": ("uniemo.cli.data_check", "look at every file of a dataset and report what is wrong with it"),
    "split": ("uniemo.cli.data_split", "write a seeded, stratified split, or five folds, without duplicates across"),
    "synthesize": ("uniemo.cli.data_synthesize", "paint a dataset with known emotions, in a real dataset's layout"),
    "attributes": ("uniemo.cli.data_attributes", "lay out EmoSet's images by scene and object, as links"),
}

_HELP = """usage: uniemo data <tool> [options]

tools:
{tools}

Datasets are opened as they come: EmoSet, FI, EmotionROI, Twitter I and Twitter II, each in the layouts that are around.

examples:
  uniemo data check /data/FI --output fi.json
  uniemo data split /data/FI --out fi_split.json --seed 1
  uniemo data synthesize --layout fi-zip --out painted/

"uniemo data <tool> --help" tells more.
"""


def run(words: list[str]) -> int:
    """Run a tool; ``words`` begin with "data"."""
    if len(words) < 2 or words[1] in ("-h", "--help", "help"):
        width = max(map(len, TOOLS))
        print(_HELP.format(tools="\n".join(f"  {name:<{width}}  {text}" for name, (_, text) in TOOLS.items())), end="")
        return 0
    if words[1] not in TOOLS:
        raise UniEmoError(f"uniemo data has the tools {', '.join(TOOLS)}; got {words[1]!r}{near(words[1], TOOLS)}")
    return importlib.import_module(TOOLS[words[1]][0]).run(words[2:])
