"""The two ways of measuring generated images: the published scripts, habits included, and ours.

Each habit is a field, so that what it does to a figure can be seen alone:

    dataclasses.replace(STRICT, name="strict, unscaled LPIPS", lpips_range="unit")
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args, get_type_hints

from torch import Tensor

from uniemo.errors import UniEmoError

if TYPE_CHECKING:
    from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo


@dataclass(frozen=True)
class Protocol:
    """How the figures are taken.

    Attributes:
        name: as in results.
        pairs: pairs of images of each emotion for LPIPS and Sem-D; all where fewer exist.
        draw: ``ring`` takes different pairs along a random order of the images, each image about equally often;
            ``independent`` draws each pair anew, so that one may come twice.
        pool: ``emotion`` pairs images of one emotion; ``accumulated`` never empties the pool, so that the k-th emotion
            draws from the first k (EmoGen's other_metrics.py: ``images_path`` is made once, before the loop).
        lpips_range: ``signed`` gives LPIPS images in [-1, 1], as it was trained; ``unit`` leaves them in [0, 1]
            (EmoGen's other_metrics.py).
        sem_d_rescale: ``once`` is CLIP's own preprocessing; ``twice`` divides by 255 what lies in [0, 1] already
            (EmoGen's other_metrics.py hands tensors to the processor).
        fid_recipe: ``clean-fid`` resizes antialiased without rounding; ``torchmetrics`` rounds to bytes on the way
            (EmoGen's FID.py).
        fid_network: name of the Inception whose features are compared.
    """

    name: str
    pairs: int = 1000
    draw: Literal["ring", "independent"] = "ring"
    pool: Literal["emotion", "accumulated"] = "emotion"
    lpips_range: Literal["signed", "unit"] = "signed"
    sem_d_rescale: Literal["once", "twice"] = "once"
    fid_recipe: Literal["clean-fid", "torchmetrics"] = "clean-fid"
    fid_network: str = "inception"

    def __post_init__(self) -> None:
        """Check the choices."""
        if self.pairs < 1:
            raise UniEmoError(f"pairs must be at least 1; got {self.pairs}")
        for name, kind in get_type_hints(Protocol).items():
            if get_args(kind) and getattr(self, name) not in get_args(kind):
                raise UniEmoError(f"{name} must be one of {', '.join(get_args(kind))}; got {getattr(self, name)!r}")
        if (self.draw, self.pool) == ("ring", "accumulated"):
            raise UniEmoError("an accumulated pool needs draw independent; got ring: its pairs stay inside one emotion")


STRICT = Protocol("strict")
EMOGEN = Protocol(
    "emogen",
    pairs=10,
    draw="independent",
    pool="accumulated",
    lpips_range="unit",
    sem_d_rescale="twice",
    fid_recipe="torchmetrics",
    fid_network="inception-fidelity",
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (STRICT, EMOGEN)}


# A classifier on features: one of the networks of role "emotion", or any function.
Head = Callable[[Tensor], Tensor | dict[str, Tensor]]


@dataclass(frozen=True)
class Reading:
    """What a figure reads: one output of a network in one view, through a head where there is one.

    Two readings that are equal are one and the same, and readings of one network in one view share its pass.

    Attributes:
        network: sees the images.
        view: how they are prepared.
        key: which of the network's outputs.
        head: (B, F) to (B, K); of a network, its ``probabilities`` are taken. None reads the output itself.
    """

    network: FeatureNetwork
    view: str
    key: str
    head: Head | None = None

    def read(self, output: dict[str, Tensor]) -> Tensor:
        """Return what is read of the network's output."""
        value = output[self.key]
        if self.head is None:
            return value
        read = self.head(value)
        return read["probabilities"] if isinstance(read, dict) else read

    @property
    def infos(self) -> tuple[NetworkInfo, ...]:
        """The network and, where it says what it is, the head."""
        info = getattr(self.head, "info", None)
        return (self.network.info, info) if info else (self.network.info,)

    @property
    def name(self) -> str:
        """Names of both, as the column of a table says it."""
        return " + ".join(info.name for info in self.infos)

    @property
    def identity(self) -> str:
        """Name, hash and preparation: features of different identities are never compared."""
        info = self.network.info
        return f"{info.name} {info.hash} {self.network.describe(self.view)}"


@dataclass(frozen=True)
class ProtocolReadings:
    """What the figures of one protocol read; where a reading is missing, so is its figure.

    Attributes:
        fid: features (B, F).
        lpips: vectors (B, V) whose squared distance is LPIPS.
        sem_d: CLIP's features (B, E).
        emotion: probabilities (B, C) of one emotion classifier or several, the first of which is Emo-A's.
        clarity: probabilities (B, K) of each set of classes; Sem-C is the largest of all.
    """

    fid: Reading | None = None
    lpips: Reading | None = None
    sem_d: Reading | None = None
    emotion: tuple[Reading, ...] = ()
    clarity: tuple[Reading, ...] = ()

    def all(self) -> tuple[Reading, ...]:
        """Return every reading."""
        single = (self.fid, self.lpips, self.sem_d)
        return (*(reading for reading in single if reading), *self.emotion, *self.clarity)


def protocol_readings(
    protocol: Protocol,
    *,
    fid: FeatureNetwork | None = None,
    lpips: FeatureNetwork | None = None,
    clip: FeatureNetwork | None = None,
    emotion: tuple[Reading, ...] = (),
    clarity: tuple[Reading, ...] = (),
) -> ProtocolReadings:
    """Choose the view that a protocol takes of each network; one without such a view gives its first.

    Args:
        protocol: whose habits decide.
        fid: role ``fid``, or ``miniature``.
        lpips: role ``lpips``, or ``miniature``.
        clip: role ``clip``, or ``miniature``; for Sem-D.
        emotion: see :func:`emotion_reading`.
        clarity: see :func:`clarity_readings`.
    """

    def reading(network: FeatureNetwork | None, habit: bool, key: str) -> Reading | None:
        if network is None:
            return None
        return Reading(network, network.view_for("emogen" if habit else "strict"), key)

    return ProtocolReadings(
        reading(fid, protocol.fid_recipe == "torchmetrics", "features"),
        reading(lpips, protocol.lpips_range == "unit", "maps"),
        reading(clip, protocol.sem_d_rescale == "twice", "features"),
        emotion,
        clarity,
    )


def emotion_reading(clip: FeatureNetwork, head: Head) -> Reading:
    """Return the reading of an emotion classifier.

    Args:
        clip: whose features it reads, in CLIP's own preprocessing (as EmoGen's classifier does too).
        head: features (B, E), not normalised, to probabilities (B, C); a network of role ``emotion`` for example.
    """
    return Reading(clip, clip.views[0], "features", head)


def clarity_readings(
    *networks: FeatureNetwork, clip: FeatureNetwork | None = None, reader: Head | None = None
) -> tuple[Reading, ...]:
    """Return the readings of Sem-C.

    Args:
        networks: of roles ``places`` and ``imagenet``; both protocols agree on resize 256, crop 224.
        clip: instead, a CLIP whose features ``reader`` turns into probabilities (B, K).
        reader: see :meth:`uniemo.metrics.semantic_clarity.ClarityReader.probabilities`.
    """
    read = tuple(Reading(network, network.views[0], "probabilities") for network in networks)
    return read if clip is None else (*read, Reading(clip, clip.views[0], "features", reader))
