"""The networks behind the metrics: single ones by role and name or path, and sets for all metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from uniemo.errors import UniEmoError
from uniemo.metrics import imagenet, inception, perceptual
from uniemo.metrics.clip_networks import ClipNetwork, load_clip_network
from uniemo.metrics.feature_network import FeatureNetwork
from uniemo.metrics.network_weights import WeightFile, locate
from uniemo.metrics.outputs import Output
from uniemo.metrics.protocols import EMOGEN, Protocol
from uniemo.metrics.sem_c import ZeroShotClarity
from uniemo.models.clip import find_clip
from uniemo.vocabulary import Vocabulary


@dataclass(frozen=True)
class Role:
    """What a network is for.

    Attributes:
        default: name of the published network.
        load: makes one from role, name and whether its weights are random.
        files: published weights by name; None for CLIPs, which :mod:`uniemo.models.clip` finds.
    """

    default: str
    load: Callable[[str, str, bool], FeatureNetwork]
    files: Mapping[str, WeightFile] | None = None


NETWORKS: dict[str, Role] = {
    "fid": Role("inception", inception.InceptionNetwork, inception.FILES),
    "lpips": Role("alex", perceptual.load_lpips, perceptual.FILES),
    "clip": Role("ViT-L-14", load_clip_network),
    "imagenet": Role("resnet50", imagenet.ResNetClassifier, imagenet.FILES["imagenet"]),
    "places": Role("resnet50-places365", imagenet.ResNetClassifier, imagenet.FILES["places"]),
    "miniature": Role("miniature:clip", load_clip_network),
}
ROLES = tuple(NETWORKS)
DEFAULTS: dict[str, str] = {name: role.default for name, role in NETWORKS.items()}
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
    with torch.random.fork_rng(devices=[]):  # layers initialise their weights when they are made
        return NETWORKS[role].load(role, name or NETWORKS[role].default, random)


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


@dataclass(frozen=True)
class Choice:
    """A network of a set, not loaded yet.

    Attributes:
        role: one of :data:`ROLES`.
        name: see :func:`load_network`.
        random: whether its weights are.
    """

    role: str
    name: str
    random: bool

    def find(self) -> None:
        """Raise the error about what is missing, unless the weights are here or can be downloaded."""
        files = NETWORKS[self.role].files
        if files is not None:
            locate(self.role, re.sub(r"@\d+$", "", self.name), files, self.random)
        elif not self.random:
            find_clip(self.name)


def choose_networks(
    wanted: str, protocols: Sequence[Protocol], overrides: Mapping[str, str] | None = None
) -> dict[str, Choice | None]:
    """Decide on the networks of a set; see :func:`load_set` for the arguments.

    Returns:
        What is loaded for ``fid.<protocol>``, ``lpips``, ``clip``, and for Sem-C either ``imagenet`` and ``places`` or
        the miniature's ``clarity``; None where nothing is.
    """
    overrides = dict(overrides or {})
    known = {*ROLES[:-1], *(f"fid.{protocol.name}" for protocol in protocols)}
    unknown = [role for role in overrides if role not in known]
    if unknown:
        raise UniEmoError(f"network role must be one of {', '.join(sorted(known))}; got {unknown[0]!r}")
    clip = overrides.get("clip", NONE)
    small = _choice(MINIATURE, DEFAULTS[MINIATURE] if clip == NONE else clip)

    def choose(role: str, default: str, protocol: str = "") -> Choice | None:
        name = overrides.get(f"{role}.{protocol}", overrides.get(role))
        if name == NONE:
            return None
        if wanted == MINIATURE and (name is None or role == "clip"):
            return small
        return Choice(role, default, wanted == RANDOM) if name is None else _choice(role, name)

    found = {f"fid.{one.name}": choose("fid", one.fid_network, one.name) for one in protocols}
    found |= {role: choose(role, DEFAULTS[role]) for role in ("lpips", "clip")}
    own = [role for role in CLARITY.values() if role in overrides or wanted != MINIATURE]
    return found | ({role: choose(role, DEFAULTS[role]) for role in own} or {"clarity": small})


def _choice(role: str, name: str) -> Choice:
    """Return the network that a user names."""
    return Choice(role, name.removeprefix(_RANDOM_NAME), name.startswith(_RANDOM_NAME))


def find_networks(chosen: Iterable[Choice | None], way_out: str = "") -> None:
    """Look for the weights of networks, and download what is missing.

    Args:
        chosen: of :func:`choose_networks`.
        way_out: what runs without any file, behind the errors.

    Raises:
        UniEmoError: what cannot be had, all files in one line, each with its size and the command that gets it.
    """
    errors: dict[str, None] = {}  # in order, without repetition
    for one in dict.fromkeys(one for one in chosen if one is not None):
        try:
            one.find()
        except UniEmoError as error:
            errors[str(error)] = None
    if errors:
        raise UniEmoError(" | ".join(errors) + way_out)


def load_set(
    wanted: str,
    protocols: Sequence[Protocol],
    vocabulary: Vocabulary,
    overrides: Mapping[str, str] | None = None,
    device: str | torch.device = "cpu",
    option: str = "--networks",
) -> NetworkSet:
    """Load a set of networks.

    Args:
        wanted: ``published``, ``miniature`` (one small CLIP stands for all) or ``random`` (true architectures).
        protocols: to be measured; each names its network for FID.
        vocabulary: scene and object names for Sem-C by a CLIP; without any there is no Sem-C by it.
        overrides: network by role instead of the set's: a name or path of :func:`load_network`, ``random-<name>``, or
            ``none`` to leave its metrics out. ``fid`` counts for all protocols, ``fid.emogen`` for one; ``clip`` of the
            miniature stands for all networks.
        device: where they go.
        option: that ``wanted`` comes from, for the error.
    """
    chosen = choose_networks(wanted, protocols, overrides)
    find_networks(chosen.values(), without_files(wanted, option))
    loaded: dict[Choice | None, FeatureNetwork] = {}
    for one in chosen.values():
        if one is not None and one not in loaded:
            loaded[one] = load_network(one.role, one.name, random=one.random).to(device)
    networks = {place: loaded[one] for place, one in chosen.items() if one is not None}
    if "clarity" in networks:
        clarity = clarity_outputs(cast(ClipNetwork, networks["clarity"]), vocabulary)
    else:
        own = {name: networks[role] for name, role in CLARITY.items() if role in networks}
        clarity = {name: Output(network, network.views[0], "probabilities") for name, network in own.items()}
    fid = {place.partition(".")[2]: one for place, one in networks.items() if place.startswith("fid.")}
    return NetworkSet(wanted, fid, networks.get("lpips"), cast("ClipNetwork | None", networks.get("clip")), clarity)


def without_files(wanted: str, option: str) -> str:
    """Return the way out for someone without the published files."""
    return f"; {option} miniature runs without any file, on the miniature's small CLIP" if wanted == PUBLISHED else ""


def clarity_outputs(network: ClipNetwork, vocabulary: Vocabulary) -> dict[str, Output]:
    """Return what Sem-C needs, by the CLIP's zero-shot softmax; nothing without names of scenes or objects."""
    if not (vocabulary.scenes or vocabulary.objects):
        return {}
    heads = ZeroShotClarity(network.clip, vocabulary).heads
    return {name: Output(network, network.views[0], "features", head) for name, head in heads.items()}
