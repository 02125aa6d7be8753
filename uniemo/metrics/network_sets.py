"""Which networks look at the images: published ones, the miniature's, random ones, or single ones by name or path."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch

from uniemo.errors import UniEmoError
from uniemo.metrics.clip_evaluation import clarity_outputs
from uniemo.metrics.clip_networks import ClipNetwork, MiniatureNetwork
from uniemo.metrics.emotion_classifiers import CheckpointFacts
from uniemo.metrics.feature_network import FeatureNetwork
from uniemo.metrics.image_sets import ImageSet
from uniemo.metrics.networks import DEFAULTS, load_network
from uniemo.metrics.outputs import Output, protocol_outputs
from uniemo.metrics.protocols import EMOGEN, Protocol
from uniemo.miniature.table import OBJECTS, SCENES
from uniemo.vocabulary import Vocabulary

AUTO, PUBLISHED, MINIATURE, RANDOM, NONE = "auto", "published", "miniature", "random", "none"
ROLES = ("fid", "lpips", "clip", "imagenet", "places")
_RANDOM_NAME = "random-"  # in front of a name: the same architecture with random weights


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

    def outputs(self, protocol: Protocol, emotion: Sequence[Output] = ()) -> dict[str, Output]:
        """Return what the metrics of a protocol need, by name; ``emotion`` are the classifiers' outputs."""
        return protocol_outputs(
            protocol,
            fid=self.fid.get(protocol.name),
            lpips=self.lpips,
            clip=self.clip,
            emotion=emotion,
            clarity=self.clarity,
        )


def choose_set(wanted: str, real: ImageSet, checkpoint: CheckpointFacts | None = None) -> str:
    """Return the set that ``--networks`` means.

    Args:
        wanted: ``auto`` takes the miniature's networks for what the miniature painted or drew, else the published ones.
        real: images to compare with; the painter leaves a ``truth.json`` beside its images.
        checkpoint: one of the miniature's CLIP makes the images the miniature's too.

    Raises:
        UniEmoError: no such set.
    """
    known = (AUTO, PUBLISHED, MINIATURE, RANDOM)
    if wanted not in known:
        raise UniEmoError(f"--networks must be one of {', '.join(known)}; got {wanted!r}")
    if wanted != AUTO:
        return wanted
    small = checkpoint is not None and checkpoint.clip == DEFAULTS[MINIATURE]
    return MINIATURE if small or (real.root / "truth.json").is_file() else PUBLISHED


def names_for_clarity(real: ImageSet, checkpoint: CheckpointFacts | None, emotions: tuple[str, ...]) -> Vocabulary:
    """Return scene and object names for Sem-C by a CLIP: the data's, else the checkpoint's, else the miniature's."""
    if real.dataset == "EmoSet":
        from uniemo.data.layout import layouts_of, read_manifest

        found = read_manifest(real.root, layouts_of("EmoSet")).vocabulary
        if found.scenes or found.objects:
            return found
    if checkpoint is not None:
        return checkpoint.vocabulary
    return Vocabulary(emotions, tuple(SCENES), tuple(OBJECTS))


def load_clip(name: str, device: str | torch.device = "cpu") -> ClipNetwork:
    """Load a CLIP by the name of :func:`load_network`; the miniature's by ``miniature:clip``.

    Raises:
        UniEmoError: unknown name, or weights that are missing.
    """
    return cast(ClipNetwork, load_network("clip", name).to(device))


def load_set(
    wanted: str,
    protocols: Iterable[Protocol],
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

    Raises:
        UniEmoError: weights that are missing; the message names every file, its source and its place.
    """
    overrides = dict(overrides or {})
    names = {protocol.name: protocol.fid_network for protocol in protocols}
    known = {*ROLES, *(f"fid.{protocol}" for protocol in names)}
    unknown = [role for role in overrides if role not in known]
    if unknown:
        raise UniEmoError(f"network role must be one of {', '.join(sorted(known))}; got {unknown[0]!r}")
    small = MiniatureNetwork(DEFAULTS[MINIATURE]) if wanted == MINIATURE else None
    loaded: dict[tuple[str, str], FeatureNetwork | None] = {}
    errors: dict[str, None] = {}

    def load(role: str, default: str) -> FeatureNetwork | None:
        name = overrides.get(role)
        if name is None and small is not None:
            return small
        random = wanted == RANDOM if name is None else name.startswith(_RANDOM_NAME)
        name = (name or default).removeprefix(_RANDOM_NAME)
        role = role.partition(".")[0]
        if name == NONE:
            return None
        if (role, name) not in loaded:
            try:
                loaded[role, name] = load_network(role, name, random=random)
            except UniEmoError as error:
                errors[str(error)] = None
                return None
        return loaded[role, name]

    fid = {}
    for protocol, default in names.items():
        role = f"fid.{protocol}"
        fid[protocol] = load(role if role in overrides else "fid", default)
    lpips, clip = (load(role, DEFAULTS[role]) for role in ("lpips", "clip"))
    scored = {"objects": "imagenet", "scenes": "places"}
    clarity = {name: load(role, DEFAULTS[role]) for name, role in scored.items() if small is None or role in overrides}
    if errors:
        # Someone without the files wants to know all of them at once, and a way to go on without.
        way_out = "; --networks miniature runs without any file, on the miniature's small CLIP"
        raise UniEmoError(" | ".join(errors) + (way_out if wanted == PUBLISHED else ""))
    made = {name: network.to(device) for name, network in fid.items() if network is not None}
    lpips, clip = (None if network is None else network.to(device) for network in (lpips, clip))
    if clip is not None and not isinstance(clip, ClipNetwork):
        raise UniEmoError(f"--clip must name a CLIP; got {clip.info.name}")
    if small is not None and not overrides.keys() & set(scored.values()):
        outputs = clarity_outputs(small.to(device), vocabulary)
    else:
        outputs = {
            name: Output(network.to(device), network.views[0], "probabilities")
            for name, network in clarity.items()
            if network is not None
        }
    return NetworkSet(wanted, made, lpips, clip, outputs)
