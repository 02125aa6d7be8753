"""CLIP as a feature network, the miniature's networks, and emotion heads on CLIP's features."""

from __future__ import annotations

from pathlib import Path

import open_clip
import torch
from huggingface_hub import file_exists, try_to_load_from_cache
from open_clip.pretrained import get_pretrained_cfg
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.networks import FrozenClip, block_vectors
from uniemo.metrics.weights import existing_file, offline, read_weights, weights_hash
from uniemo.models.clip import RANDOM

_HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")  # open_clip.constants
_PUBLISHED_HEAD = {"fc.weight", "fc.bias"}  # EmoGen's weights/Clip_emotion_classifier


class ClipNetwork(FeatureNetwork):
    """Image features of a CLIP, not normalised.

    Args:
        clip: a name, see :func:`uniemo.models.clip.load_clip`, or a CLIP already loaded.
        role: ``clip`` or ``miniature``.
    """

    views: tuple[str, ...] = ("strict", "emogen")

    def __init__(self, clip: str | FrozenClip, role: str = "clip") -> None:
        super().__init__()
        self.clip = clip if isinstance(clip, FrozenClip) else FrozenClip(clip)
        self.requires_grad_(False)
        name = self.clip.source
        source = "random weights, seed 0" if name.startswith(RANDOM) else _source(name)
        self._anchor = self._anchor.to(self.clip.mean.device)
        self.info = NetworkInfo(role, self.clip.name, source, self.clip.hash)

    def describe(self, view: str = "strict") -> str:
        """Say how a view is prepared."""
        size = self.clip.image_size
        return f"CLIP's own, {size}" + (", rescaled by 1/255 twice" if view == "emogen" else "")

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Resize, crop and normalise; ``emogen`` divides by 255 once more before it normalises.

        EmoGen's Sem-D hands images in [0, 1] to a processor that takes them for [0, 255]. Its Emo-A does not: there the
        view is ``strict`` in both protocols.
        """
        images = self.clip.resize(images)
        return self.clip.normalise(images / 255 if view == "emogen" else images)

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``features``, (B, E)."""
        return {"features": self.clip.visual(inputs)}


