"""What ``uniemo train-classifier`` reports about a classifier, on screen and in the JSON file beside it."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from uniemo import __version__
from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.manifest import SPLITS
from uniemo.metrics.calibration import classification_metrics
from uniemo.metrics.classifier import EmotionClassifier
from uniemo.metrics.classifier_training import ClassifierConfig, ClassifierInfo
from uniemo.metrics.clip_networks import FrozenClip

_PACKAGES = ("torch", "open_clip_torch", "safetensors", "numpy", "pillow")  # what can change a metric


def measure(
    classifier: EmotionClassifier, emotions: tuple[str, ...], features: dict[str, tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    """Return the metrics on test and validation features, before the temperature too where there is one."""
    temperature = float(classifier.temperature)
    found: dict[str, Any] = {"temperature": temperature}
    for split in ("test", "val"):
        inputs, labels = features[split]
        with torch.no_grad():
            logits = classifier(inputs).double()
        found[split] = classification_metrics(logits, labels, emotions)
        if temperature != 1:
            before = classification_metrics(logits * temperature, labels, emotions)
            found[f"{split}_before_temperature"] = {key: before[key] for key in ("confidence", "ece", "brier", "nll")}
    return found


def origin(
    options: argparse.Namespace,
    data: EmotionDataModule,
    clip: FrozenClip,
    training: tuple[ClassifierConfig, ClassifierInfo],
    counts: dict[str, dict[str, int]],
    features: dict[str, tuple[Tensor, Tensor]],
) -> dict[str, Any]:
    """Return where the classifier comes from."""
    views = {"image": data.image_size}
    if data.diffusion_size is not None:
        views["target"] = data.diffusion_size
    per_split = {"train": len(views), "val": len(views), "test": 1}
    return {
        "emotions": list(data.vocabulary.emotions),
        "clip": {"name": clip.name, "source": clip.source, "hash": clip.hash, "features": "not normalised"},
        "head": {"form": options.head, **asdict(training[0])},
        "training": asdict(training[1]),
        "data": {
            "root": options.root,
            "dataset": data.manifest.info.dataset,
            "found": data.describe(),
            "seed": options.data_seed,
            "fold": options.fold,
            "split_file": options.split_file,
            "images": counts,
            "used": {split: len(labels) // per_split[split] for split, (_, labels) in features.items()},
            "files": {split: data.records(split).fingerprint()[:12] for split in SPLITS},
            "views": views,
        },
        "versions": {"uniemo": __version__, **{name: version(name) for name in _PACKAGES}},
    }


def summary(metrics: dict[str, Any], training: tuple[ClassifierConfig, ClassifierInfo]) -> str:
    """Lay out the metrics."""
    config, info = training
    test = metrics["test"]
    head = "linear" if config.hidden is None else f"two layers, {config.hidden} hidden"
    lines = [
        f"Emo-A classifier ({head}, seed {config.seed}): {info.epochs} epochs, the best was {info.best_epoch}; "
        f"{info.accuracy:.1%} right on validation",
        f"on {test['images']:,} test images, used once",
        f"  accuracy {test['accuracy']:.1%}, balanced {test['balanced_accuracy']:.1%}",
        f"  ECE {test['ece']:.4f} ({test['ece_bins']} bins), Brier {test['brier']:.4f}, NLL {test['nll']:.4f}",
    ]
    if config.temperature:
        before = metrics.get("test_before_temperature", test)
        lines.append(
            f"  temperature {metrics['temperature']:.3f} (without: ECE {before['ece']:.4f}, NLL {before['nll']:.4f})"
        )
    width = max(map(len, test["by_emotion"]))
    for name, row in test["by_emotion"].items():
        share = "    –" if row["accuracy"] is None else f"{row['accuracy']:>6.1%}"
        lines.append(f"  {name:<{width}}  {share}  of {row['images']:,}")
    return "\n".join(lines)
