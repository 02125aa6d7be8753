"""YAML and JSON files that others wrote, read without waiting for a pipe and without growing in memory.

Each function raises ``OSError`` for a file that cannot be opened and ``ValueError``, with a reason of one line, for
content that cannot be used; callers say what the file is and the way out.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import yaml

DEEPEST = 100  # levels of lists and sections within each other
_DEEP = f"it is nested deeper than {DEEPEST} levels"
_LARGEST = 100_000  # nodes of a YAML file, those behind an alias counted each time it stands; the largest has 200

_MISMADE = (yaml.YAMLError, ValueError, TypeError, AttributeError, LookupError, OverflowError)


def check_regular(path: str | Path) -> None:
    """Raise OSError for what is there but no file, such as a pipe, a device or a socket: opening it may never end."""
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # a folder fails when it is opened
        raise OSError(None, "not a regular file but a pipe, a device or a socket", str(path))


def read_bytes(path: str | Path) -> bytes:
    """Return a file's content."""
    check_regular(path)
    return Path(path).read_bytes()


def read_utf8(path: str | Path) -> str:
    """Return a text file's content, without the mark that Windows puts first."""
    return _decoded(read_bytes(path))


def read_json(path: str | Path) -> Any:  # noqa: ANN401
    """Return what a JSON file holds."""
    return parse_json(read_bytes(path))


def read_yaml(path: str | Path) -> Any:  # noqa: ANN401
    """Return what a YAML file holds."""
    return parse_yaml(read_utf8(path))


def parse_json(text: str | bytes) -> Any:  # noqa: ANN401
    """Return what a JSON text holds."""
    try:
        content = json.loads(_decoded(text) if isinstance(text, bytes) else text)
    except RecursionError:
        raise ValueError(_DEEP) from None
    _check_depth([content], lambda value: value.values() if isinstance(value, dict) else value, (dict, list))
    return content


def parse_lines(text: str) -> Iterator[tuple[int, dict[str, Any] | ValueError]]:
    """Yield number and JSON object of each line that is not empty, or why there is none."""
    for number, line in enumerate(text.split("\n"), 1):  # other ends of line may stand in a JSON text
        if line.strip():
            try:
                row = parse_json(line)
            except ValueError as error:
                row = error
            yield (
                number,
                row if isinstance(row, dict | ValueError) else ValueError("it is no object of keys and values"),
            )


def parse_yaml(text: str) -> Any:  # noqa: ANN401
    """Return what a YAML text holds; plain values alone, tags of Python objects are refused."""
    try:
        return yaml.load(text, Loader=_BoundedLoader)
    except _MISMADE as error:
        raise ValueError(" ".join(str(error).split())) from error


def check_yaml(text: str) -> None:
    """Raise ValueError for a bomb of aliases or deep nesting, for a loader that reads the text next."""
    try:
        _BoundedLoader(text).get_single_node()
    except yaml.YAMLError:
        return


class _BoundedLoader(yaml.SafeLoader):
    """Refuses bombs of aliases and deep nesting before it builds anything."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        """Return the next node, with those inside it."""
        self.depth += 1
        if self.depth > DEEPEST + 1:
            raise ValueError(_DEEP)
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> yaml.Node | None:
        """Return the root, whose nodes are counted."""
        node = super().get_single_node()
        if node is not None:
            _check_depth([node], _inside, (yaml.SequenceNode, yaml.MappingNode), _LARGEST)
        return node


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it is no UTF-8: byte {error.start + 1} is {data[error.start]:#04x}") from error


def _inside(node: Any) -> Iterable[Any]:  # noqa: ANN401
    """Return the nodes in a list, and keys and values of a section."""
    return node.value if isinstance(node, yaml.SequenceNode) else (part for pair in node.value for part in pair)


def _check_depth(
    level: list[Any], inside: Callable[[Any], Iterable[Any]], containers: tuple[type, ...], most: float = float("inf")
) -> None:
    """Raise ValueError for more than ``DEEPEST`` levels or ``most`` values, one in itself among them."""
    total = 0
    for _ in range(DEEPEST + 1):
        open_level = [one for one in level if isinstance(one, containers)]
        if not open_level:
            return
        level = []
        for one in open_level:
            parts = list(inside(one))
            total += len(parts)
            if total > most:
                raise ValueError(f"it holds more than {most:,} values, aliases included")
            level += parts
    raise ValueError(_DEEP)
