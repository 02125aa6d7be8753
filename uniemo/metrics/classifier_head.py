"""The Emo-A classifier as a network and as a file, and the head that EmoGen published."""

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
from uniemo.data.emotions import MIKELS_8
from uniemo.errors import UniEmoError
from uniemo.metrics.weights import existing_file, load_weights, read_weights

if TYPE_CHECKING:
    from uniemo.metrics.networks import FrozenClip

_WHAT = "emotion classifier"
_FORMAT = "uniemo emotion classifier 1"
_PUBLISHED = {"fc.weight", "fc.bias"}  # EmoGen's weights/Clip_emotion_classifier
_OPENAI_L14 = ("ViT-L-14", "ViT-L-14-openai", "ViT-L-14-quickgelu", "ViT-L-14-quickgelu-openai")


@dataclass(frozen=True)
class ClassifierOrigin:
    """Where a classifier comes from.

    Attributes:
        emotions: names in class order; empty where nobody said.
        clip: name of the CLIP whose features it reads; empty where nobody said.
        clip_hash: of that CLIP's weights (:attr:`uniemo.metrics.networks.FrozenClip.hash`); None where it is not known.
        figures: what was measured of it.
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
        """Return logits (B, C) of image features (B, E), not normalised.

        Raises:
            UniEmoError: features of another width.
        """
        if features.shape[-1] != self.embed_dim:
            raise UniEmoError(
                f"{_WHAT} must read features of width {self.embed_dim}; got {tuple(features.shape)}: "
                f"take the CLIP that it was trained on{f', {self.origin.clip}' if self.origin.clip else ''}"
            )
        return self.layers((features - self.mean) / self.std) / self.temperature

    @torch.no_grad()
    def probabilities(self, features: Tensor) -> Tensor:
        """Return probabilities (B, C) of image features (B, E), not normalised."""
        return self(features).softmax(dim=-1)

    def check_clip(self, clip: FrozenClip) -> None:
        """Raise unless these are the features that the classifier was trained on.

        The published head's file does not say which weights it was trained on; there the width and, where the CLIP goes
        by a name of open_clip's, that name decide.

        Raises:
            UniEmoError: another CLIP.
        """
        origin = self.origin
        if origin.clip_hash is not None:
            same = clip.hash == origin.clip_hash
        else:
            named = not Path(clip.source).expanduser().is_dir()
            same = clip.embed_dim == self.embed_dim and (
                clip.name in _OPENAI_L14 or not named or origin.clip not in _OPENAI_L14
            )
        if not same:
            wanted = f"{origin.clip or 'another'} ({origin.clip_hash or f'width {self.embed_dim}'})"
            got = f"{clip.name} ({clip.hash if origin.clip_hash else f'width {clip.embed_dim}'})"
            raise UniEmoError(
                f"{_WHAT} must read the features of the CLIP that it was trained on, {wanted}; got {got}: take that "
                "CLIP, or train a classifier on this one with uniemo train-classifier"
            )

    @torch.no_grad()
    def reordered(self, emotions: Sequence[str]) -> EmotionClassifier:
        """Return a copy whose classes stand in another order; names decide, never positions.

        Args:
            emotions: the wanted order.

        Raises:
            UniEmoError: the classifier knows other emotions, or does not say which.
        """
        own = self.origin.emotions
        if set(own) != set(emotions) or len(own) != len(emotions):
            raise UniEmoError(
                f"{_WHAT} must know the emotions {', '.join(emotions)}; it knows {', '.join(own) or 'no names'}: "
                "train one on data with these emotions"
            )
        rows = torch.tensor([own.index(name) for name in emotions], device=self.mean.device)
        origin = ClassifierOrigin(tuple(emotions), self.origin.clip, self.origin.clip_hash, self.origin.figures)
        other = _blank(self.embed_dim, len(own), self.hidden, self.dropout, origin).to(self.mean.device)
        state = self.state_dict()
        last = len(self.layers) - 1
        for part in ("weight", "bias"):
            state[f"layers.{last}.{part}"] = state[f"layers.{last}.{part}"][rows]
        other.load_state_dict(state)
        return other.train(self.training).requires_grad_(False)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file with emotions, CLIP, form, temperature and figures as its metadata.

        Raises:
            UniEmoError: the classifier does not say what its emotions and its CLIP are.
        """
        origin = self.origin
        if not origin.emotions or not origin.clip or not origin.clip_hash:
            raise UniEmoError(f"{_WHAT} must say its emotions and its CLIP to be saved; set origin first")
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
        with atomic_write(path) as temporary:
            temporary.write_bytes(save(state, metadata))  # save_file's files are the writer's alone

    @classmethod
    def load(cls, path: str | Path) -> EmotionClassifier:
        """Read what :meth:`save` wrote, or the published head (:func:`published_head`).

        Returns:
            In eval mode, frozen, on the CPU.

        Raises:
            UniEmoError: no such file, or one that is neither.
        """
        file = existing_file(str(path), _WHAT)
        state = read_weights(file, _WHAT)
        if set(state) == _PUBLISHED:
            return _from_published(state, file)
        return _from_own(state, file)


