"""The networks behind the metrics: single ones by role and name or path, and sets for all metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from uniemo.errors import UniEmoError
from uniemo.metrics.clip_evaluation import clarity_outputs
from uniemo.metrics.clip_networks import ClipNetwork, MiniatureNetwork, load_clip_network
from uniemo.metrics.feature_network import FeatureNetwork
from uniemo.metrics.imagenet import ResNetClassifier
from uniemo.metrics.inception import InceptionNetwork
from uniemo.metrics.outputs import Output
from uniemo.metrics.perceptual import load_lpips
from uniemo.metrics.protocols import EMOGEN, Protocol
from uniemo.vocabulary import Vocabulary

NETWORKS: dict[str, tuple[str, Callable[[str, str, bool], FeatureNetwork]]] = {  # role: (default name, loader)
    "fid": ("inception", InceptionNetwork),
    "lpips": ("alex", load_lpips),
    "clip": ("ViT-L-14", load_clip_network),
    "imagenet": ("resnet50", ResNetClassifier),
    "places": ("resnet50-places365", ResNetClassifier),
    "miniature": ("miniature:clip", load_clip_network),
}
ROLES = tuple(NETWORKS)
DEFAULTS: dict[str, str] = {role: name for role, (name, _) in NETWORKS.items()}
AUTO, PUBLISHED, MINIATURE, RANDOM, NONE = "auto", "published", "miniature", "random", "none"
CLARITY = {"objects": "imagenet", "scenes": "places"}  # output of Sem-C: role
_RANDOM_NAME = "random-"  # in front of a name: the same architecture with random weights


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
    """
    if role not in NETWORKS:
        raise UniEmoError(f"network role must be one of {', '.join(ROLES)}; got {role!r}")
    default, load = NETWORKS[role]
    with torch.random.fork_rng(devices=[]):  # layers initialise their weights when they are made
        return load(role, name or default, random)


@dataclass
class NetworkSet:
    """The networks of all metrics but Emo-A's heads, on one device.

    Attributes:
        name: ``published``, ``miniature`` or ``random``.
        fid: by protocol; a protocol without one has no FID.
        lpips: for LPIPS.
        clip: for Sem-D, Emo-A and the memorisation check.
        clarity: for Sem-C, ``objects`` and ``scenes``.
    """

    name: str
    fid: dict[str, FeatureNetwork]
    lpips: FeatureNetwork | None
    clip: ClipNetwork | None
    clarity: dict[str, Output]

    def notes(self, protocols: Iterable[Protocol]) -> list[str]:
        """Say which habits of the emogen protocol these networks cannot have."""
        used = [self.fid.get(EMOGEN.name), self.lpips, self.clip]
        rigid = {
            network.info.name: None for network in used if network is not None and EMOGEN.name not in network.views
        }
        if not rigid or EMOGEN.name not in [protocol.name for protocol in protocols]:
            return []
        return [
            f"emogen: {', '.join(rigid)} prepares images in one way, as in strict; of the habits only the choice of "
            "pairs remains there"
        ]


def load_clip(name: str, device: str | torch.device = "cpu") -> ClipNetwork:
    """Load a CLIP by the name of :func:`load_network`; the miniature's by ``miniature:clip``."""
    return cast(ClipNetwork, load_network("clip", name).to(device))


def load_set(
    wanted: str,
    protocols: Sequence[Protocol],
    vocabulary: Vocabulary,
    overrides: Mapping[str, str] | None = None,
    device: str | torch.device = "cpu",
) -> NetworkSet:
    """Load a set of networks.

    Args:
        wanted: ``published``, ``miniature`` (one small CLIP stands for all) or ``random`` (true architectures).
        protocols: to be measured; each names its network for FID.
        vocabulary: scene and object names for Sem-C by a CLIP; without any there is no Sem-C by it.
        overrides: network by role instead of the set's: a name or path of :func:`load_network`, ``random-<name>``, or
            ``none`` to leave its metrics out. ``fid`` counts for all protocols, ``fid.emogen`` for one.
        device: where they go.
    """
    overrides = dict(overrides or {})
    known = {*ROLES[:-1], *(f"fid.{protocol.name}" for protocol in protocols)}
    unknown = [role for role in overrides if role not in known]
    if unknown:
        raise UniEmoError(f"network role must be one of {', '.join(sorted(known))}; got {unknown[0]!r}")
    small = MiniatureNetwork(DEFAULTS[MINIATURE]).to(device) if wanted == MINIATURE else None
    errors: dict[str, None] = {}  # in order, without repetition
    loaded: dict[tuple[str, str], FeatureNetwork | None] = {}

    def load(role: str, default: str) -> FeatureNetwork | None:
        """Return the network of a role, such as ``fid.emogen``, loaded once; None where there is none."""
        role, _, protocol = role.partition(".")
        name = overrides.get(f"{role}.{protocol}", overrides.get(role))
        if name is None and small is not None:
            return small
        random = wanted == RANDOM if name is None else name.startswith(_RANDOM_NAME)
        name = (name or default).removeprefix(_RANDOM_NAME)
        if name == NONE:
            return None
        if (role, name) not in loaded:
            try:
                loaded[role, name] = load_network(role, name, random=random).to(device)
            except UniEmoError as error:
                errors[str(error)] = None
                loaded[role, name] = None
        return loaded[role, name]

    fid = {protocol.name: load(f"fid.{protocol.name}", protocol.fid_network) for protocol in protocols}
    lpips, clip = (load(role, DEFAULTS[role]) for role in ("lpips", "clip"))
    if small is not None and not overrides.keys() & set(CLARITY.values()):
        clarity = clarity_outputs(small, vocabulary)
    else:
        roles = {name: role for name, role in CLARITY.items() if small is None or role in overrides}
        found = {name: load(role, DEFAULTS[role]) for name, role in roles.items()}
        clarity = {name: Output(one, one.views[0], "probabilities") for name, one in found.items() if one is not None}
    if errors:  # someone without the files wants to know all of them at once, and a way to go on without
        way_out = "; --networks miniature runs without any file, on the miniature's small CLIP"
        raise UniEmoError(" | ".join(errors) + (way_out if wanted == PUBLISHED else ""))
    if clip is not None and not isinstance(clip, ClipNetwork):
        raise UniEmoError(f"--clip must name a CLIP; got {clip.info.name}")
    return NetworkSet(wanted, {name: one for name, one in fid.items() if one is not None}, lpips, clip, clarity)
