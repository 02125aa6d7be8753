"""One-line explanations of what jsonargparse found wrong."""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from typing import Any

from uniemo.cli.parsing import near

_UNKNOWN = (
    re.compile(r"unrecognized arguments?: (?P<words>.+)", re.DOTALL),
    re.compile(r"Option '(?P<key>[^']+)' is not accepted"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"Subcommand '[^']+' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"No action for key \"(?P<key>[^\"]+)\""),
    re.compile(r"Key \"(?P<key>[^\"]+)\" is not expected"),
)


def explain(message: str, parser: Any) -> str:  # noqa: ANN401 - jsonargparse is imported by the caller
    """Turn a parser's message into one line; for a key that does not exist, name the near ones.

    Args:
        message: jsonargparse's, often over several lines.
        parser: which found it; its arguments are the known keys.
    """
    text = " ".join(message.split())
    for pattern in _UNKNOWN:
        found = pattern.search(message)
        if found is None:
            continue
        groups = found.groupdict()
        if "words" in groups:
            key = groups["words"].split()[0].split("=")[0].lstrip("-")
        else:
            key = ".".join(part for part in (groups.get("group"), groups["key"]) if part)
        return f"configuration has no key {key!r}{_near_key(key, known_keys(parser))}"
    missing = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", message) or re.search(
        r"(?:class_path|Import path)[^'\"]*['\"]([\w.]*?)\.?(\w+)['\"]", message
    )
    if "class_path" in message and missing is not None:
        path = ".".join(part for part in missing.groups() if part)
        names = ("uniemo.modules.UnderstandingModule", "uniemo.modules.JointModule", "uniemo.modules.FeedbackModule")
        return f"class_path must name a class that exists; got {path!r}{near(path, [*names, 'uniemo.data.EmoSet'])}"
    return text.removeprefix("Parser key ")


def _near_key(key: str, known: list[str]) -> str:
    """Return the known keys whose whole or last part is like ``key``."""
    whole = near(key, known)
    if whole:
        return whole
    last = key.rpartition(".")[2]
    by_last: dict[str, str] = {}
    for name in known:
        by_last.setdefault(name.rpartition(".")[2], name)
    text = near(last, by_last)
    for short, full in by_last.items():
        text = re.sub(rf"(?<=mean |r or ){re.escape(short)}(?=\?| or )", full, text)
    return text or " (see uniemo fit --help, --model.help JointModule, --data.help EmoSet)"


def known_keys(parser: Any) -> list[str]:  # noqa: ANN401
    """Return dotted names of everything that a configuration may set."""
    keys = {action.dest for action in parser._actions if action.dest not in ("help", "config", "subcommand")}
    for command in getattr(parser, "_subcommand_parsers", {}).values():
        keys |= set(known_keys(command))
    from uniemo.data import EmoSet
    from uniemo.modules import JointModule, UnderstandingModule

    for prefix, kind in (("model", UnderstandingModule), ("model", JointModule), ("data", EmoSet)):
        keys |= set(_signature(prefix, kind))
    return sorted(key for key in keys if key)


def _signature(prefix: str, kind: Any) -> list[str]:  # noqa: ANN401
    """Return the arguments of a class, those of configuration dataclasses in it included."""
    hints = typing.get_type_hints(kind.__init__)
    keys = []
    for name in inspect.signature(kind.__init__).parameters:
        if name == "self":
            continue
        keys.append(f"{prefix}.{name}")
        if dataclasses.is_dataclass(hints.get(name)):
            keys += [f"{prefix}.{name}.{field.name}" for field in dataclasses.fields(hints[name])]
    return keys
