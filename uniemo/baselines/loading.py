"""A baseline out of its checkpoint, without a trainer."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import instantiate_module

import uniemo.baselines
from uniemo.baselines.base import ClassifierBaseline
from uniemo.checkpoint import BASELINE, CheckpointInfo, check_backbones, read_checkpoint
from uniemo.errors import UniEmoError
from uniemo.modules.base import EmotionModule


def find_baseline(info: CheckpointInfo) -> type[EmotionModule]:
    """Return the class of a baseline's checkpoint: the one its configuration names, else the package's by ``method``.

    Raises:
        UniEmoError: it cannot be imported.
    """
    path: str = _config(info).get("model", {}).get("class_path", "")
    try:
        if path:
            module, _, name = path.rpartition(".")
            kind = getattr(importlib.import_module(module), name)
            if isinstance(kind, type) and issubclass(kind, EmotionModule):
                return kind
        elif info.method in {module.name for module in pkgutil.iter_modules(uniemo.baselines.__path__)}:
            for value in vars(importlib.import_module(f"uniemo.baselines.{info.method}")).values():
                if getattr(value, "method", "") == info.method and isinstance(value, type):
                    return value
    except (ImportError, AttributeError, TypeError, ValueError):  # also for names that are none
        pass
    raise UniEmoError(
        f"checkpoint must be of a baseline that can be imported; got {path or info.method!r}: "
        "update uniemo, or run where its file lies"
    )


def load_baseline(path: str | Path) -> EmotionModule:
    """Build the module of a baseline's checkpoint, in eval mode on the CPU.

    Raises:
        UniEmoError: no such file, no checkpoint of a baseline, or a frozen network that cannot be loaded.
    """
    content, info = read_checkpoint(path, (BASELINE,))
    settings: dict[str, Any] = dict(content["hyper_parameters"])
    settings.pop("_instantiator", None)
    module: EmotionModule = instantiate_module(find_baseline(info), settings)
    check_backbones(info, module.backbones())
    module.build(info.vocabulary)
    module.load_state_dict(content["state_dict"])
    return module.eval()


def load_classifier(path: str | Path) -> tuple[ClassifierBaseline, int]:
    """Build the module of a baseline that classifies, in eval mode on the CPU.

    Returns:
        The module, and the size R of the images that it was trained on.

    Raises:
        UniEmoError: see :func:`load_baseline`; a baseline that generates images, or a checkpoint without configuration.
    """
    _, info = read_checkpoint(path, (BASELINE,))
    if not issubclass(find_baseline(info), ClassifierBaseline):
        raise UniEmoError(f"checkpoint must be of a method that classifies; {path} is of {info.method}: give another")
    data = _config(info).get("data")
    if data is None:
        raise UniEmoError(f"{path} holds no configuration, it was written from Python: train with uniemo fit")
    module = load_baseline(path)
    assert isinstance(module, ClassifierBaseline)
    return module, int(data["init_args"]["image_size"])


def _config(info: CheckpointInfo) -> dict[str, Any]:
    """Return the run's resolved configuration, empty where it was not started from the command line."""
    return yaml.safe_load(info.config) or {}
