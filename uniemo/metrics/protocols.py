"""The two ways to measure generated images: the published scripts, habits included, and ours.

Each habit is a field, so that its effect on a metric can be seen alone:

    dataclasses.replace(STRICT, name="strict, unscaled LPIPS", lpips_range="unit")

One habit is left to the call: both protocols compare with the same real images, those of the test split unless told
otherwise; EmoGen's scripts take all images of EmoSet (``uniemo evaluate --protocol emogen --split all``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints


@dataclass(frozen=True)
class Protocol:
    """How the metrics are computed.

    Attributes:
        name: as in results.
        pairs: pairs of images of each emotion for LPIPS and Sem-D; all where fewer exist.
        draw: ``ring`` takes different pairs along a random order of the images, each image about equally often;
            ``independent`` samples each pair anew, so that one may come twice.
        pool: ``emotion`` pairs images of one emotion; ``accumulated`` never empties the pool, so that the k-th emotion
            samples from the first k (EmoGen's other_metrics.py: ``images_path`` is made once, before the loop).
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
            raise ValueError(f"pairs must be at least 1; got {self.pairs}")
        for name, kind in get_type_hints(Protocol).items():
            if get_args(kind) and getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}; got {getattr(self, name)!r}")
        if (self.draw, self.pool) == ("ring", "accumulated"):
            raise ValueError("an accumulated pool needs draw independent; got ring: its pairs stay inside one emotion")


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
