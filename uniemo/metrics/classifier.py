"""The emotion classifier behind Emo-A as a network and as a file, and the head that EmoGen published."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from uniemo.cache import atomic_write
from uniemo.errors import UniEmoError
from uniemo.metrics.feature_network import NetworkInfo
from uniemo.metrics.network_weights import existing_file, load_weights, read_weights, weights_hash
from uniemo.models.state import check_finite
from uniemo.taxonomy import MIKELS_8
from uniemo.text_files import parse_json

if TYPE_CHECKING:
    from uniemo.metrics.clip_networks import FrozenClip
    from uniemo.metrics.imagenet import EfficientNetLite

    Backbone = FrozenClip | EfficientNetLite  # a frozen network whose features a classifier learns from

_WHAT = "emotion classifier"
_FORMAT = "uniemo emotion classifier 1"
_PUBLISHED = {"fc.weight", "fc.bias"}  # EmoGen's weights/Clip_emotion_classifier
_OPENAI_L14 = ("ViT-L-14", "ViT-L-14-openai", "ViT-L-14-quickgelu", "ViT-L-14-quickgelu-openai")


@dataclass(frozen=True)
class ClassifierOrigin:
    """Where a classifier comes from.

    Attributes:
        emotions: names in class order; empty where they are not known.
        clip: name of the network whose features it was trained on; empty where it is not known.
        clip_hash: of that network's weights; None where it is not known.
        figures: what was measured of it (the files' key).
    """

    emotions: tuple[str, ...] = ()
    clip: str = ""
    clip_hash: str | None = None
    figures: dict[str, Any] = field(default_factory=dict)


class EmotionClassifier(nn.Module):
    """Features, standardised, through two fully connected layers (or one), divided by a temperature.

    Args:
        embed_dim: E.
        num_emotions: C.
        hidden: H; None leaves one linear layer.
        dropout: on the hidden layer.
        origin: where it comes from.
    """

    mean: Tensor
    std: Tensor
    temperature: Tensor

    def __init__(
        self,
        embed_dim: int,
        num_emotions: int,
        hidden: int | None = 256,
        dropout: float = 0.5,
        origin: ClassifierOrigin | None = None,
    ) -> None:
        super().__init__()
        self.hidden = hidden
        self.dropout = dropout
        self.origin = origin or ClassifierOrigin()
        self.register_buffer("mean", torch.zeros(embed_dim))
        self.register_buffer("std", torch.ones(embed_dim))
        self.register_buffer("temperature", torch.ones(()))
        if hidden is None:
            self.layers = nn.Sequential(nn.Linear(embed_dim, num_emotions))
        else:
            self.layers = nn.Sequential(
                nn.Linear(embed_dim, hidden), nn.ReLU(), nn.Dropout(dropout), nn.Linear(hidden, num_emotions)
            )

    @property
    def embed_dim(self) -> int:
        """E, the width of the features."""
        return self.mean.shape[0]

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, C) of image features (B, E), not normalised; UniEmoError for another width."""
        if features.shape[-1] != self.embed_dim:
            raise UniEmoError(
                f"{_WHAT} must get features of width {self.embed_dim}; got {tuple(features.shape)}: "
                f"take the CLIP that it was trained on{f', {self.origin.clip}' if self.origin.clip else ''}"
            )
        return self.layers((features - self.mean) / self.std) / self.temperature

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """Return probabilities (B, C) of image features (B, E), not normalised."""
        return self(features).softmax(dim=-1)

    def check_clip(self, clip: Backbone) -> None:
        """Raise UniEmoError unless the classifier was trained on these features.

        The published head's file does not say which weights it was trained on; there the width and, where the CLIP goes
        by a name of open_clip's, that name decide.
        """
        origin = self.origin
        if origin.clip_hash is not None:
            same = clip.hash == origin.clip_hash
        else:
            named = not Path(getattr(clip, "source", clip.name)).expanduser().is_dir()
            same = clip.embed_dim == self.embed_dim and (
                clip.name in _OPENAI_L14 or not named or origin.clip not in _OPENAI_L14
            )
        if not same:
            wanted = f"{origin.clip or 'another'} ({origin.clip_hash or f'width {self.embed_dim}'})"
            got = f"{clip.name} ({clip.hash if origin.clip_hash else f'width {clip.embed_dim}'})"
            raise UniEmoError(
                f"{_WHAT} must get the features of the CLIP that it was trained on, {wanted}; got {got}: take that "
                "CLIP, or train a classifier on this one with uniemo train-classifier"
            )

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with emotions, CLIP, form, temperature and metrics as its metadata."""
        origin = self.origin
        if not origin.emotions or not origin.clip or not origin.clip_hash:
            raise ValueError(f"{_WHAT} must say its emotions and its CLIP to be saved; set origin first")
        metadata = {
            "format": _FORMAT,
            "emotions": json.dumps(origin.emotions),
            "clip": origin.clip,
            "clip_hash": origin.clip_hash,
            "head": "linear" if self.hidden is None else "mlp",
            "hidden": json.dumps(self.hidden),
            "dropout": json.dumps(self.dropout),
            "temperature": json.dumps(float(self.temperature)),
            "figures": json.dumps(origin.figures),
        }
        state = {name: value.detach().cpu().contiguous() for name, value in self.state_dict().items()}
        check_finite(state, f"{_WHAT} to write", "lower its learning rate and train it again")
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(state, metadata))  # save_file's files are the writer's alone

    @classmethod
    def load(cls, path: str | Path) -> EmotionClassifier:
        """Read what :meth:`save` wrote, or the linear head that EmoGen published.

        That head is for plain features of OpenAI's ViT-L/14; its classes are in the order of ``emotion_list_8`` in
        EmoGen's training/inference.py: amusement, awe, contentment, excitement, anger, disgust, fear, sadness.

        Args:
            path: ``.safetensors``; of the published head (``fc.weight``, ``fc.bias``) ``.pth`` and ``.pt``, too.

        Returns:
            In eval mode, frozen, on the CPU.

        Raises:
            UniEmoError: no such file, or one that is neither.
        """
        file = existing_file(str(path), _WHAT)
        state = read_weights(file, _WHAT)
        if set(state) == _PUBLISHED:
            return _from_published(state, file)
        metadata: dict[str, str] = {}
        if file.suffix == ".safetensors":
            with safe_open(file, framework="pt") as opened:
                metadata = opened.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise UniEmoError(
                f"{_WHAT} must be a file of uniemo train-classifier or EmoGen's linear head (fc.weight, fc.bias); "
                f"{path} is another: give another file"
            )
        try:
            emotions = tuple(parse_json(metadata["emotions"]))
            hidden, dropout = parse_json(metadata["hidden"]), parse_json(metadata["dropout"])
            figures = parse_json(metadata.get("figures", "{}"))
            origin = ClassifierOrigin(emotions, metadata["clip"], metadata["clip_hash"], figures)
            classifier = _blank(state["mean"].shape[0], len(emotions), hidden, dropout, origin)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise UniEmoError(f"{_WHAT} must have whole metadata; {path} has not ({error}): train it again") from error
        load_weights(classifier, state, file, _WHAT)
        return classifier.eval().requires_grad_(False)


class EmotionHead(nn.Module):
    """A classifier as part of a network of the metrics, with a name and a hash.

    Args:
        classifier: on the features of that network.
        name: how results call it.
        source: where its weights came from.
        emotions: the wanted order of the classes; None leaves the classifier's own.
    """

    def __init__(
        self, classifier: EmotionClassifier, name: str, source: str, emotions: Sequence[str] | None = None
    ) -> None:
        super().__init__()
        own = classifier.origin.emotions
        self.classifier = classifier
        self.order = None if emotions is None or tuple(emotions) == own else [own.index(name) for name in emotions]
        self.info = NetworkInfo("emotion", name, source, weights_hash(classifier))

    def forward(self, features: Tensor) -> Tensor:
        """Return probabilities (B, C) of image features (B, E), not normalised."""
        probabilities = self.classifier.probabilities(features)
        return probabilities if self.order is None else probabilities[:, self.order]


def random_head(embed_dim: int, num_emotions: int) -> EmotionHead:
    """Return a linear head with seeded random weights, for timing."""
    classifier = _blank(embed_dim, num_emotions, None, 0.0, ClassifierOrigin())
    generator = torch.Generator().manual_seed(0)
    for part in classifier.layers.parameters():
        nn.init.normal_(part, std=embed_dim**-0.5, generator=generator)
    return EmotionHead(classifier, "random-linear", "random weights, seed 0")


def _blank(
    embed_dim: int, num_emotions: int, hidden: int | None, dropout: float, origin: ClassifierOrigin
) -> EmotionClassifier:
    """Return a classifier whose weights are about to be replaced; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        return EmotionClassifier(embed_dim, num_emotions, hidden, dropout, origin)


def _from_published(state: dict[str, Tensor], path: Path) -> EmotionClassifier:
    """Return the published head."""
    weight, bias = state["fc.weight"].float(), state["fc.bias"].float()
    classes = len(MIKELS_8)
    if weight.ndim != 2 or len(weight) != classes or bias.shape != weight.shape[:1]:
        raise UniEmoError(
            f"published emotion head must hold fc.weight ({classes}, E) and fc.bias ({classes},); {path} has "
            f"{tuple(weight.shape)} and {tuple(bias.shape)}: give another file"
        )
    classifier = _blank(weight.shape[1], classes, None, 0.0, ClassifierOrigin(MIKELS_8, "ViT-L-14"))
    classifier.layers[0].load_state_dict({"weight": weight, "bias": bias})
    return classifier.eval().requires_grad_(False)
