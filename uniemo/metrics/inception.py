"""Inception v3 for FID: clean-fid's TorchScript file and torchmetrics' weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.resizing import clean_resize, eight_bit_resize
from uniemo.metrics.weights import (
    WeightFile,
    existing_file,
    find_weights,
    is_torchscript,
    load_weights,
    randomise,
    read_weights,
    weights_hash,
)

SIZE = 299  # Szegedy et al. 2016
FILES = {
    # addresses as in cleanfid.downloads_helper and torch_fidelity.feature_extractor_inceptionv3; pytorch-fid publishes
    # the second under the alias, with the same hash in its name
    "inception": WeightFile(
        "Inception network 'inception'",
        "inception-2015-12-05.pt",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt",
    ),
    "inception-fidelity": WeightFile(
        "Inception network 'inception-fidelity'",
        "weights-inception-2015-12-05-6726825d.pth",
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "pt_inception-2015-12-05-6726825d.pth",
    ),
}


class InceptionNetwork(FeatureNetwork):
    """The 2,048 pooled features of the Inception v3 of 2015-12-05.

    Args:
        network: maps (B, 3, 299, 299) in [-1, 1) to (B, F) or (B, F, 1, 1).
        name: how results call it.
        source: where its weights came from.
    """

    views = ("strict", "emogen")

    def __init__(self, network: nn.Module, name: str, source: str) -> None:
        super().__init__()
        self.network = network.eval().requires_grad_(False)
        self.info = NetworkInfo("fid", name, source, weights_hash(network))

    def describe(self, view: str = "strict") -> str:
        """Say how a view is prepared."""
        return f"8-bit bilinear {SIZE}" if view == "emogen" else f"clean-fid bicubic {SIZE}"

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Resize and bring into [-1, 1).

        ``strict`` resizes as clean-fid does, ``emogen`` as EmoGen's script does before it calls torchmetrics (whose own
        resizing and rounding then change nothing).
        """
        resized = eight_bit_resize(images, SIZE) if view == "emogen" else clean_resize(images, SIZE)
        return (resized * 255 - 128) / 128  # both sources

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``features``, (B, F)."""
        return {"features": self.network(inputs).flatten(1)}


class _Scripted(nn.Module):
    """The part of clean-fid's TorchScript file that takes images already resized."""

    def __init__(self, base: torch.jit.ScriptModule) -> None:
        super().__init__()
        self.layers = base.layers

    def forward(self, inputs: Tensor) -> Tensor:
        """Return (B, 2048) features of (B, 3, 299, 299) in [-1, 1)."""
        return self.layers(inputs)


def fid_inception() -> nn.Module:
    """Return the FID variant of torchvision's Inception v3, without weights and with all 1,008 logits.

    The blocks that differ from torchvision's are clean-fid's (after pytorch-fid); features and weight names are those
    of torch-fidelity (tested against it).
    """
    from cleanfid.inception_pytorch import FIDInceptionA, FIDInceptionC, FIDInceptionE_1, FIDInceptionE_2
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, num_classes=1008, aux_logits=False, init_weights=False)
    for name, width, pool in (("5b", 192, 32), ("5c", 256, 64), ("5d", 288, 64)):
        setattr(network, f"Mixed_{name}", FIDInceptionA(width, pool_features=pool))
    for name, width in (("6b", 128), ("6c", 160), ("6d", 160), ("6e", 192)):
        setattr(network, f"Mixed_{name}", FIDInceptionC(768, channels_7x7=width))
    network.Mixed_7b = FIDInceptionE_1(1280)
    network.Mixed_7c = FIDInceptionE_2(2048)
    return network


def load_inception(name: str, random: bool = False) -> InceptionNetwork:
    """Load the Inception for FID.

    Args:
        name: ``inception`` (clean-fid's file), ``inception-fidelity`` (torchmetrics'), or a path to a file of either
            kind; a TorchScript file is told by its content. Load such a file only from a source that you trust.
        random: the architecture with seeded random weights; both names have the same.

    Raises:
        UniEmoError: the file is not there and cannot be had, or is another network's.
    """
    if random:
        network = fid_inception()
        randomise(network)
        network.fc = nn.Identity()
        return InceptionNetwork(network, f"random-{name}", "random weights, seed 0")
    if name in FILES:
        path, label = find_weights(FILES[name]), name
    else:
        path = existing_file(name, "fid network")
        label = path.stem
    network = _read_script(path) if is_torchscript(path) else _read_state(path)
    return InceptionNetwork(network, label, str(path))


def _read_script(path: Path) -> nn.Module:
    """Read clean-fid's file."""
    try:
        base = torch.jit.load(path, map_location="cpu")
        return _Scripted(base)
    except (RuntimeError, AttributeError) as error:
        raise UniEmoError(
            f"fid network must be clean-fid's {FILES['inception'].file} (with a part named layers); {path} is not: "
            "fetch it again"
        ) from error


def _read_state(path: Path) -> nn.Module:
    """Read torch-fidelity's file."""
    network = fid_inception()
    load_weights(network, read_weights(path, "fid network"), path, "fid network")
    network.fc = nn.Identity()
    return network
