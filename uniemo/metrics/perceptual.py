"""LPIPS as vectors: an image goes through the network once, however many pairs it is in."""

from __future__ import annotations

import math
import re
import warnings
from pathlib import Path

import lpips
import torch
from torch import Tensor

from uniemo.errors import UniEmoError
from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.network_weights import fill, locate, read_weights, torchvision_file, weights_hash
from uniemo.metrics.resizing import clean_resize, eight_bit_resize

FILES = {  # what lpips itself loads (lpips.pretrained_networks)
    "alex": torchvision_file("AlexNet_Weights.IMAGENET1K_V1"),
    "vgg": torchvision_file("VGG16_Weights.IMAGENET1K_V1"),
    "squeeze": torchvision_file("SqueezeNet1_1_Weights.IMAGENET1K_V1"),
}
DEFAULT_SIZE = 512  # the images of the published tables


class LpipsNetwork(FeatureNetwork):
    """The layers of an LPIPS trunk as one vector for each image.

    Every layer's features are scaled to unit length at each position, as LPIPS does, then by the root of LPIPS' channel
    weights and of one over the number of positions: the squared Euclidean distance of two vectors is LPIPS.

    Args:
        trunk: ``alex``, ``vgg`` or ``squeeze``; the channel weights of version 0.1 come with the lpips package.
        size: side of the square that images are resized to.
        path: the trunk's weights; None for seeded random ones.
        name: how results call it.
    """

    views = ("strict", "emogen")

    def __init__(self, trunk: str, size: int, path: Path | None, name: str) -> None:
        super().__init__()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # lpips uses torchvision's old argument names
            self.model = lpips.LPIPS(net=trunk, pnet_rand=True, verbose=False)
        names = {name: f"features.{name.split('.', 1)[1]}" for name in self.model.net.state_dict()}
        source = fill(
            self.model.net,
            path,
            "lpips network",
            lambda state, _: {name: state[theirs] for name, theirs in names.items() if theirs in state},
        )
        self.model.eval().requires_grad_(False)
        self.size = size
        self.info = NetworkInfo("lpips", name, source, weights_hash(self.model))

    def describe(self, view: str = "strict") -> str:
        """Say how a view is prepared."""
        if view == "emogen":
            return f"8-bit bilinear {self.size}, [0, 1] without rescaling"
        return f"clean-fid bicubic {self.size}, [-1, 1]"

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Resize where the size differs; ``strict`` brings into [-1, 1], ``emogen`` leaves [0, 1] (EmoGen's habit)."""
        if view == "strict":
            return clean_resize(images, self.size) * 2 - 1
        if images.shape[-2:] == (self.size, self.size):
            return images
        return eight_bit_resize(images, self.size)

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``maps``, (B, V)."""
        layers = self.model.net(self.model.scaling_layer(inputs))
        parts = []
        for features, head in zip(layers, self.model.lins, strict=True):
            weight = head.model[-1].weight.sqrt()  # (1, D, 1, 1), never negative
            positions = features.shape[-2] * features.shape[-1]
            parts.append((lpips.normalize_tensor(features) * (weight / math.sqrt(positions))).flatten(1).float())
        return {"maps": torch.cat(parts, dim=1)}


def load_lpips(role: str, name: str, random: bool = False) -> LpipsNetwork:
    """Load an LPIPS network; see :func:`uniemo.metrics.networks.load_network`.

    Args:
        role: ``lpips``.
        name: a trunk, or a path to the weights of one as torchvision publishes them; ``@256`` at the end asks for
            another size than 512.
        random: the trunk with seeded random weights (the channel weights are the published ones).
    """
    match = re.fullmatch(r"(.+)@(\d+)", name)
    wanted, size = (match[1], int(match[2])) if match else (name, DEFAULT_SIZE)
    if size < 32:
        raise UniEmoError(f"lpips size must be at least 32; got {size}: write {wanted}@64, for example")
    path, label = locate(role, wanted, FILES, random)
    trunk = wanted if wanted in FILES or path is None else _trunk_of(path)
    return LpipsNetwork(trunk, size, path, f"{label}@{size}")


def _trunk_of(path: Path) -> str:
    """Return which trunk a file's first layer and names belong to."""
    state = read_weights(path, "lpips network")
    if "features.3.squeeze.weight" in state:
        return "squeeze"
    first = state.get("features.0.weight")
    trunk = {11: "alex", 3: "vgg"}.get(first.shape[-1] if first is not None and first.ndim == 4 else 0)
    if trunk is None:
        raise UniEmoError(
            f"lpips network must hold torchvision's AlexNet, VGG-16 or SqueezeNet 1.1 (features.0.weight); {path} does "
            "not: give another file"
        )
    return trunk
