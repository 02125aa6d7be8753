"""What may be taken from the configuration that a checkpoint holds: nothing that runs code or says where to write."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

from uniemo import class_paths
from uniemo.checkpoint import CheckpointInfo
from uniemo.errors import UniEmoError
from uniemo.stored_names import check_class, check_names, check_sections, find_own
from uniemo.text_files import parse_yaml

T = TypeVar("T")
_CALLBACKS = ("best_checkpoint", "last_checkpoint", "generation_metrics", "attention_maps", "explicit_feedback")
_TRAINER_TEXT = ("precision", "gradient_clip_algorithm", "deterministic")  # beside numbers
_MACHINE = ("devices", "num_nodes")  # numbers of the trainer that start processes or wait for other machines


def stored_config(info: CheckpointInfo, trust: bool = False) -> dict[str, Any]:
    """Return model, data and plain values of the configuration in a checkpoint.

    Loggers, strategies, callbacks, profilers and output paths are left out; classes are those of uniemo.

    Raises:
        UniEmoError: no YAML with sections, a class that is not uniemo's, or a network that it does not know.
    """
    try:
        content = parse_yaml(info.config) or {}
        sections = [content, *(content.get(name, {}) for name in ("model", "data"))]
        damaged = not all(isinstance(one.get("init_args", {}), dict) for one in sections)
    except (ValueError, AttributeError):
        damaged = True
    if damaged:
        raise UniEmoError(f"checkpoint must hold a configuration; that in {info.path} is damaged: take another")
    config: dict[str, Any] = {}
    for name, value in content.items():
        if name == "seed_everything" and isinstance(value, bool | int):
            config[name] = value
        elif name in ("model", "data") and isinstance(value, dict):
            section = {key: value[key] for key in ("class_path", "init_args") if key in value}
            check_names(section, info.path, trust)
            own = find_own(str(section.get("class_path")))
            if own is not None:
                check_sections(own, section.get("init_args", {}), info.path)
            config[name] = section
        elif name in (*_CALLBACKS, "trainer") and isinstance(value, dict):
            config[name] = {key: item for key, item in value.items() if _is_plain(name, key, item)}
            check_names(config[name], info.path, trust)
    return config


def _is_plain(section: str, key: str, value: Any) -> bool:  # noqa: ANN401
    """Whether a value of a callback or of the trainer may be taken over."""
    if key == "judge":  # a file of the machine that it was trained on
        return False
    if section == "trainer" and (key in _MACHINE or (isinstance(value, str) and key not in _TRAINER_TEXT)):
        return False
    return value is None or isinstance(value, int | float | str)


def import_class(class_path: Any, base: type[T], source: str | Path, trust: bool = False) -> type[T]:  # noqa: ANN401
    """Return a class that a file names, importing nothing that is not uniemo's.

    Raises:
        UniEmoError: it is not uniemo's, does not exist or is of another kind.
    """
    check_class(class_path, source, trust)
    return class_paths.import_class(class_path, base, f"a class in {source}")
