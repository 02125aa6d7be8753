"""What ``uniemo train-classifier`` says of a classifier, on screen and in the JSON file beside it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from uniemo import __version__
from uniemo.data.listing import SPLITS

if TYPE_CHECKING:
    from torch import Tensor

    from uniemo.data.base import EmotionDataModule
    from uniemo.metrics.emotion_classifier import ClassifierConfig, ClassifierInfo, EmotionClassifier, View
    from uniemo.metrics.networks import FrozenClip

_PACKAGES = ("torch", "open_clip_torch", "safetensors", "numpy", "pillow")  # what can change a figure


def measured(
    classifier: EmotionClassifier,
    emotions: tuple[str, ...],
    test: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
) -> dict[str, Any]:
    """Return what the classifier does on test and validation images, before its temperature too where it has one."""
    import torch

    from uniemo.metrics.calibration import classification_figures

    temperature = float(classifier.temperature)
    figures: dict[str, Any] = {"temperature": temperature}
    for name, (features, labels) in (("test", test), ("val", val)):
        with torch.no_grad():
            logits = classifier(features).double()
        figures[name] = classification_figures(logits.softmax(dim=1), labels, emotions)
        if temperature != 1:
            before = classification_figures((logits * temperature).softmax(dim=1), labels, emotions)
            figures[f"{name}_before_temperature"] = {key: before[key] for key in ("confidence", "ece", "brier", "nll")}
    return figures


def origin_of(
    options: argparse.Namespace,
    data: EmotionDataModule,
    clip: FrozenClip,
    config: ClassifierConfig,
    info: ClassifierInfo,
    views: tuple[View, ...],
    counts: dict[str, dict[str, int]],
    used: dict[str, tuple[Tensor, Tensor]],
) -> dict[str, Any]:
    """Return where the classifier comes from."""
    per_split = {"train": len(views), "val": len(views), "test": 1}
    return {
        "emotions": list(data.vocabulary.emotions),
        "clip": {"name": clip.name, "source": clip.source, "hash": clip.hash, "features": "not normalised"},
        "head": {"form": options.head, **asdict(config)},
        "training": asdict(info),
        "data": {
            "root": options.root,
            "dataset": data.dataset_name,
            "found": data.describe(),
            "seed": options.data_seed,
            "fold": options.fold,
            "split_file": options.split_file,
            "images": counts,
            "used": {split: len(labels) // per_split[split] for split, (_, labels) in used.items()},
            "files": {split: data.records(split).fingerprint()[:12] for split in SPLITS},
            "views": {"image": data.image_size, **({"target": data.diffusion_size} if "target" in views else {})},
        },
        "versions": {"uniemo": __version__, **{name: version(name) for name in _PACKAGES}},
    }


def summary(figures: dict[str, Any], info: ClassifierInfo, config: ClassifierConfig, data: EmotionDataModule) -> str:
    """Lay out the figures."""
    test = figures["test"]
    head = "linear" if config.hidden is None else f"two layers, {config.hidden} hidden"
    lines = [
        f"Emo-A classifier ({head}, seed {config.seed}): {info.epochs} epochs, the best was {info.best_epoch}; "
        f"{info.accuracy:.1%} right on validation",
        f"on {test['images']:,} test images, looked at once",
        f"  accuracy {test['accuracy']:.1%}, balanced {test['balanced_accuracy']:.1%}",
        f"  ECE {test['ece']:.4f} ({test['ece_bins']} bins), Brier {test['brier']:.4f}, NLL {test['nll']:.4f}",
    ]
    if config.temperature:
        before = figures.get("test_before_temperature", test)
        lines.append(
            f"  temperature {figures['temperature']:.3f} (without: ECE {before['ece']:.4f}, NLL {before['nll']:.4f})"
        )
    width = max(map(len, data.vocabulary.emotions))
    for name, row in test["by_emotion"].items():
        share = "    –" if row["accuracy"] is None else f"{row['accuracy']:>6.1%}"
        lines.append(f"  {name:<{width}}  {share}  of {row['images']:,}")
    return "\n".join(lines)
