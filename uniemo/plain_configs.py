"""Configuration dataclasses as the plain values that checkpoints hold, and back."""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any, Literal, TypeVar

from uniemo.errors import UniEmoError

T = TypeVar("T")


def plain_config(config: Any) -> dict[str, Any]:  # noqa: ANN401
    """Turn a configuration dataclass into plain values that a checkpoint may hold (tuples become lists)."""
    return {
        name: list(value) if isinstance(value, tuple) else value for name, value in dataclasses.asdict(config).items()
    }


def make_config(kind: type[T], values: dict[str, Any]) -> T:
    """Build a configuration dataclass from plain values, lists where the class has tuples.

    Raises:
        UniEmoError: a value that the class does not know, or one of another type: the checkpoint comes from another
            version.
    """
    hints = typing.get_type_hints(kind)
    plain = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    wrong = [name for name in values if name not in hints or not _fits(plain[name], hints[name])]
    if wrong:
        raise UniEmoError(
            f"checkpoint must fit this version of uniemo; {kind.__name__} has no {wrong[0]} {values[wrong[0]]!r}: "
            "use the version named in it"
        )
    return kind(**plain)


def _fits(value: Any, hint: Any) -> bool:  # noqa: ANN401
    """Whether a plain value is of a type, as far as unions, literals and simple types go."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, part) for part in typing.get_args(hint))
    if origin is Literal:
        return value in typing.get_args(hint)
    kind = origin or hint
    if not isinstance(kind, type):
        return True
    return isinstance(value, (int, float)) if kind is float else isinstance(value, kind)
