"""Named outputs of frozen networks: what metrics are computed from.

A network is a frozen torch module with an ``info`` (role, name, source and hash of the weights), a ``device``, a tuple
of ``views`` (preparations of the images; ``describe(view)`` says each in words) and ``network(images, view)``, which
takes images (B, 3, H, W) in [0, 1] and returns a dictionary of float32 tensors with B rows. The suite runs each network
once per image and view, however many metrics ask for its outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.protocols import Protocol

Head = Callable[[Tensor], Tensor]  # a classifier on features: a network or any function
EMOTION = ("emotion", "emotion (second)")  # names of the classifiers' outputs


@dataclass(frozen=True)
class Output:
    """One output of a network in one view, through a head where there is one.

    Attributes:
        network: takes the images.
        view: how they are prepared.
        key: which of the network's outputs.
        head: (B, F) to (B, K).
    """

    network: FeatureNetwork
    view: str
    key: str
    head: Head | None = None

    def read(self, outputs: Mapping[str, Tensor]) -> Tensor:
        """Return this output (B, K) among those of the network."""
        value = outputs[self.key]
        return value if self.head is None else self.head(value)

    @property
    def infos(self) -> tuple[NetworkInfo, ...]:
        """The network and, where it says what it is, the head."""
        info = getattr(self.head, "info", None)
        return (self.network.info, info) if info else (self.network.info,)

    @property
    def name(self) -> str:
        """Names of both, as in a table's column."""
        return " + ".join(info.name for info in self.infos)

    @property
    def identity(self) -> str:
        """Name, hash and preparation: features of different identities are never compared."""
        info = self.network.info
        return f"{info.name} {info.hash} {self.network.describe(self.view)}"


class ImageNetwork(FeatureNetwork):
    """The images themselves, for metrics that need no network."""

    def __init__(self) -> None:
        super().__init__()
        self.info = NetworkInfo("images", "images", "", "")

    def describe(self, view: str = "strict") -> str:
        """Say that nothing is prepared."""
        return "as they are"

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Leave images as they are."""
        return images

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``images``, (B, 3, H, W)."""
        return {"images": inputs}


def protocol_outputs(
    protocol: Protocol,
    *,
    fid: FeatureNetwork | None = None,
    lpips: FeatureNetwork | None = None,
    clip: FeatureNetwork | None = None,
    emotion: Sequence[Output] = (),
    clarity: Mapping[str, Output] | None = None,
) -> dict[str, Output]:
    """Return the outputs that a protocol's metrics need, by name; where a network is missing, so are its outputs.

    Always there are the ``images`` themselves, (B, 3, H, W) in [0, 1].

    Args:
        protocol: decides on the view of each network; one without such a view gives its first.
        fid: gives ``fid``, features (B, F).
        lpips: gives ``lpips``, vectors (B, V) whose squared distance is LPIPS.
        clip: gives ``clip``, features (B, E) in CLIP's own preparation, and ``sem_d``, in the protocol's.
        emotion: ``emotion`` and ``emotion (second)``, see :func:`emotion_output`.
        clarity: ``objects`` and ``scenes``, probabilities (B, K) of each set of classes.
    """

    def output(network: FeatureNetwork, habit: bool, key: str) -> Output:
        return Output(network, network.view_for("emogen" if habit else "strict"), key)

    found: dict[str, Output] = {}
    if fid is not None:
        found["fid"] = output(fid, protocol.fid_recipe == "torchmetrics", "features")
    if lpips is not None:
        found["lpips"] = output(lpips, protocol.lpips_range == "unit", "maps")
    if clip is not None:
        found["clip"] = Output(clip, clip.views[0], "features")
        found["sem_d"] = output(clip, protocol.sem_d_rescale == "twice", "features")
    images = Output(ImageNetwork(), "strict", "images")
    return {**found, **dict(zip(EMOTION, emotion, strict=False)), **(clarity or {}), "images": images}


def emotion_output(clip: FeatureNetwork, head: Head) -> Output:
    """Return the output of an emotion classifier.

    Args:
        clip: whose features it takes, in CLIP's own preparation (as EmoGen's classifier does too).
        head: features (B, E), not normalised, to probabilities (B, C); a network of role ``emotion`` for example.
    """
    return Output(clip, clip.views[0], "features", head)
