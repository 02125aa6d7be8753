"""A baseline out of its checkpoint, without a trainer."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Any

from lightning.pytorch.cli import instantiate_module

import uniemo.baselines
from uniemo.baselines.base import ClassifierBaseline
from uniemo.checkpoint import CheckpointInfo, check_backbones, fitting
from uniemo.errors import UniEmoError
from uniemo.modules.base import EmotionModule
from uniemo.stored_config import import_class, stored_config
from uniemo.stored_names import check_names, check_sections


def find_baseline(info: CheckpointInfo, trust: bool = False) -> type[EmotionModule]:
    """Return the class of a baseline's checkpoint: the one its configuration names, else the package's by ``method``.

    Raises:
        UniEmoError: it cannot be imported.
    """
    class_path = stored_config(info, trust).get("model", {}).get("class_path")
    if class_path is not None:
        return import_class(class_path, EmotionModule, info.path, trust)  # type: ignore[type-abstract]
    if info.method in {module.name for module in pkgutil.iter_modules(uniemo.baselines.__path__)}:
        for value in vars(importlib.import_module(f"uniemo.baselines.{info.method}")).values():
            if getattr(value, "method", "") == info.method and isinstance(value, type):
                return value
    raise UniEmoError(
        f"checkpoint must be of a baseline that can be imported; {info.path} is of {info.method!r}: update uniemo"
    )


def build_baseline(content: dict[str, Any], info: CheckpointInfo, trust: bool = False) -> EmotionModule:
    """Build the module of a baseline's checkpoint that has been read, in eval mode on the CPU.

    With ``trust`` a class that is not uniemo's is imported too, and code beside the weights of its networks may run.

    Raises:
        UniEmoError: a frozen network that cannot be loaded, or a checkpoint that does not fit.
    """
    kind = find_baseline(info, trust)
    settings: dict[str, Any] = dict(content.get("hyper_parameters", {}))
    settings.pop("_instantiator", None)
    check_names(settings, info.path, trust)
    check_sections(kind, settings, info.path)
    with fitting(info.path):
        module: EmotionModule = instantiate_module(kind, settings)
        module.trust = trust
        check_backbones(info, module.backbones())
        module.build(info.vocabulary)
        module.load_state_dict(content["state_dict"])
    return module.eval()


def build_classifier(
    content: dict[str, Any], info: CheckpointInfo, trust: bool = False
) -> tuple[ClassifierBaseline, int]:
    """Build the module of a baseline that classifies, in eval mode on the CPU; arguments as above.

    Returns:
        The module, and the size R of the images that it was trained on.

    Raises:
        UniEmoError: as above; a baseline that generates images, or a checkpoint without configuration.
    """
    if not issubclass(find_baseline(info, trust), ClassifierBaseline):
        raise UniEmoError(
            f"checkpoint must be of a method that classifies; {info.path} is of {info.method}: give another"
        )
    size = stored_config(info, trust).get("data", {}).get("init_args", {}).get("image_size")
    if size is None:
        raise UniEmoError(f"{info.path} holds no configuration, it was written from Python: train with uniemo fit")
    module = build_baseline(content, info, trust)
    assert isinstance(module, ClassifierBaseline)
    return module, int(size)
