"""The Emo-A classifier of a CLIP and a dataset: two fully connected layers on frozen features, made at first need.

Its network and file are in :mod:`uniemo.metrics.classifier_head`, its training in
:mod:`uniemo.metrics.classifier_training`, the features' cache in :mod:`uniemo.metrics.clip_features`; all are imported
from here too.
"""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from filelock import FileLock
from torch.utils.data import DataLoader

from uniemo.cache import atomic_write, cache_dir
from uniemo.data.batch import EmotionSample
from uniemo.metrics.classifier_head import ClassifierOrigin, EmotionClassifier, published_head
from uniemo.metrics.classifier_training import ClassifierConfig, ClassifierInfo, train_emotion_classifier
from uniemo.metrics.clip_features import View, cached_features, collect_features, view_of
from uniemo.metrics.networks import FrozenClip
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.listing import Split

__all__ = [
    "ClassifierConfig",
    "ClassifierInfo",
    "ClassifierOrigin",
    "EmotionClassifier",
    "EvaluationData",
    "View",
    "cached_features",
    "collect_features",
    "emotion_classifier",
    "published_head",
    "train_emotion_classifier",
    "view_of",
]

_log = logging.getLogger(__name__)
_FORMAT = 2  # of the cached files; part of their key


class EvaluationData(Protocol):
    """What the classifier needs of a data module."""

    @property
    def vocabulary(self) -> Vocabulary:
        """Names of the emotions."""
        ...

    def fingerprint(self, split: Split) -> str:
        """Return a text that changes with the split's content."""
        ...

    def evaluation_loader(
        self, split: Split, limit_per_emotion: int | None = None, generated: bool = False
    ) -> DataLoader[EmotionSample]:
        """Return images without augmentation."""
        ...


def emotion_classifier(
    clip: FrozenClip,
    data: EvaluationData,
    views: tuple[View, ...] = ("image",),
    config: ClassifierConfig | None = None,
    limit_per_emotion: int | None = None,
) -> tuple[EmotionClassifier, ClassifierInfo]:
    """Return the Emo-A classifier of a CLIP and a dataset, trained at first need and then read from the cache.

    Of several processes that need it one trains it, while the others wait.

    Args:
        clip: whose features it reads.
        data: training split to train on, validation split to stop on; never the test split.
        views: views of each image to train on. With ``("image", "target")`` it also learns pictures at the resolution
            of generated ones, where that is lower than the CLIP's.
        config: how it is made.
        limit_per_emotion: at most so many images of each emotion; None takes all.

    Returns:
        The classifier on the CLIP's device, and how its training went (the accuracy is logged).
    """
    config = config or ClassifierConfig()
    emotions = data.vocabulary.emotions
    contents = [data.fingerprint("train"), data.fingerprint("val")]
    settings = json.dumps([_FORMAT, asdict(config), list(views), limit_per_emotion, contents, emotions])
    key = hashlib.sha256(f"{clip.hash} {settings}".encode()).hexdigest()[:16]
    weights = cache_dir() / "emotion_classifier" / f"{key}.safetensors"
    notes = weights.with_suffix(".json")
    weights.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{weights}.lock"):  # of several processes one trains it, the others read
        if weights.is_file() and notes.is_file():
            classifier = EmotionClassifier.load(weights)
            info = ClassifierInfo(**json.loads(notes.read_text())["info"])
        else:
            train = cached_features(clip, data.evaluation_loader("train", limit_per_emotion), views)
            val = cached_features(clip, data.evaluation_loader("val", limit_per_emotion), views)
            classifier, info = train_emotion_classifier(*train, *val, len(emotions), config)
            classifier.origin = ClassifierOrigin(emotions, clip.name, clip.hash)
            _save(classifier, info, weights, notes, clip)
    _log.info(
        "Emo-A classifier on %s: validation accuracy %.3f (%s)", clip.name, info.accuracy, config.hidden or "linear"
    )
    return classifier.to(clip.mean.device), info


def _save(classifier: EmotionClassifier, info: ClassifierInfo, weights: Path, notes: Path, clip: FrozenClip) -> None:
    """Write the classifier to the cache, the weights first."""
    classifier.save(weights)
    with atomic_write(notes) as temporary:
        temporary.write_text(json.dumps({"info": asdict(info), "clip": clip.name, "clip_hash": clip.hash}, indent=1))
