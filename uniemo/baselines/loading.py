"""A baseline out of its checkpoint, without a trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch.cli import instantiate_module

from uniemo.baselines import find_method
from uniemo.baselines.base import UnderstandingBaseline
from uniemo.checkpoint import BASELINE, check_backbones, read_checkpoint
from uniemo.errors import UniEmoError
from uniemo.modules.emotion import EmotionModule


def load_baseline(path: str | Path) -> EmotionModule:
    """Build the module of a baseline's checkpoint, in eval mode on the CPU.

    Raises:
        UniEmoError: no such file, no checkpoint of a baseline, or a frozen network that cannot be loaded.
    """
    content, info = read_checkpoint(path, (BASELINE,))
    settings: dict[str, Any] = dict(content["hyper_parameters"])
    settings.pop("_instantiator", None)
    module: EmotionModule = instantiate_module(find_method(info.method), settings)
    check_backbones(info, module.backbones())
    module.build(info.vocabulary)
    module.load_state_dict(content["state_dict"])
    return module.eval()


def load_classifier(path: str | Path) -> tuple[UnderstandingBaseline, int]:
    """Build the module of a baseline that tells emotions, in eval mode on the CPU.

    Returns:
        The module, and the size R of the images that it was tested on.

    Raises:
        UniEmoError: see :func:`load_baseline`; a baseline that draws images, or a checkpoint without configuration.
    """
    _, info = read_checkpoint(path, (BASELINE,))
    if not issubclass(find_method(info.method), UnderstandingBaseline):
        raise UniEmoError(
            f"checkpoint must be of a method that tells emotions; {path} is of {info.method}: give another"
        )
    data = (yaml.safe_load(info.config) or {}).get("data")
    if data is None:
        raise UniEmoError(f"{path} holds no configuration, it was written from Python: train with uniemo fit")
    module = load_baseline(path)
    assert isinstance(module, UnderstandingBaseline)
    return module, int(data["init_args"]["image_size"])
