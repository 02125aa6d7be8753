"""The table of networks behind the metrics, by role and name, or by path."""

from __future__ import annotations

from collections.abc import Callable

import torch

from uniemo.errors import UniEmoError
from uniemo.metrics.clip_networks import load_clip_network
from uniemo.metrics.feature_network import FeatureNetwork
from uniemo.metrics.imagenet import load_resnet
from uniemo.metrics.inception import load_inception
from uniemo.metrics.perceptual import load_lpips

NETWORKS: dict[str, tuple[str, Callable[[str, str, bool], FeatureNetwork]]] = {  # role: (default name, loader)
    "fid": ("inception", load_inception),
    "lpips": ("alex", load_lpips),
    "clip": ("ViT-L-14", load_clip_network),
    "imagenet": ("resnet50", load_resnet),
    "places": ("resnet50-places365", load_resnet),
    "miniature": ("miniature:clip", load_clip_network),
}
ROLES = tuple(NETWORKS)
DEFAULTS: dict[str, str] = {role: name for role, (name, _) in NETWORKS.items()}


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
    miniature    miniature:clip      any small CLIP                               features (B, E), maps (B, V)
    ============ =================== ============================================ ===============================

    The squared Euclidean distance of two ``maps`` is LPIPS (of the miniature: the block distance).

    Args:
        role: one of :data:`ROLES`.
        name: of the table, or a path to a file or folder; None takes the default. Named weights are looked for in torch
            hub's folder (CLIP: in Hugging Face's cache) and downloaded at first need.
        random: the true architecture with seeded random weights, named ``random-…``: for tests and timing.

    Raises:
        UniEmoError: unknown role or name; weights that are missing (the message names file, source and place),
            unreadable or another network's.
    """
    if role not in NETWORKS:
        raise UniEmoError(f"network role must be one of {', '.join(ROLES)}; got {role!r}")
    default, load = NETWORKS[role]
    with torch.random.fork_rng(devices=[]):  # layers draw weights when they are made
        return load(role, name or default, random)