def published_head(path: str | Path) -> EmotionClassifier:
    """Read the linear head that EmoGen published, for plain features (not normalised) of OpenAI's ViT-L/14.

    Its classes are in the order of ``emotion_list_8`` in EmoGen's training/inference.py, which scores its images with
    it: amusement, awe, contentment, excitement, anger, disgust, fear, sadness.

    Args:
        path: ``fc.weight`` (8, E) and ``fc.bias`` (8,), as ``.pth`` or ``.pt`` (read without unpickling anything but
            tensors) or ``.safetensors``.

    Raises:
        UniEmoError: no such file, or another one.
    """
    file = existing_file(str(path), "published emotion head")
    return _from_published(read_weights(file, "published emotion head"), file)


def _blank(
    embed_dim: int, num_emotions: int, hidden: int | None, dropout: float, origin: ClassifierOrigin
) -> EmotionClassifier:
    """Return a classifier whose weights are about to be replaced; the global random state is left alone."""
    with torch.random.fork_rng(devices=[]):
        return EmotionClassifier(embed_dim, num_emotions, hidden, dropout, origin)


def _from_published(state: dict[str, Tensor], path: Path) -> EmotionClassifier:
    """Build the published head from its tensors."""
    if set(state) != _PUBLISHED:
        raise UniEmoError(
            f"published emotion head must hold fc.weight and fc.bias and nothing else; {path} holds "
            f"{', '.join(sorted(state)[:3])}{' …' if len(state) > 3 else ''}: give another file"
        )
    weight, bias = state["fc.weight"].float(), state["fc.bias"].float()
    if weight.ndim != 2 or len(weight) != len(MIKELS_8) or bias.shape != weight.shape[:1]:
        raise UniEmoError(
            f"published emotion head must hold fc.weight ({len(MIKELS_8)}, E) and fc.bias ({len(MIKELS_8)},); {path} "
            f"has {tuple(weight.shape)} and {tuple(bias.shape)}: give another file"
        )
    origin = ClassifierOrigin(MIKELS_8, "ViT-L-14")
    classifier = _blank(weight.shape[1], len(weight), None, 0.0, origin)
    own = classifier.state_dict()
    load_weights(classifier, {**own, "layers.0.weight": weight, "layers.0.bias": bias}, path, "published emotion head")
    return classifier.eval().requires_grad_(False)


def _from_own(state: dict[str, Tensor], path: Path) -> EmotionClassifier:
    """Build a classifier from tensors and the metadata of their file."""
    metadata: dict[str, str] = {}
    if path.suffix == ".safetensors":
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    if metadata.get("format") != _FORMAT:
        raise UniEmoError(
            f"{_WHAT} must be a file of uniemo train-classifier or EmoGen's linear head; {path} is another: "
            "give another file"
        )
    try:
        emotions = tuple(json.loads(metadata["emotions"]))
        hidden, dropout = json.loads(metadata["hidden"]), json.loads(metadata["dropout"])
        origin = ClassifierOrigin(
            emotions, metadata["clip"], metadata["clip_hash"], json.loads(metadata.get("figures", "{}"))
        )
        classifier = _blank(state["mean"].shape[0], len(emotions), hidden, dropout, origin)
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise UniEmoError(f"{_WHAT} must have whole metadata; {path} has not ({error}): train it again") from error
    load_weights(classifier, state, path, _WHAT)
    return classifier.eval().requires_grad_(False)
