"""Training of emotion classifiers on frozen features: the Emo-A classifier, and the second one beside it.

The second classifier learns from another backbone. Another head on the same CLIP would be no second opinion: on the
miniature's 800 test images a classifier with another seed and width agrees with the first on 99.6 to 100 %, since both
depend on what the CLIP represents.
"""

from __future__ import annotations

import copy
import logging
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from uniemo import cache
from uniemo.errors import UniEmoError
from uniemo.metrics.calibration import fit_temperature
from uniemo.metrics.classifier import ClassifierOrigin, EmotionClassifier
from uniemo.metrics.feature_cache import View, cached_features
from uniemo.progress_bars import progress_bar

if TYPE_CHECKING:
    from uniemo.data.datamodule import EmotionDataModule
    from uniemo.metrics.classifier import Backbone

_log = logging.getLogger(__name__)
_FORMAT = 3  # of the cached files; part of their key


@dataclass(frozen=True)
class ClassifierConfig:
    """How the classifier is made.

    Attributes:
        hidden: width of the hidden layer; None makes a linear probe.
        dropout: on the hidden layer.
        learning_rate: of AdamW.
        weight_decay: of AdamW.
        batch_size: features per step.
        max_epochs: upper bound on passes over the features.
        patience: passes without a lower validation loss before training stops.
        seed: of initial weights, order and dropout.
        temperature: whether logits are divided by the temperature that fits the validation split best.
    """

    hidden: int | None = 256
    dropout: float = 0.5
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    batch_size: int = 256
    max_epochs: int = 150
    patience: int = 20
    seed: int = 0
    temperature: bool = False


@dataclass(frozen=True)
class ClassifierInfo:
    """How training went.

    Attributes:
        accuracy: on the validation features, in [0, 1].
        loss: cross entropy there; the weights kept are those of the lowest.
        epochs: passes until training stopped.
        best_epoch: the pass whose weights were kept, from 1.
    """

    accuracy: float
    loss: float
    epochs: int
    best_epoch: int


def emotion_classifier(
    network: Backbone,
    data: EmotionDataModule,
    views: tuple[View, ...] = ("image",),
    config: ClassifierConfig | None = None,
    limit_per_emotion: int | None = None,
    progress: bool = False,
) -> tuple[EmotionClassifier, ClassifierInfo]:
    """Return the emotion classifier of a network and a dataset, trained at first need and then read from the cache.

    Of several processes that need it one trains it, while the others wait.

    Args:
        network: whose features it learns from.
        data: training split to train on, validation split to stop on; never the test split.
        views: views of each image to train on. With ``("image", "target")`` it also learns pictures at the resolution
            of generated ones, where that is lower than the network's.
        config: how it is made.
        limit_per_emotion: at most so many images of each emotion; None takes all.
        progress: show bars where it is trained.

    Returns:
        The classifier on the network's device, and how its training went (the accuracy is logged).
    """
    config = config or ClassifierConfig()
    emotions = data.vocabulary.emotions
    settings = [asdict(config), views, limit_per_emotion, data.fingerprint("train"), data.fingerprint("val"), emotions]

    def make(path: Path) -> None:
        loaders = (data.evaluation_loader(split, limit_per_emotion) for split in ("train", "val"))
        train, val = (cached_features(network, loader, views, progress=progress) for loader in loaders)
        classifier, info = train_emotion_classifier(*train, *val, len(emotions), config)
        classifier.origin = ClassifierOrigin(emotions, network.name, network.hash, {"training": asdict(info)})
        classifier.save(path)

    key = cache.digest(_FORMAT, network.hash, settings)
    classifier = EmotionClassifier.load(cache.get("emotion_classifier", f"{key}.safetensors", make))
    info = ClassifierInfo(**classifier.origin.figures["training"])
    form = config.hidden or "linear"
    _log.info("emotion classifier on %s: validation accuracy %.3f (%s)", network.name, info.accuracy, form)
    return classifier.to(network.mean.device), info


