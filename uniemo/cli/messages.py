"""What jsonargparse finds wrong, in one line with near matches."""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import typing
from collections.abc import Iterable
from importlib import import_module
from typing import Any

from uniemo.errors import UniEmoError
from uniemo.text_files import read_yaml

_UNKNOWN = (
    re.compile(r"unrecognized arguments?: -*(?P<key>[^\s=]+)"),
    re.compile(r"Group '(?P<group>[^']+)' does not accept option '(?P<key>[^']+)'"),
    re.compile(r"[Oo]ption '(?P<key>[^']+)' is not accepted"),
    re.compile(r"does not accept option '(?P<key>[^']+)'"),
)
_NO_KEY = re.compile(r"configuration has no key '(?P<key>.+?)'(?:: did you mean (?P<near>.+?)\?)?")
_EXPLAINED = re.compile(r"[\w.]+ must be .+; got .+")
_LONGEST = 400  # characters of a message that is passed on as it is
_WANTED = {
    **{"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"},
    **{"tuple": "a list", "list": "a list", "dict": "a section of keys"},
}


def near(word: str, known: Iterable[str]) -> str:
    """Return ``": did you mean a or b?"`` for the known words like ``word``, or nothing."""
    matches = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f": did you mean {' or '.join(matches)}?" if matches else ""


def explain(message: str, parser: Any) -> str:  # noqa: ANN401 - jsonargparse is imported by the caller
    """Turn a parser's message into one line; for a key that does not exist, name the near ones.

    A part with its own arguments (the model, the data) has a parser of its own, whose line comes inside the message.
    """
    found = re.match(r'\s*Parser key "([^"]+)"', message)
    section = "" if found is None else f"{found[1]}."
    inner = _NO_KEY.search(message)
    if inner is not None:
        nearest = [section + name for name in (inner["near"] or "").split(" or ") if name]
        return _no_key(section + inner["key"], nearest)
    for pattern in _UNKNOWN:
        unknown = pattern.search(message)
        if unknown is not None:
            groups = unknown.groupdict()
            key = ".".join(part for part in (groups.get("group"), groups["key"]) if part)
            return _no_key(key, _near_keys(key, _keys(parser)))
    missing = re.search(r"Problem with given class_path '([\w.]+)':\s+module '([\w.]+)' has no attribute", message)
    if missing is not None:
        module = import_module(missing[2])
        known = [f"{missing[2]}.{name}" for name in getattr(module, "__all__", dir(module))]
        return f"class_path must name a class that exists; got {missing[1]!r}{near(missing[1], known)}"
    required = re.search(r"the following arguments are required: ([\w.]+)", message)
    if section and required is not None:
        return f"{section}{required[1]} must be given: add --{section}{required[1]}"
    return _wrong_value(section.removesuffix("."), message)


def check_keys(content: dict[str, Any], parsed: dict[str, Any], prefix: str = "") -> None:
    """Raise for keys of a configuration file that jsonargparse passes over because nothing stands below them."""
    if "class_path" in content and content["class_path"] != parsed.get("class_path"):
        return  # another file or an option has named another class
    for name, value in content.items():
        if name == "init_args" and isinstance(value, dict):
            check_keys(value, parsed["init_args"], prefix)
            continue
        known = parsed if name in parsed else parsed.get("init_args", {})  # ``init_args`` may be left out
        key = f"{prefix}{name}"
        if name not in known:
            raise UniEmoError(_no_key(key, _near_keys(key, [f"{prefix}{other}" for other in known])))
        if isinstance(value, dict) and isinstance(known[name], dict):
            check_keys(value, known[name], f"{key}.")


def check_sections(config: Any, parser: Any) -> None:  # noqa: ANN401
    """Raise where something else than keys stands in place of a section; jsonargparse lets it through."""
    sections = {name.partition(".")[0] for name in _keys(parser) if "." in name}
    found = {name: config.get(name, {}) for name in sections}
    for name in ("model", "data"):
        module, _, kind = str(config[name].class_path).rpartition(".")
        hints = typing.get_type_hints(getattr(import_module(module), kind).__init__)
        for key, value in vars(config[name].init_args).items():
            if dataclasses.is_dataclass(hints.get(key)):
                found[f"{name}.{key}"] = value
    for name, value in found.items():
        if not hasattr(value, "items"):
            got = "nothing" if value is None else repr(value)
            raise UniEmoError(f"{name} must be a section of keys; got {got}: write keys below it or leave it out")


def _no_key(key: str, nearest: list[str]) -> str:
    hint = f": did you mean {' or '.join(nearest)}?" if nearest else " (see uniemo fit --help)"
    return f"configuration has no key {key!r}{hint}"


def _near_keys(key: str, known: list[str]) -> list[str]:
    """Return at most two known keys that are like ``key``, which may lack its first parts."""

    def likeness(name: str) -> float:
        tail = ".".join(name.split(".")[-1 - key.count(".") :])
        return max(difflib.SequenceMatcher(None, key, other).ratio() for other in (name, tail))

    best = sorted(known, key=likeness, reverse=True)[:2]
    return [name for name in best if likeness(name) >= max(0.75, likeness(best[0]) - 0.05)]


def _keys(parser: Any) -> list[str]:  # noqa: ANN401
    """Return the options of a parser and of its commands."""
    keys: list[str] = []
    for action in parser._actions:
        if isinstance(action.choices, dict):
            keys += [name for command in action.choices.values() for name in _keys(command)]
        elif action.dest not in ("help", "config"):
            keys.append(action.dest)
    return sorted(set(keys))


def _wrong_value(key: str, message: str) -> str:
    """Return what was expected in place of the value of a key, or of one below it."""
    explained = _EXPLAINED.search(message)
    if explained is not None:  # by a part's own parser
        return f"{key}.{explained.group()}"
    kinds = re.findall(r"Expected an? (.+?)(?:\. Got value: .*|: .*)?$", message, re.MULTILINE)
    wanted = list(dict.fromkeys(_wanted(kind) for kind in kinds if not kind.startswith("path but")))
    given = re.search(r"(?:Given value|Got value): (.+)", message)
    if not key or given is None or not wanted:
        line = " ".join(message.split()).removeprefix("Parser key ")
        return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    got = given[1]
    nested = re.fullmatch(r"NestedArg\(key='(.+?)', val='?(.*?)'?\)", got)
    if nested is not None:
        key, got = f"{key}.{nested[1]}", nested[2]
    if wanted == ["null"]:  # beside a class, whose arguments are the section
        wanted = ["a section of keys"]
    return f"{key} must be {' or '.join(wanted)}; got {got}{_unreadable(got)}"


def _unreadable(got: str) -> str:
    """Return in brackets why a file that was given in place of a section cannot be used; nothing for other values."""
    if not os.path.isfile(got):
        return ""
    try:
        read_yaml(got)
    except (OSError, ValueError) as error:
        return f" ({error})"
    return ""


def _wanted(kind: str) -> str:
    """Return in plain words what a type stands for."""
    choices = re.fullmatch(r"typing\.Literal\[(.+)\]", kind)
    if choices is not None:
        return " or ".join(choice.strip("'") for choice in choices[1].split(", "))
    if "dot import path" in kind:
        return "the import path of a class"
    name = kind.removeprefix("<class '").removesuffix("'>")
    return _WANTED.get(name, name)
