"""The Emo-A classifier: two fully connected layers on frozen CLIP features (a linear probe as its baseline)."""

from __future__ import annotations

import copy
import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader

from uniemo.data.batch import EmotionBatch, EmotionSample
from uniemo.data.transforms import denormalise
from uniemo.errors import UniEmoError
from uniemo.metrics.networks import FrozenClip
from uniemo.resources import atomic_write, cache_dir
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.base import Split

_log = logging.getLogger(__name__)

View = Literal["image", "target"]


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
    """

    hidden: int | None = 256
    dropout: float = 0.5
    learning_rate: float = 2e-3
    weight_decay: float = 0.1
    batch_size: int = 256
    max_epochs: int = 150
    patience: int = 20
    seed: int = 0


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


class EmotionClassifier(nn.Module):
    """Features, standardised, through two fully connected layers (or one).

    Args:
        embed_dim: E.
        num_emotions: C.
        hidden: H; None leaves one linear layer.
        dropout: on the hidden layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, embed_dim: int, num_emotions: int, hidden: int | None = 256, dropout: float = 0.5) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(embed_dim))
        self.register_buffer("std", torch.ones(embed_dim))
        if hidden is None:
            self.layers = nn.Sequential(nn.Linear(embed_dim, num_emotions))
        else:
            self.layers = nn.Sequential(
                nn.Linear(embed_dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_emotions)
            )

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, C) of image features (B, E), not normalised."""
        return self.layers((features - self.mean) / self.std)

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """Return probabilities (B, C) of image features (B, E), not normalised."""
        return self(features).softmax(dim=-1)


def train_emotion_classifier(
    features: Tensor,
    labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    num_emotions: int,
    config: ClassifierConfig | None = None,
) -> tuple[EmotionClassifier, ClassifierInfo]:
    """Train the classifier; the same arguments give the same weights, and the global random state is left alone.

    Args:
        features: (N, E) training features, not normalised.
        labels: (N,) class indices.
        val_features: (M, E), for early stopping.
        val_labels: (M,).
        num_emotions: C.
        config: how.

    Returns:
        The classifier in eval mode, frozen, on the CPU, and how training went.

    Raises:
        UniEmoError: no training or no validation features.
    """
    config = config or ClassifierConfig()
    if not len(features) or not len(val_features):
        raise UniEmoError(
            "emotion classifier needs training and validation features; "
            f"got {len(features)} and {len(val_features)}: add images to both splits"
        )
    # Lightning validates in inference mode: leave it, and copy what was computed there
    with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices=[]):
        features, labels, val_features, val_labels = (
            x.detach().cpu().clone() for x in (features.float(), labels, val_features.float(), val_labels)
        )
        torch.manual_seed(config.seed)
        classifier = EmotionClassifier(features.shape[1], num_emotions, config.hidden, config.dropout)
        classifier.mean.copy_(features.mean(dim=0))
        classifier.std.copy_(features.std(dim=0, unbiased=False).clamp(min=1e-6))
        info = _fit(classifier, features, labels, val_features, val_labels, config)
    return classifier.eval().requires_grad_(False), info


def _fit(
    classifier: EmotionClassifier,
    features: Tensor,
    labels: Tensor,
    val_features: Tensor,
    val_labels: Tensor,
    config: ClassifierConfig,
) -> ClassifierInfo:
    """Minimise the cross entropy with AdamW and leave the weights of the lowest validation loss in place."""
    optimizer = torch.optim.AdamW(
        classifier.layers.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
    )
    best = ClassifierInfo(0.0, float("inf"), 0, 0)
    weights = copy.deepcopy(classifier.layers.state_dict())
    epoch = 0
    for epoch in range(1, config.max_epochs + 1):
        classifier.train()
        for rows in torch.randperm(len(features)).split(config.batch_size):
            optimizer.zero_grad()
            F.cross_entropy(classifier(features[rows]), labels[rows]).backward()
            optimizer.step()
        classifier.eval()
        with torch.no_grad():
            logits = classifier(val_features)
        loss = float(F.cross_entropy(logits, val_labels))
        if loss < best.loss:
            accuracy = float((logits.argmax(dim=1) == val_labels).double().mean())
            best = ClassifierInfo(accuracy, loss, epoch, epoch)
            weights = copy.deepcopy(classifier.layers.state_dict())
        elif epoch - best.best_epoch >= config.patience:
            break
    classifier.layers.load_state_dict(weights)
    return ClassifierInfo(best.accuracy, best.loss, epoch, best.best_epoch)


def view_of(batch: EmotionBatch, view: View) -> Tensor:
    """Return one view of a batch as images (B, 3, H, W) in [0, 1].

    Args:
        batch: from a loader.
        view: ``image`` is the encoder's, ``target`` the VAE's at the resolution that generated images have.

    Raises:
        UniEmoError: the target view asked for and the batch has none.
    """
    if view == "image":
        return denormalise(batch.images)
    if batch.targets is None:
        raise UniEmoError("the target view needs data.diffusion_size; it is null: set it to the generator's size")
    return (batch.targets + 1) / 2


def collect_features(
    clip: FrozenClip, loader: DataLoader[EmotionSample], views: tuple[View, ...] = ("image",)
) -> tuple[Tensor, Tensor]:
    """Run a loader's images through the CLIP.

    Args:
        clip: the network, on its device.
        loader: images.
        views: which views; with several, each image comes once per view, one view after the other.

    Returns:
        Features (V·N, E), not normalised, and labels (V·N,), both on the CPU.
    """
    features: list[list[Tensor]] = [[] for _ in views]
    labels: list[Tensor] = []
    for batch in loader:
        labels.append(batch.emotion)
        for part, view in zip(features, views, strict=True):
            part.append(clip.features(view_of(batch.to(clip.mean.device), view)).cpu())
    return torch.cat([torch.cat(part) for part in features]), torch.cat(labels).repeat(len(views))


def emotion_classifier(
    clip: FrozenClip,
    data: EvaluationData,
    views: tuple[View, ...] = ("image",),
    config: ClassifierConfig | None = None,
    limit_per_emotion: int | None = None,
) -> tuple[EmotionClassifier, ClassifierInfo]:
    """Return the Emo-A classifier of a CLIP and a dataset, trained at first need and then read from the cache.

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
    contents = [data.fingerprint("train"), data.fingerprint("val")]
    settings = json.dumps([asdict(config), list(views), limit_per_emotion, contents])
    key = hashlib.sha256(f"{clip.hash} {settings}".encode()).hexdigest()[:16]
    weights = cache_dir() / "emotion_classifier" / f"{key}.safetensors"
    notes = weights.with_suffix(".json")
    num_emotions = len(data.vocabulary.emotions)
    if weights.is_file() and notes.is_file():
        classifier = EmotionClassifier(clip.embed_dim, num_emotions, config.hidden, config.dropout)
        classifier.load_state_dict(load_file(weights))
        classifier.eval().requires_grad_(False)
        info = ClassifierInfo(**json.loads(notes.read_text())["info"])
    else:
        train = collect_features(clip, data.evaluation_loader("train", limit_per_emotion), views)
        val = collect_features(clip, data.evaluation_loader("val", limit_per_emotion), views)
        classifier, info = train_emotion_classifier(*train, *val, num_emotions, config)
        _save(classifier, info, weights, notes, clip)
    _log.info(
        "Emo-A classifier on %s: validation accuracy %.3f (%s)", clip.name, info.accuracy, config.hidden or "linear"
    )
    return classifier.to(clip.mean.device), info


def _save(classifier: EmotionClassifier, info: ClassifierInfo, weights: Path, notes: Path, clip: FrozenClip) -> None:
    """Write the classifier to the cache, the weights first."""
    with atomic_write(weights) as temporary:
        save_file(classifier.state_dict(), temporary)
    with atomic_write(notes) as temporary:
        temporary.write_text(json.dumps({"info": asdict(info), "clip": clip.name, "clip_hash": clip.hash}, indent=1))
