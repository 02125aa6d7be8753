"""What a checkpoint may name without the user's trust: uniemo's own classes, and networks that no stranger hosts.

Every name that a file holds and that leads to code or to the network passes through here.
"""

from __future__ import annotations

import dataclasses
import importlib
import typing
from pathlib import Path
from typing import Any

from uniemo.errors import UniEmoError

_CLASSES = ("class_path", "_class_path", "family", "implementation")  # keys: of sections, diffusion model and fusion
_NETWORKS = ("clip", "path")  # keys: of CLIPs, of diffusion and vision-language models
_TEXT = (str, Path, int, float, bool, type(None))


def check_names(value: Any, source: str | Path, trust: bool) -> None:  # noqa: ANN401
    """Check every name in a value of a checkpoint, however deep.

    Raises:
        UniEmoError: a class that is not uniemo's, or a network that would be fetched from a stranger's repository.
    """
    if isinstance(value, dict):
        for name, item in value.items():
            if name in _CLASSES and item is not None:
                check_class(item, source, trust)
            if name in _NETWORKS and isinstance(item, str):
                _check_network(item, source, trust)
            check_names(item, source, trust)
    elif isinstance(value, list | tuple):
        for item in value:
            check_names(item, source, trust)


def check_class(class_path: Any, source: str | Path, trust: bool) -> None:  # noqa: ANN401
    """Raise UniEmoError unless a class path is trusted or that of a class defined in uniemo.

    ``uniemo.launch.subprocess.Popen`` begins with uniemo and is none of its classes.
    """
    if not isinstance(class_path, str) or not (trust or find_own(class_path)):
        raise UniEmoError(
            f"{source} must name classes of uniemo alone; {class_path!r} is none: add --trust if you know where the "
            "file comes from"
        )


def check_sections(kind: type, values: dict[str, Any], source: str | Path) -> None:
    """Raise UniEmoError where text stands in place of a section of a class's arguments.

    The configuration's parser would import a class of that name, or read a file or an address of that name.
    """
    for name, hint in typing.get_type_hints(kind.__init__).items():  # type: ignore[misc]
        value = values.get(name)
        kinds = _kinds(hint)
        if any(not issubclass(kind, _TEXT) for kind in kinds) and _holds_text(value):
            raise UniEmoError(f"{source} must hold a section of keys for {name}; it holds text: take another")
        for kind in kinds:
            if dataclasses.is_dataclass(kind) and isinstance(value, dict):
                check_sections(kind, value, source)


def _kinds(hint: Any) -> list[type]:  # noqa: ANN401
    """Return the classes in a type."""
    parts = typing.get_args(hint)
    if typing.get_origin(hint) is typing.Literal:
        return []
    if parts:
        return [kind for part in parts for kind in _kinds(part)]
    return [hint] if isinstance(hint, type) else []


def _holds_text(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return any(_holds_text(item) for item in value)
    return isinstance(value, str)


def find_own(class_path: str) -> type | None:
    """Return a class defined in uniemo; None for any other name. Nothing that is not uniemo's is imported."""
    module, _, name = class_path.rpartition(".")
    if module.partition(".")[0] != "uniemo":
        return None
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (ImportError, AttributeError, ValueError):
        return None
    own = isinstance(found, type) and found.__module__.partition(".")[0] == "uniemo"
    return found if own else None


def _check_network(name: str, source: str | Path, trust: bool) -> None:
    """Raise UniEmoError for a repository that is neither here nor one that uniemo itself knows."""
    from uniemo.models.hub import RANDOM, is_here, is_hub_name

    wanted = name.removeprefix(RANDOM)
    if trust or not is_hub_name(wanted) or Path(wanted).exists() or is_here(wanted):
        return
    import open_clip

    from uniemo.models.diffusion.loading import FAMILIES

    published = {own for family in FAMILIES for own in family.published}
    if wanted not in published and wanted.partition("/")[0] not in open_clip.list_models():
        raise UniEmoError(
            f"{source} must name networks that are here or that uniemo knows; {name!r} would be fetched from the hub: "
            "add --trust if you know where the file comes from"
        )
