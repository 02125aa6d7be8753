"""One-line explanations of what jsonargparse found wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import inspect
import re
import typing
from collections.abc import Iterator
from typing import Any

import yaml

from uniemo.cli.parsing import near
from uniemo.data.catalog import DATASETS
from uniemo.errors import UniEmoError

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
    inner = re.search(r"configuration has no key .+", message)  # found by a part's own parser, explained already
    if inner is not None:
        return inner.group()
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
        names = [f"uniemo.modules.{stage}Module" for stage in ("Understanding", "Joint", "Feedback")]
        return f"class_path must name a class that exists; got {path!r}{near(path, [*names, *DATASETS.values()])}"
    return _wrong_value(message)


def check_values(content: dict[str, Any], parser: Any) -> None:  # noqa: ANN401
    """Raise for what the parser would pass over or misunderstand in a configuration.

    Args:
        content: of a file, or :func:`values` of the command line.
        parser: whose arguments are the known keys.

    Raises:
        UniEmoError: an empty section or key does not exist, or a section holds something else than keys.
    """
    known, sections = _known(parser)
    for key, value in _leaves(content):
        above = {key[: place.start()] for place in re.finditer(r"\.", key)}
        free = any(name not in sections for name in above & known)  # inside a value that is no section
        passed_over = value == {} or (value is None and "." not in key)
        if passed_over and key not in known | sections and not free:
            raise UniEmoError(f"configuration has no key {key!r}{_near_key(key, sorted(known | sections))}")
        if key in sections and not isinstance(value, (dict, str)):  # text may name a class or another file
            raise UniEmoError(_no_section(key, "nothing" if value is None else repr(value)))


def values(words: list[str]) -> dict[str, Any]:
    """Return what options of a command line set, by dotted name, as a configuration file would hold it.

    Args:
        words: ``--name=value`` or ``--name value``; a value that is no YAML is left to the parser.
    """
    found: dict[str, Any] = {}
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        option, equals, value = word.partition("=")
        value = value if equals else following
        named = option in ("--config", "--model", "--data")  # a file or a class
        if option.startswith("--") and not named and (equals or not value.startswith("--")):
            with contextlib.suppress(yaml.YAMLError):
                found[option.removeprefix("--").replace(".init_args", "")] = yaml.safe_load(value)
    return found


def _known(parser: Any) -> tuple[set[str], set[str]]:  # noqa: ANN401
    """Return the names of everything that can be set, and of the sections that hold them."""
    known = {name for name in known_keys(parser) if not name.endswith(".help")}
    return known, {name.rpartition(".")[0] for name in known}


def _no_section(key: str, got: str) -> str:
    """Return the message for a value where keys belong."""
    return f"{key} must be a section of keys; got {got}: write keys below it or leave it out"


def _leaves(content: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Iterate over dotted names and values, leaving out classes whose keys are not known here."""
    if not str(content.get("class_path", "uniemo.modules")).startswith(("uniemo.modules", "uniemo.data")):
        return
    for name, value in content.items():
        key = prefix.removesuffix(".") if name == "init_args" else f"{prefix}{name}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{key}.")
        elif name != "class_path":
            yield key, value


def _wrong_value(message: str) -> str:
    """Return which key has a wrong value and what was expected, out of a list of attempts."""
    key = re.match(r'\s*Parser key "([^"]+)":', message)
    attempts = re.findall(r"^\s*- (.+)$", message, re.MULTILINE)
    inner = re.match(r"[\w.]+ must be .+", attempts[0]) if attempts else None  # explained by a part's own parser
    nested = re.match(r'"([\w.]+)": (.+)', attempts[0]) if attempts else None
    given = re.search(r"(?:Given value|Got value): (.+)", message)
    if key is not None and inner is not None:
        return f"{key.group(1)}.{inner.group()}"
    no_section = re.search(r"\"([\w.]+)\": Unable to load config ['\"](.+?)['\"]", message)
    if key is not None and no_section is not None:
        part, got = no_section.groups()
        return _no_section(part if part == key.group(1) else f"{key.group(1)}.{part}", got)
    expected = "\n".join([nested.group(2)] if nested is not None else attempts) or message
    kinds = re.findall(r"Expected an? (.+?)(?:\. Got value: .*)?$", expected, re.MULTILINE)
    wanted = [_wanted(kind) for kind in kinds if not kind.startswith("path but")]
    if key is None or given is None or not wanted:
        return " ".join(message.split()).removeprefix("Parser key ")
    name = key.group(1) if nested is None else f"{key.group(1)}.{nested.group(1)}"
    return f"{name} must be {' or '.join(dict.fromkeys(wanted))}; got {given.group(1)}"


_WANTED = {
    **{"int": "a whole number", "float": "a number", "bool": "true or false", "str": "text", "NoneType": "null"},
    **{"tuple": "a list", "list": "a list", "dict": "a section of keys"},
}


def _wanted(kind: str) -> str:
    """Return in plain words what a type stands for."""
    choices = re.fullmatch(r"typing\.Literal\[(.+)\]", kind)
    if choices is not None:
        return " or ".join(choice.strip("'") for choice in choices.group(1).split(", "))
    if "dot import path" in kind:
        return "the import path of a class"
    name = kind.removeprefix("<class '").removesuffix("'>")
    return _WANTED.get(name, name)


def _near_key(key: str, known: list[str]) -> str:
    """Return the known keys that are like ``key``, which may lack its first parts."""

    def likeness(name: str) -> float:
        tail = ".".join(name.split(".")[-1 - key.count(".") :])
        return max(difflib.SequenceMatcher(None, key, other).ratio() for other in (name, tail))

    best = sorted(known, key=likeness, reverse=True)[:2]
    close = [name for name in best if likeness(name) >= max(0.75, likeness(best[0]) - 0.05)]
    if not close:
        return " (see uniemo fit --help, --model.help JointModule, --data.help EmoSet)"
    return f": did you mean {' or '.join(close)}?"


def known_keys(parser: Any) -> list[str]:  # noqa: ANN401
    """Return dotted names of everything that a configuration may set."""
    import uniemo.data
    from uniemo.modules import EmotionModule, JointModule, UnderstandingModule

    keys = set(_options(parser))
    datasets = [getattr(uniemo.data, name) for name in DATASETS]
    models = [UnderstandingModule, JointModule, *_imported_baselines(EmotionModule)]
    for prefix, kind in (*(("model", model) for model in models), *(("data", own) for own in datasets)):
        keys |= set(_signature(prefix, kind))
    return sorted(keys)


def _imported_baselines(kind: Any) -> list[Any]:  # noqa: ANN401
    """Return the baselines that a configuration has named so far, which the parser has imported."""
    found = [below for one in kind.__subclasses__() for below in (one, *_imported_baselines(one))]
    return [one for one in found if one.method]


def _options(parser: Any) -> list[str]:  # noqa: ANN401
    """Return the options of a parser and of its commands."""
    names: list[str] = []
    if not any(action.dest == "config" for action in parser._actions):
        return names  # the parser of a part, whose names lack their section
    for action in parser._actions:
        if isinstance(action.choices, dict):
            names += [name for command in action.choices.values() for name in _options(command)]
        elif action.dest not in ("help", "config", "model", "data"):
            names.append(action.dest)
    return names


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
