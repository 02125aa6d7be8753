"""What every network behind a figure has in common: frozen, named, hashed, and the one that turns ranges."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.metrics.networks import check_images


@dataclass(frozen=True)
class NetworkInfo:
    """Which network saw the images; two that differ in any field never share a column.

    Attributes:
        role: what it is for, one of :data:`uniemo.metrics.registry.ROLES`.
        name: how results call it; ``random-`` in front where the weights are random.
        source: path or hub name that the weights came from.
        hash: first 12 hex digits of the SHA-256 of the weights as loaded.
    """

    role: str
    name: str
    source: str
    hash: str


class FeatureNetwork(nn.Module, ABC):
    """A frozen network that reads [0, 1] images; always in eval mode, without gradient, in its own precision.

    A subclass says how a view is prepared and what the network makes of it. One image's output does not depend on the
    images beside it.

    Attributes:
        info: name, source and hash of the weights.
        views: names of its preprocessings, each different from the others; the first is the default. A protocol that
            has no view of its own uses the first (see :meth:`view_for`).
        reads: ``images``, or the role whose features it reads instead (an emotion head reads ``clip``).
    """

    info: NetworkInfo
    views: tuple[str, ...] = ("strict",)
    reads: str = "images"
    _anchor: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("_anchor", torch.zeros(()), persistent=False)  # knows the device

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self._anchor.device

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
            images: (B, 3, H, W) in [0, 1], any float type, any device; for a network that reads features, (B, E).
            view: one of :attr:`views`; None takes the first.

        Returns:
            float32 tensors with B rows on the network's device; the keys are the role's (see
            :func:`uniemo.metrics.registry.load_network`).

        Raises:
            UniEmoError: another shape or type, values outside [0, 1] or not finite, or an unknown view.
        """
        view = view or self.views[0]
        if view not in self.views:
            raise UniEmoError(f"view of {self.info.name} must be one of {', '.join(self.views)}; got {view!r}")
        self.check(images)
        with _full_precision(self.device):
            inputs = self.prepare(images.to(self.device, torch.float32), view)
            output = self.read(inputs.to(self.weight_dtype))
        return {name: value.float() for name, value in output.items()}

    def check(self, images: Tensor) -> None:
        """Raise UniEmoError unless the input can be read."""
        check_images(images)

    @property
    def weight_dtype(self) -> torch.dtype:
        """The type of the weights; inputs are prepared in float32 and then cast to it."""
        return next((p.dtype for p in self.parameters() if p.is_floating_point()), torch.float32)


@contextlib.contextmanager
def _full_precision(device: torch.device) -> Iterator[None]:
    """Switch autocast off: a figure must not depend on the precision that a trainer happens to run in."""
    if not torch.amp.is_autocast_available(device.type):
        yield
        return
    with torch.autocast(device.type, enabled=False):
        yield
