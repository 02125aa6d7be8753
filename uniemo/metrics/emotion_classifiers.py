"""The emotion classifiers of Emo-A: from files, or trained at first need on a dataset's training split."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from uniemo.distributed import is_first
from uniemo.errors import UniEmoError
from uniemo.metrics.classifier import EmotionClassifier, EmotionHead, random_head
from uniemo.metrics.classifier_training import ClassifierConfig, emotion_classifier
from uniemo.metrics.clip_networks import ClipNetwork
from uniemo.metrics.feature_cache import cached_features, views_of
from uniemo.metrics.feature_network import FeatureNetwork
from uniemo.metrics.imagenet import EfficientNetLite, second_weights
from uniemo.metrics.judge import Judge
from uniemo.metrics.outputs import Output, emotion_output

if TYPE_CHECKING:
    from uniemo.data.datamodule import EmotionDataModule


@dataclass(frozen=True)
class Classifier:
    """An emotion classifier and what a result says about it.

    Attributes:
        output: probabilities (B, C), for Emo-A.
        about: where it comes from and how good it is, plain values.
    """

    output: Output
    about: dict[str, Any]


def choose_classifiers(
    files: tuple[str | None, str | None],
    clips: tuple[ClipNetwork, ClipNetwork],
    emotions: Sequence[str],
    training: Callable[[], tuple[EmotionDataModule, str] | None],
    random: bool = False,
    second: bool = False,
) -> tuple[list[Classifier], list[str]]:
    """Return the first and the second classifier as far as they can be had, and notes for the result.

    Args:
        files: of the first and of the second; None trains it.
        clips: whose features they learn from.
        emotions: class names in the order of the metrics.
        training: gives the data to train on and how results call it; None where there is none.
        random: take random weights instead of training.
        second: where no other CLIP is given for it, train the second one on the features of an ImageNet network, if
            that is installed. Another head on the same CLIP would be no second opinion.
    """
    made = [
        None if file is None else open_classifier(file, clip, emotions, clip.device)
        for file, clip in zip(files, clips, strict=True)
    ]
    notes: list[str] = []
    if random and made[0] is None:
        head = random_head(clips[0].clip.embed_dim, len(emotions)).to(clips[0].device)
        about = {"name": head.info.name, "source": head.info.source, "hash": head.info.hash}
        made[0] = Classifier(emotion_output(clips[0], head), about)
    elif None in made and (found := training()) is not None:
        data, source = found
        if made[0] is None:
            made[0] = train_classifier(clips[0], data, source, emotions)
        if made[1] is None and clips[1] is not clips[0]:
            made[1] = train_classifier(clips[1], data, source, emotions)
        elif made[1] is None and second and second_weights() is not None:
            made[1] = train_second_classifier(data, source, emotions, clips[0].device)
        notes.append(f"Emo-A's classifiers without a file were trained on {source}")
    if made[0] is None:
        way_out = "give --classifier FILE (uniemo train-classifier makes one), or --ckpt"
        if made[1] is not None:
            raise UniEmoError(f"--second_classifier stands beside a first one; got none: {way_out}")
        notes.append(f"Emo-A is left out, it has no classifier: {way_out}")
    return [one for one in made if one is not None], notes


def open_classifier(
    path: str | Path, clip: ClipNetwork | None, emotions: Sequence[str], device: torch.device | str
) -> Classifier:
    """Load a classifier: a head on CLIP's features, or a checkpoint (``.ckpt``) of a stage that classifies by itself.

    Args:
        path: of either.
        clip: whose features a head gets; None takes checkpoints alone.
        emotions: class names in the order of the metrics.
        device: where a checkpoint's networks go.
    """
    if Path(path).suffix == ".ckpt":
        judge = Judge(path, emotions).to(device)
        about = {"name": judge.info.name, "source": judge.info.source, "hash": judge.info.hash}
        return Classifier(Output(judge, judge.views[0], "probabilities"), about)
    if clip is None:
        raise UniEmoError(f"classifier must be a checkpoint where there is no CLIP; got {path}: name a CLIP")
    return load_classifier(path, clip, emotions)


def load_classifier(path: str | Path, clip: ClipNetwork, emotions: Sequence[str]) -> Classifier:
    """Load a classifier from a file.

    Args:
        path: of ``uniemo train-classifier``, or the published linear head.
        clip: whose features it gets.
        emotions: class names in the order of the metrics.
    """
    classifier = EmotionClassifier.load(path)
    classifier.check_clip(clip.clip)
    _check_emotions(classifier.origin.emotions, emotions, str(path))
    about = {"temperature": float(classifier.temperature), "own_figures": classifier.origin.figures}
    return _as_part_of(clip, classifier, emotions, Path(path).stem, str(path), about)


def _check_emotions(own: Sequence[str], wanted: Sequence[str], source: str) -> None:
    """Raise unless a classifier knows the emotions of the metrics."""
    if set(own) != set(wanted):
        raise UniEmoError(
            f"classifier must know the images' emotions, {', '.join(wanted)}; {source} has {', '.join(own)}: give "
            "another classifier"
        )


def train_second_classifier(
    data: EmotionDataModule, source: str, emotions: Sequence[str], device: torch.device | str
) -> Classifier:
    """Train a classifier that shares nothing with any CLIP, or read it from the cache; it is announced first.

    Args:
        data: training split to train on, validation split to stop on, test split to report its accuracy.
        source: how a result calls the data.
        emotions: class names in the order of the metrics.
        device: where it is trained and runs.
    """
    _check_emotions(data.vocabulary.emotions, emotions, source)
    network = EfficientNetLite().to(device)
    first = is_first()
    if first:
        print(f"second classifier: a head on {network.name}, trained on {source} at first need", flush=True)
    classifier, info = emotion_classifier(network, data, views_of(data), progress=first)
    features, labels = cached_features(network, data.evaluation_loader("test"), views_of(data)[-1:])
    right = (classifier(features.to(network.device)).argmax(dim=1).cpu() == labels).double()
    about = {
        "validation_accuracy": round(info.accuracy, 4),
        "test_accuracy": round(float(right.mean()), 4) if len(right) else None,
    }
    return _as_part_of(network, classifier, emotions, f"head-on-{network.name}", f"trained on {source}", about)


def train_classifier(clip: ClipNetwork, data: EmotionDataModule, source: str, emotions: Sequence[str]) -> Classifier:
    """Train a classifier on a dataset's training split, or read it from the cache."""
    _check_emotions(data.vocabulary.emotions, emotions, source)
    config = ClassifierConfig()
    classifier, info = emotion_classifier(clip.clip, data, views_of(data), config)
    name = f"two-layer-{config.hidden}-seed{config.seed}"
    about = {"validation_accuracy": round(info.accuracy, 4)}
    return _as_part_of(clip, classifier, emotions, name, f"trained on {source}", about)


def _as_part_of(
    network: FeatureNetwork,
    classifier: EmotionClassifier,
    emotions: Sequence[str],
    name: str,
    source: str,
    about: dict[str, Any],
) -> Classifier:
    """Return a classifier on the features of a network, and what a result says about it."""
    head = EmotionHead(classifier, name, source, emotions).to(network.device)
    return Classifier(emotion_output(network, head), {"name": name, "source": source, "hash": head.info.hash, **about})