class MiniatureNetwork(ClipNetwork):
    """All that the figures need from one small CLIP: its features and, for the LPIPS-style distance, its blocks.

    Args:
        clip: a name, see :func:`uniemo.models.clip.load_clip`, or a CLIP already loaded.
    """

    views = ("strict",)

    def __init__(self, clip: str | FrozenClip) -> None:
        super().__init__(clip, role="miniature")

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``features`` (B, E) and ``maps`` (B, L·P·D), see :func:`uniemo.metrics.networks.block_vectors`."""
        features, blocks = self.clip.run_with_blocks(inputs)
        return {"features": features, "maps": block_vectors(blocks)}


class EmotionHead(FeatureNetwork):
    """An Emo-A classifier on CLIP features; it reads features, so that the CLIP runs once.

    Args:
        head: maps features (B, E), not normalised, to logits (B, C).
        embed_dim: E.
        name: how results call it.
        source: where its weights came from.
    """

    reads = "clip"

    def __init__(self, head: nn.Module, embed_dim: int, name: str, source: str) -> None:
        super().__init__()
        self.head = head.eval().requires_grad_(False)
        self.embed_dim = embed_dim
        self.info = NetworkInfo("emotion", name, source, weights_hash(head))

    def describe(self, view: str = "strict") -> str:
        """Say what is read."""
        return "image features, not normalised"

    def check(self, images: Tensor) -> None:
        """Raise UniEmoError unless these are features (B, E) of a CLIP of the right width."""
        if images.ndim != 2 or images.shape[1] != self.embed_dim or not images.is_floating_point():
            raise UniEmoError(
                f"emotion head {self.info.name} must read float features (B, {self.embed_dim}); got {images.dtype} "
                f"{tuple(images.shape)}: take the CLIP that it was trained on"
            )

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Leave features as they are."""
        return images

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``logits`` and ``probabilities``, both (B, C)."""
        logits = self.head(inputs).float()
        return {"logits": logits, "probabilities": logits.softmax(dim=-1)}


def load_clip_network(role: str, name: str, random: bool = False) -> ClipNetwork:
    """Load a CLIP for the role ``clip`` or ``miniature``; see :func:`uniemo.models.clip.load_clip` for its name.

    Raises:
        UniEmoError: unknown name, or weights that cannot be had; the message names file, source and place.
    """
    wanted = f"{RANDOM}{name}" if random and not name.startswith(RANDOM) else name
    if wanted.startswith(RANDOM):
        torch.default_generator.manual_seed(0)  # inside load_network's fork of the random state
    else:
        _check_reachable(name)
    return MiniatureNetwork(wanted) if role == "miniature" else ClipNetwork(wanted, role)


def _check_reachable(name: str) -> None:
    """Ask once for weights that are not in the cache; without a network, open_clip would ask for most of a minute."""
    hub = _hub(name)
    if hub is None or any(isinstance(try_to_load_from_cache(hub, file), str) for file in _HUB_FILES):
        return
    try:
        if offline():
            raise OSError("downloads are switched off")
        file_exists(hub, _HUB_FILES[0])
    except Exception as error:  # which one depends on the library that huggingface_hub uses for HTTP
        raise UniEmoError(
            f"clip network {name!r} must have its weights on disk; {_HUB_FILES[0]} of {hub} is not in the Hugging Face "
            f"cache and cannot be fetched: copy https://huggingface.co/{hub} into a folder and give that folder's path "
            "instead of the name"
        ) from error


def load_emotion_head(name: str | None, random: bool = False) -> EmotionHead:
    """Load an Emo-A head.

    Args:
        name: path to a file of ``uniemo train-classifier``, or to the published linear head (``fc.weight``,
            ``fc.bias``) as ``.pth`` or ``.safetensors``.
        random: a linear head of eight emotions on 768 features with seeded random weights; the name is not read.

    Raises:
        UniEmoError: no name, no such file, or neither kind of head.
    """
    if random:
        linear = nn.Linear(768, 8)
        generator = torch.Generator().manual_seed(0)
        for part in linear.parameters():
            nn.init.normal_(part, std=768**-0.5, generator=generator)
        return EmotionHead(linear, 768, "random-linear", "random weights, seed 0")
    if name is None:
        raise UniEmoError(
            "emotion network must be a path; got none: train one with uniemo train-classifier, or give EmoGen's "
            "weights/Clip_emotion_classifier/time_2023-11-12_03-29-best.pth (https://github.com/JingyuanYY/EmoGen)"
        )
    path = existing_file(name, "emotion network")
    state = read_weights(path, "emotion network")
    if set(state) == _PUBLISHED_HEAD:
        return EmotionHead(_linear(state, path), state["fc.weight"].shape[1], path.stem, str(path))
    from uniemo.metrics.emotion_classifier import EmotionClassifier

    classifier = EmotionClassifier.load(path)
    return EmotionHead(classifier, classifier.mean.shape[0], path.stem, str(path))


def _linear(state: dict[str, Tensor], path: Path) -> nn.Linear:
    """Return the published head as a layer."""
    weight, bias = state["fc.weight"].float(), state["fc.bias"].float()
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise UniEmoError(
            f"emotion network must hold fc.weight (C, E) and fc.bias (C,); {path} has {tuple(weight.shape)} and "
            f"{tuple(bias.shape)}: give another file"
        )
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.load_state_dict({"weight": weight, "bias": bias})
    return layer


def _hub(name: str) -> str | None:
    """Return the Hugging Face repository that open_clip takes named weights from, None for folders."""
    architecture, _, tag = name.partition("/")
    if architecture not in open_clip.list_models():
        return None
    config = get_pretrained_cfg(architecture.removesuffix("-quickgelu"), tag or "openai")
    return "/".join((config.get("hf_hub") or "").split("/")[:2]) or None


def _source(name: str) -> str:
    """Return where a CLIP's weights come from."""
    hub = _hub(name)
    return f"hf-hub:{hub}" if hub else name
