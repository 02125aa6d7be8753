"""Classes by their class path, as a configuration names them."""

from __future__ import annotations

from importlib import import_module
from typing import TypeVar

from uniemo.errors import UniEmoError

T = TypeVar("T")


def import_class(class_path: str, base: type[T], name: str) -> type[T]:
    """Import a class such as ``my_fusion.GatedFusion``; its module must be on Python's path, ``name`` is for errors.

    Raises:
        UniEmoError: it cannot be imported or is of another kind.
    """
    module, _, attribute = class_path.rpartition(".")
    rule = f"{name} must be the class path of a {base.__name__}; got {class_path!r}"
    try:
        kind = getattr(import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UniEmoError(f"{rule} ({error})") from error
    if not (isinstance(kind, type) and issubclass(kind, base)):
        raise UniEmoError(f"{rule}, which derives from another class")
    return kind
