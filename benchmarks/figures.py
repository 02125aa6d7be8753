"""The figures of the loop's benchmark, computed with the package's own metrics on the miniature's networks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniemo.checkpoint import load_model
from uniemo.data.emoset import EmoSet
from uniemo.metrics.classifier_training import emotion_classifier
from uniemo.metrics.clip_evaluation import ClipEvaluation
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.metrics.feature_cache import view_of
from uniemo.metrics.fid import FeatureStatistics

SIZES = {"image_size": 64, "diffusion_size": 32}
VIEWS = ("image", "target")  # the judge reads pictures at the generator's resolution too
STEPS, GUIDANCE = 15, 5.0  # as in joint.yaml


@cache
def data() -> EmoSet:
    """Return the painted dataset."""
    return EmoSet("miniature:emoset", **SIZES, batch_size=128)


@cache
def evaluation() -> tuple[ClipEvaluation, FeatureStatistics]:
    """Return the metrics and the statistics of the real test paintings at 32 px."""
    clip = FrozenClip("miniature:clip")
    classifier, _ = emotion_classifier(clip, data(), VIEWS)
    metrics = ClipEvaluation(clip, classifier, data().vocabulary)
    return metrics, metrics.real_statistics(data().evaluation_loader("test"))


def _short(figures: dict[str, float]) -> dict[str, float]:
    """Drop the network's name: it is the miniature CLIP everywhere here, as the tables say."""
    return {key.replace("[miniature-clip]", ""): value for key, value in figures.items()}


def score(images: dict[str, Tensor], seed: int) -> dict[str, float]:
    """Return the figures of images (n, 3, H, W) in [0, 1] by intended emotion."""
    metrics, real = evaluation()
    names = {emotion: [f"{emotion}/{row:06d}" for row in range(len(part))] for emotion, part in images.items()}

    def images_of(batches: Sequence[Sequence[str]]) -> Iterator[list[Tensor]]:
        for batch in batches:
            yield [images[emotion][int(row)] for emotion, row in (name.split("/") for name in batch)]

    return _short(metrics.evaluate(names, images_of, real, seed=seed))


def score_real(per_emotion: int, seed: int) -> dict[str, float]:
    """Return the same figures of real test paintings seen at the generator's resolution."""
    names = data().vocabulary.emotions
    images: dict[str, list[Tensor]] = {name: [] for name in names}
    for batch in data().evaluation_loader("test", per_emotion):
        for image, label in zip(view_of(batch, "target"), batch.emotion.tolist(), strict=True):
            images[names[label]].append(image)
    return score({name: torch.stack(part) for name, part in images.items() if part}, seed)


@torch.no_grad()
def score_images(
    checkpoint: Path,
    per_emotion: int,
    seed: int,
    kind: str = "bank",
    tokens: Tensor | None = None,
    prompts: dict[str, Sequence[str]] | None = None,
) -> dict[str, float]:
    """Generate with a checkpoint's diffusion model and score the images.

    Args:
        checkpoint: of the joint or feedback stage.
        per_emotion: images for each emotion.
        seed: of the run; every method uses the same image seeds.
        kind: how the emotion space is drawn from.
        tokens: (8, W) one learned token embedding per emotion, instead of fused features.
        prompts: plain captions by emotion, instead of a condition.
    """
    model, info = load_model(checkpoint, generation=True)
    settings: dict[str, Any] = {"steps": STEPS, "guidance": GUIDANCE, "batch_size": 50}
    images = {}
    for label, name in enumerate(info.vocabulary.emotions):
        seeds = [seed * 1_000_000 + label * 10_000 + number for number in range(per_emotion)]
        if prompts is not None:
            images[name] = model.diffusion.generate(None, prompts[name], seeds, **settings)
        elif tokens is not None:
            condition = (tokens[label].expand(per_emotion, -1),)
            images[name] = model.diffusion.generate(condition, ["{}"] * per_emotion, seeds, **settings)
        else:
            images[name] = model.generate({label: 1.0}, seeds, kind=kind, **settings)
    return score(images, seed)


def checkpoint_bytes(path: Path) -> float:
    """Return the size of a checkpoint over the bytes of its tensors, all of which differ from the frozen backbones."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    tensors = sum(value.numel() * value.element_size() for value in content["state_dict"].values())
    return path.stat().st_size / tensors