def train_emotion_classifier(
    features: Tensor,
    labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    num_emotions: int,
    config: ClassifierConfig | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> tuple[EmotionClassifier, ClassifierInfo]:
    """Train the classifier; the same arguments give the same weights, and the global random state is left alone.

    Args:
        features: (N, E) training features, not normalised.
        labels: (N,) class indices.
        val_features: (M, E), for early stopping.
        val_labels: (M,).
        num_emotions: C.
        config: how.
        device: where to compute; a GPU's weights differ from the CPU's by more than rounding (its dropout is another).
        progress: show a bar with a step for each pass.

    Returns:
        The classifier in eval mode, frozen, on the CPU, and how training went.

    Raises:
        UniEmoError: no training or no validation features, or a loss that is not finite.
    """
    config = config or ClassifierConfig()
    device = torch.device(device)
    if not len(features) or not len(val_features):
        raise UniEmoError(
            "emotion classifier needs training and validation features; "
            f"got {len(features)} and {len(val_features)}: add images to both splits"
        )
    gpus = [device] if device.type == "cuda" else []
    # Lightning validates in inference mode: leave it, and copy what was computed there
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=gpus):
        features, labels, val_features, val_labels = (
            (x.clone() if x.is_inference() else x.detach()).to(device)
            for x in (features.float(), labels, val_features.float(), val_labels)
        )
        torch.default_generator.manual_seed(config.seed)  # torch.manual_seed would touch every GPU
        if gpus:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(config.seed)
        classifier = EmotionClassifier(features.shape[1], num_emotions, config.hidden, config.dropout)
        classifier.mean.copy_(features.mean(dim=0))
        classifier.std.copy_(features.std(dim=0, unbiased=False).clamp(min=1e-6))
        classifier.to(device)
        info = _fit(classifier, features, labels, val_features, val_labels, config, progress)
        if config.temperature:
            with torch.no_grad():
                classifier.temperature.fill_(fit_temperature(classifier(val_features), val_labels))
    return classifier.cpu().eval().requires_grad_(False), info


def _fit(
    classifier: EmotionClassifier,
    features: Tensor,
    labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    config: ClassifierConfig,
    progress: bool,
) -> ClassifierInfo:
    """Minimise the cross entropy with AdamW and leave the weights of the lowest validation loss in place."""
    optimizer = torch.optim.AdamW(
        classifier.layers.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    best = ClassifierInfo(0.0, float("inf"), 0, 0)
    weights = copy.deepcopy(classifier.layers.state_dict())
    epoch = 0
    with progress_bar(desc="training", unit="epoch", total=config.max_epochs, shown=progress) as bar:
        for epoch in range(1, config.max_epochs + 1):
            classifier.train()
            losses = []
            for chosen in torch.randperm(len(features)).split(config.batch_size):
                rows = chosen.to(features.device)
                optimizer.zero_grad()
                loss = F.cross_entropy(classifier(features[rows]), labels[rows])
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())  # looked at once an epoch: a GPU is not waited for at each step
            classifier.eval()
            with torch.no_grad():
                logits = classifier(val_features)
                losses.append(F.cross_entropy(logits, val_labels))
            *_, val_loss = _finite(torch.stack(losses).tolist(), epoch, config.learning_rate)
            if val_loss < best.loss:
                accuracy = float((logits.argmax(dim=1) == val_labels).double().mean())
                best = ClassifierInfo(accuracy, val_loss, epoch, epoch)
                weights = copy.deepcopy(classifier.layers.state_dict())
            elif epoch - best.best_epoch >= config.patience:
                break
            bar.set_postfix(val_loss=f"{best.loss:.4f}", val_accuracy=f"{best.accuracy:.1%}", refresh=False)
            bar.update()
    classifier.layers.load_state_dict(weights)
    return ClassifierInfo(best.accuracy, best.loss, epoch, best.best_epoch)


def _finite(losses: list[float], epoch: int, rate: float) -> list[float]:
    """Return the losses of an epoch's steps and the one on validation; UniEmoError for one that is not finite."""
    bad = next((number for number, loss in enumerate(losses) if not math.isfinite(loss)), None)
    if bad is not None:
        steps = len(losses) - 1
        where = "on validation" if bad == steps else f"at step {(epoch - 1) * steps + bad}"
        raise UniEmoError(
            f"losses of the emotion classifier must be finite; in epoch {epoch} {where} it is {losses[bad]} "
            f"(learning rate {rate:.3g}): lower the learning rate, or look at the features"
        )
    return losses
