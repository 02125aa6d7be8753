"""What the networks behind the metrics have in common: frozen, named, hashed, images in [0, 1]."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError


@dataclass(frozen=True)
class NetworkInfo:
    """Which network saw the images; two that differ in any field never share a column.

    Attributes:
        role: what it is for, one of :data:`uniemo.metrics.networks.ROLES`.
        name: how results call it; ``random-`` in front where the weights are random.
        source: path or name that the weights came from.
        hash: first 12 hex digits of the SHA-256 of the weights as loaded.
    """

    role: str
    name: str
    source: str
    hash: str

    @property
    def key(self) -> str:
        """How results refer to it: name and hash of the weights."""
        return f"{self.name} {self.hash}"


def check_images(images: Tensor) -> None:
    """Raise UniEmoError unless images are floats (B, 3, H, W) in [0, 1] and finite."""
    if images.ndim != 4 or images.shape[1] != 3 or not images.is_floating_point():
        raise UniEmoError(
            f"images must be floats of shape (B, 3, H, W) in [0, 1]; got {images.dtype} {tuple(images.shape)}"
        )
    if not images.numel():
        return
    low, high = (float(x) for x in images.aminmax())  # NaN if any value is
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        raise UniEmoError(f"images must lie in [0, 1]; got {low:.3f} to {high:.3f}: convert the range first")


class FeatureNetwork(nn.Module, ABC):
    """A frozen network on [0, 1] images; always in eval mode, without gradient, in its own precision.

    A subclass prepares the images for each of its views and runs the network. One image's output does not depend on the
    images beside it.

    Attributes:
        info: name, source and hash of the weights.
        views: names of its preprocessings, each different from the others; the first is the default. A protocol that
            has no view of its own uses the first (see :meth:`view_for`).
    """

    info: NetworkInfo
    views: tuple[str, ...] = ("strict",)
    _anchor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_anchor", torch.zeros(()), persistent=False)  # knows the device

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._anchor.device

    @property
    def weight_dtype(self) -> torch.dtype:
        """The type of the weights; inputs are prepared in float32 and then cast to it."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)

    def train(self, mode: bool = True) -> FeatureNetwork:
        """Stay in eval mode, whatever is asked."""
        super().train(False)
        return self

    def view_for(self, protocol: str) -> str:
        """Return the view that a protocol's images take: its own, or the first where the protocols agree."""
        return protocol if protocol in self.views else self.views[0]

    @abstractmethod
    def describe(self, view: str = "strict") -> str:
        """Say in a few words how a view is prepared; part of the key under which features are cached."""

    @abstractmethod
    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Turn float32 images (B, 3, H, W) in [0, 1] into what the network takes."""

    @abstractmethod
    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Run the network once on what :meth:`prepare` made."""

    @torch.no_grad()
    def forward(self, images: Tensor, view: str | None = None) -> dict[str, Tensor]:
        """Run the network once.

        Args:
            images: (B, 3, H, W) in [0, 1], any float type, any device.
            view: one of :attr:`views`; None takes the first.

        Returns:
            float32 tensors with B rows on the network's device; the keys are the role's (see
            :func:`uniemo.metrics.networks.load_network`).

        Raises:
            UniEmoError: another shape or type, values outside [0, 1] or not finite, or an unknown view.
        """
        view = view or self.views[0]
        if view not in self.views:
            raise UniEmoError(f"view of {self.info.name} must be one of {', '.join(self.views)}; got {view!r}")
        check_images(images)
        # a metric must not depend on the precision that a trainer happens to run in
        known = torch.amp.is_autocast_available(self.device.type)
        with torch.autocast(self.device.type, enabled=False) if known else nullcontext():
            inputs = self.prepare(images.to(self.device, torch.float32), view)
            output = self.read(inputs.to(self.weight_dtype))
        return {name: value.float() for name, value in output.items()}
