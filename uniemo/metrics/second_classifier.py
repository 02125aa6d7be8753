"""A second judge of emotions that shares nothing with the first: a small network that learns from pixels.

Another head on the same CLIP is no second opinion. On the miniature's 800 test images a two-layer classifier with
another seed and width gives the first one's answer for 99.6 to 100 % (both are right on 92 %), and a linear one is
right on 69 % only: what pleases one pleases the other, because both see what the CLIP sees. This network has no weight
in common with the CLIP, nor saw the images and captions that the CLIP learned from; it is right on 87 % (85 % at the
generator's resolution) and agrees with the first on 94 % (92 %). For large images a classifier on another CLIP does the
same (``uniemo train-classifier`` with another ``--clip``).
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm import tqdm

from uniemo.cache import atomic_write, cache_dir
from uniemo.metrics.classifier_training import ClassifierInfo
from uniemo.metrics.clip_features import View, view_of
from uniemo.metrics.emotion_classifier import EvaluationData
from uniemo.metrics.pixel_classifier import PixelClassifier, PixelConfig, square, train_pixel_classifier

if TYPE_CHECKING:
    from uniemo.data.listing import Split

__all__ = ["PixelClassifier", "PixelConfig", "second_classifier", "train_pixel_classifier"]

_log = logging.getLogger(__name__)
_FORMAT = 2  # of the cached files and of how they are made; part of their key


def second_classifier(
    data: EvaluationData,
    views: tuple[View, ...] = ("image",),
    config: PixelConfig | None = None,
    limit_per_emotion: int = 1000,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> tuple[PixelClassifier, ClassifierInfo]:
    """Return the second classifier of a dataset, trained at first need and then read from the cache.

    Args:
        data: training split to train on, validation split to choose the epoch; never the test split.
        views: views of each image to train on, see :func:`uniemo.metrics.emotion_classifier.emotion_classifier`.
        config: how it is made.
        limit_per_emotion: at most so many training images of each emotion: it is made for small data, such as the
            miniature's, where it takes about a minute of one core.
        device: where it is trained and returned; it is cached for all devices alike.
        progress: show bars where it is trained.

    Returns:
        The network, which reads images, and how its training went (the accuracy is logged).
    """
    config = config or PixelConfig()
    emotions = data.vocabulary.emotions
    contents = [data.fingerprint("train"), data.fingerprint("val")]
    settings = json.dumps([_FORMAT, asdict(config), list(views), limit_per_emotion, contents, emotions])
    key = hashlib.sha256(settings.encode()).hexdigest()[:16]
    path = cache_dir() / "second_classifier" / f"{key}.safetensors"
    with torch.random.fork_rng(devices=[]):  # its weights are about to be replaced: leave the random state alone
        blank = PixelClassifier(emotions, config.size, config.width)
    found = _read(path, blank)
    if found is None:
        train = _pixels(data, "train", views, limit_per_emotion, config.size, progress)
        val = _pixels(data, "val", views, None, config.size, progress)
        found = train_pixel_classifier(*train, *val, emotions, config, device, progress)
        with atomic_write(path) as temporary:
            state = {name: value.contiguous() for name, value in found[0].state_dict().items()}
            temporary.write_bytes(save(state, {"info": json.dumps(asdict(found[1])), "source": found[0].info.source}))
    classifier, info = found
    _log.info("second emotion classifier (pixels): validation accuracy %.3f", info.accuracy)
    return classifier.to(device), info


def _pixels(
    data: EvaluationData, split: Split, views: tuple[View, ...], limit: int | None, size: int, progress: bool
) -> tuple[Tensor, Tensor]:
    """Return a split's images (V, N, 3, S, S) as bytes and labels (N,)."""
    parts: list[list[Tensor]] = [[] for _ in views]
    labels = []
    loader = data.evaluation_loader(split, limit)
    for batch in tqdm(loader, desc=f"{split} images", unit="batch", disable=not progress, delay=1):
        labels.append(batch.emotion)
        for part, view in zip(parts, views, strict=True):
            part.append((square(view_of(batch, view), size) * 255).round().byte())
    if not labels:
        return torch.zeros(len(views), 0, 3, size, size, dtype=torch.uint8), torch.zeros(0, dtype=torch.long)
    return torch.stack([torch.cat(part) for part in parts]), torch.cat(labels)


def _read(path: Path, classifier: PixelClassifier) -> tuple[PixelClassifier, ClassifierInfo] | None:
    """Return what is in the cache, None where nothing whole is."""
    try:
        with safe_open(path, framework="pt") as file:
            info = ClassifierInfo(**json.loads(file.metadata()["info"]))
            source = file.metadata()["source"]
        classifier.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError):
        return None
    classifier.name_it(source)
    return classifier.requires_grad_(False), info
