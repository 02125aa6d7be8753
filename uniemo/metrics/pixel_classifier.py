"""A small network that tells emotions from pixels, without a CLIP."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from uniemo.errors import UniEmoError
from uniemo.metrics.calibration import fit_temperature
from uniemo.metrics.classifier_training import ClassifierInfo
from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.weights import weights_hash


@dataclass(frozen=True)
class PixelConfig:
    """How the network is made.

    Attributes:
        size: side of the images that it sees.
        width: channels of the first layer; the last has four times as many.
        epochs: passes over the images.
        batch_size: images per step.
        learning_rate: of AdamW, at the top of one cycle.
        weight_decay: of AdamW.
        shift: pixels by which a training image is moved at most.
        seed: of initial weights, order and augmentation.
    """

    size: int = 64
    width: int = 16
    epochs: int = 30
    batch_size: int = 64
    learning_rate: float = 3e-3
    weight_decay: float = 0.05
    shift: int = 6
    seed: int = 1


class PixelClassifier(FeatureNetwork):
    """Four convolutions, four by four regions, one linear layer.

    Args:
        emotions: C names in class order.
        size: side S of the images.
        width: channels of the first layer.
    """

    views = ("strict",)

    def __init__(self, emotions: Sequence[str], size: int = 64, width: int = 16) -> None:
        super().__init__()
        self.emotions = tuple(emotions)
        self.size = size
        self.width = width
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        blocks: list[nn.Module] = []
        for step, (before, after) in enumerate(pairwise(channels)):
            blocks += [
                nn.Conv2d(before, after, 3, stride=2 if step < 3 else 1, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(),
            ]
        self.blocks = nn.Sequential(*blocks)
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(4 * width * 16, len(emotions))
        self.eval()
        self.name_it("not trained")

    def name_it(self, source: str) -> None:
        """Say where the weights come from, and take their hash."""
        self.info = NetworkInfo("emotion", "pixel-cnn", source, weights_hash(self))

    def describe(self, view: str = "strict") -> str:
        """Say how images are prepared."""
        return f"shorter edge {self.size}, centre, antialiased"

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Resize the shorter edge, cut out the centre, bring to [-1, 1]."""
        return square(images, self.size) * 2 - 1

    def logits(self, inputs: Tensor) -> Tensor:
        """Return (B, C) of prepared images (B, 3, S, S)."""
        return self.last(self.drop(F.adaptive_avg_pool2d(self.blocks(inputs), 4).flatten(1)))

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``logits`` and ``probabilities``, both (B, C)."""
        logits = self.logits(inputs)
        return {"logits": logits, "probabilities": logits.softmax(dim=-1)}

    @torch.no_grad()
    def reordered(self, emotions: Sequence[str]) -> PixelClassifier:
        """Return a copy whose classes stand in another order.

        Raises:
            UniEmoError: these are not its emotions.
        """
        if sorted(emotions) != sorted(self.emotions):
            raise UniEmoError(
                f"second classifier must know the emotions {', '.join(emotions)}; it knows {', '.join(self.emotions)}: "
                "train it on data with these emotions"
            )
        other = copy.deepcopy(self)
        rows = [self.emotions.index(name) for name in emotions]
        other.last.weight.copy_(self.last.weight[rows])
        other.last.bias.copy_(self.last.bias[rows])
        other.emotions = tuple(emotions)
        return other  # with the info of before: the order is no other network


def train_pixel_classifier(
    images: Tensor,
    labels: Tensor,
    val_images: Tensor,
    val_labels: Tensor,
    emotions: Sequence[str],
    config: PixelConfig | None = None,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> tuple[PixelClassifier, ClassifierInfo]:
    """Train the network; the same arguments give the same weights, and the global random state is left alone.

    Args:
        images: (V, N, 3, S, S) uint8, V views of each image; every step takes one of them.
        labels: (N,) class indices.
        val_images: (V, M, 3, S, S) uint8; the weights kept are those of the lowest loss on them, and the temperature
            that fits them best goes into the last layer.
        val_labels: (M,).
        emotions: names in class order.
        config: how.
        device: where to compute.
        progress: show a bar.

    Returns:
        The network in eval mode, frozen, on the CPU, and how training went.

    Raises:
        UniEmoError: no training or no validation images.
    """
    config = config or PixelConfig()
    if not len(labels) or not len(val_labels):
        raise UniEmoError(
            f"second classifier needs training and validation images; got {len(labels)} and {len(val_labels)}: "
            "add images to both splits"
        )
    device = torch.device(device)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        torch.default_generator.manual_seed(config.seed)  # torch.manual_seed would touch every GPU
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(config.seed)
        images, labels, val_images, val_labels = (
            (x.clone() if x.is_inference() else x) for x in (images, labels, val_images, val_labels)
        )
        classifier = PixelClassifier(emotions, config.size, config.width).to(device)
        info = _fit(classifier, (images, labels), (val_images, val_labels), config, progress)
    classifier = classifier.cpu().requires_grad_(False)
    classifier.name_it(f"trained on {len(labels):,} images, seed {config.seed}")
    return classifier, info


def _fit(
    classifier: PixelClassifier,
    train: tuple[Tensor, Tensor],
    val: tuple[Tensor, Tensor],
    config: PixelConfig,
    progress: bool,
) -> ClassifierInfo:
    """Train by one cycle of the learning rate; leave the weights of the lowest validation loss, calibrated."""
    images, labels = train
    truth = val[1].repeat(len(val[0]))  # (V·M,)
    steps = -(-len(labels) // config.batch_size)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=steps * config.epochs)
    best = ClassifierInfo(0.0, float("inf"), 0, 0)
    weights = copy.deepcopy(classifier.state_dict())
    with tqdm(total=config.epochs, desc="second classifier", unit="epoch", disable=not progress) as bar:
        for epoch in range(1, config.epochs + 1):
            _learn(classifier, True)
            for rows in torch.randperm(len(labels)).split(config.batch_size):
                inputs = _augmented(images[int(torch.randint(len(images), ()))][rows], config.shift)
                optimizer.zero_grad()
                logits = classifier.logits(inputs.to(classifier.device))
                F.cross_entropy(logits, labels[rows].to(classifier.device), label_smoothing=0.05).backward()
                optimizer.step()
                schedule.step()
            _learn(classifier, False)
            logits = _answers(classifier, val[0])
            loss = float(F.cross_entropy(logits, truth))
            if loss < best.loss:
                best = ClassifierInfo(float((logits.argmax(dim=1) == truth).double().mean()), loss, epoch, epoch)
                weights = copy.deepcopy(classifier.state_dict())
            bar.set_postfix(val_loss=f"{best.loss:.4f}", val_accuracy=f"{best.accuracy:.1%}", refresh=False)
            bar.update()
    classifier.load_state_dict(weights)
    temperature = fit_temperature(_answers(classifier, val[0]), truth)
    with torch.no_grad():
        for parameter in classifier.last.parameters():
            parameter.div_(temperature)
    return ClassifierInfo(best.accuracy, best.loss, config.epochs, best.best_epoch)


def _learn(classifier: PixelClassifier, mode: bool) -> None:
    """Put the layers in train or eval mode; the network itself refuses to leave eval mode."""
    for part in (classifier.blocks, classifier.drop):
        part.train(mode)


@torch.no_grad()
def _answers(classifier: PixelClassifier, images: Tensor) -> Tensor:
    """Return logits (V·M, C) in float64 on the CPU of V views of M images, one view after the other."""
    parts = [classifier.logits(_scaled(part).to(classifier.device)) for part in images.flatten(0, 1).split(256)]
    return torch.cat(parts).double().cpu()


def _augmented(images: Tensor, shift: int) -> Tensor:
    """Mirror half of the batches and move each by a few pixels, the edge repeated; (B, 3, S, S) in [-1, 1]."""
    images = _scaled(images)
    if torch.rand(()) < 0.5:
        images = images.flip(-1)
    if not shift:
        return images
    top, left = torch.randint(0, 2 * shift + 1, (2,)).tolist()
    side = images.shape[-1]
    padded = F.pad(images, (shift, shift, shift, shift), mode="replicate")
    return padded[..., top : top + side, left : left + side]


def _scaled(images: Tensor) -> Tensor:
    """Turn bytes into [-1, 1]."""
    return images.float() / 127.5 - 1


def square(images: Tensor, size: int) -> Tensor:
    """Resize the shorter edge of images (B, 3, H, W) in [0, 1] to S and cut out the centre, (B, 3, S, S)."""
    height, width = images.shape[-2:]
    scale = size / min(height, width)
    target = (max(size, round(height * scale)), max(size, round(width * scale)))
    if (height, width) != target:
        images = F.interpolate(images, target, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (target[0] - size) // 2, (target[1] - size) // 2
    return images[..., top : top + size, left : left + size]
