"""Feature networks by role and name, or by path; each carries where its weights came from and their hash."""

from __future__ import annotations

import torch

from uniemo.errors import UniEmoError
from uniemo.metrics.clip_networks import load_clip_network, load_emotion_head
from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.inception import load_inception
from uniemo.metrics.perceptual import load_lpips
from uniemo.metrics.resnets import load_resnet

__all__ = ["DEFAULTS", "ROLES", "FeatureNetwork", "NetworkInfo", "load_network"]

DEFAULTS: dict[str, str] = {
    "fid": "inception",
    "lpips": "alex",
    "clip": "ViT-L-14",
    "imagenet": "resnet50",
    "places": "resnet50-places365",
    "miniature": "miniature:clip",
}
ROLES: tuple[str, ...] = (*DEFAULTS, "emotion")  # no emotion head is published in a place of its own


def load_network(role: str, name: str | None = None, *, random: bool = False) -> FeatureNetwork:
    """Load a network on the CPU, frozen and in eval mode; ``.to(device)`` moves it.

    ============ =================== ============================================ ===============================
    role         default name        other names                                  output
    ============ =================== ============================================ ===============================
    fid          inception           inception-fidelity                           features (B, 2048)
    lpips        alex                vgg, squeeze; ``alex@256`` for another size  maps (B, V)
    clip         ViT-L-14            open_clip's names and folders                features (B, E)
    imagenet     resnet50                                                         probabilities (B, 1000)
    places       resnet50-places365                                               probabilities (B, 365)
    emotion      none: a path        a trained or the published head              probabilities, logits (B, C)
    miniature    miniature:clip      any small CLIP                               features (B, E), maps (B, V)
    ============ =================== ============================================ ===============================

    The squared Euclidean distance of two ``maps`` is LPIPS (of the miniature: the block distance). An emotion head
    reads the features of the role ``clip`` instead of images.

    Args:
        role: one of :data:`ROLES`.
        name: of the table, or a path to a file or folder; None takes the default. Named weights are looked for in torch
            hub's folder (CLIP: in Hugging Face's cache) and downloaded at first need.
        random: the true architecture with seeded random weights, named ``random-…``: for tests and timing.

    Raises:
        UniEmoError: unknown role or name; weights that are missing (the message names file, source and place),
            unreadable or another network's.
    """
    if role not in ROLES:
        raise UniEmoError(f"network role must be one of {', '.join(ROLES)}; got {role!r}")
    with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made
        return _load(role, name, random)


def _load(role: str, name: str | None, random: bool) -> FeatureNetwork:
    """Hand a role to the one that knows its names."""
    if role == "emotion":
        return load_emotion_head(name, random)
    name = name or DEFAULTS[role]
    if role == "fid":
        return load_inception(name, random)
    if role == "lpips":
        return load_lpips(name, random)
    if role in ("imagenet", "places"):
        return load_resnet(role, name, random)
    return load_clip_network(role, name, random)
