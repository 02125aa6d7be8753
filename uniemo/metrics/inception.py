"""Inception v3 for FID: clean-fid's TorchScript file and torchmetrics' weights, in one architecture."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.network_weights import State, WeightFile, fill, locate, weights_hash
from uniemo.metrics.resizing import clean_resize, eight_bit_resize

SIZE = 299  # Szegedy et al. 2016
FILES = {  # addresses as in cleanfid.downloads_helper and torch_fidelity.feature_extractor_inceptionv3
    "inception": WeightFile(
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/inception-2015-12-05.pt", "96 MB"
    ),
    "inception-fidelity": WeightFile(
        "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
        "96 MB",
        "pt_inception-2015-12-05-6726825d.pth",  # pytorch-fid's name for the same bytes
    ),
}


def _branches(*towers: tuple[str, str, int]) -> dict[str, str]:
    """Return clean-fid's name of each convolution of a block and torchvision's, from (tower, branch, length)."""
    names = {}
    for tower, branch, length in towers:
        for k in range(length):
            names[f"{tower}conv{f'_{k}' if k else ''}"] = branch if length == 1 else f"{branch}_{k + 1}"
    return names


_A = _branches(
    ("", "branch1x1", 1), ("tower.", "branch5x5", 2), ("tower_1.", "branch3x3dbl", 3), ("tower_2.", "branch_pool", 1)
)
_B = _branches(("", "branch3x3", 1), ("tower.", "branch3x3dbl", 3))
_C = _branches(
    ("", "branch1x1", 1), ("tower.", "branch7x7", 3), ("tower_1.", "branch7x7dbl", 5), ("tower_2.", "branch_pool", 1)
)
_D = _branches(("tower.", "branch3x3", 2), ("tower_1.", "branch7x7x3", 4))
_E = {
    "conv": "branch1x1",
    "tower_conv": "branch3x3_1",
    "tower_mixed_conv": "branch3x3_2a",
    "tower_mixed_conv_1": "branch3x3_2b",
    "tower_1_conv": "branch3x3dbl_1",
    "tower_1_conv_1": "branch3x3dbl_2",
    "tower_1_mixed_conv": "branch3x3dbl_3a",
    "tower_1_mixed_conv_1": "branch3x3dbl_3b",
    "tower_2_conv": "branch_pool",
}
_BLOCKS = {  # in TensorFlow's order: mixed, mixed_1 … mixed_10
    **dict.fromkeys(("5b", "5c", "5d"), _A),
    "6a": _B,
    **dict.fromkeys(("6b", "6c", "6d", "6e"), _C),
    "7a": _D,
    **dict.fromkeys(("7b", "7c"), _E),
}
_STEM = ("1a_3x3", "2a_3x3", "2b_3x3", "3b_1x1", "4a_3x3")
_PARTS = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}


def torchvision_names() -> dict[str, str]:
    """Return torchvision's name of each convolution of clean-fid's file."""
    names = {f"layers.conv{f'_{k}' if k else ''}": f"Conv2d_{name}" for k, name in enumerate(_STEM)}
    for k, (block, layers) in enumerate(_BLOCKS.items()):
        mixed = f"layers.mixed{f'_{k}' if k else ''}"
        names |= {f"{mixed}.{theirs}": f"Mixed_{block}.{ours}" for theirs, ours in layers.items()}
    return names


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


class InceptionNetwork(FeatureNetwork):
    """The 2,048 pooled features of the Inception v3 of 2015-12-05.

    Args:
        role: ``fid``.
        name: one of :data:`FILES`, or a path to torch-fidelity's weights or clean-fid's TorchScript file.
        random: take seeded random weights.
    """

    views = ("strict", "emogen")

    def __init__(self, role: str, name: str, random: bool = False) -> None:
        super().__init__()
        path, label = locate(role, name, FILES, random)
        self.network = fid_inception()
        source = fill(self.network, path, "fid network", _renamed)
        self.network.fc = nn.Identity()
        self.network.eval().requires_grad_(False)
        self.info = NetworkInfo(role, label, source, weights_hash(self.network))

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
        """Return ``features``, (B, 2048)."""
        return {"features": self.network(inputs)}


def _renamed(state: State, path: Path) -> State:
    """Return clean-fid's tensors by torchvision's names, others as they are; its batch norms have no scale."""
    if not any(name.startswith("layers.") for name in state):
        return state
    found = {}
    try:
        for theirs, ours in torchvision_names().items():
            for part, name in _PARTS.items():
                found[f"{ours}.{name}"] = state[f"{theirs}.{part}"]
            found[f"{ours}.bn.weight"] = torch.ones_like(state[f"{theirs}.beta"])
        return found | {"fc.weight": state["output.weight"], "fc.bias": state["output.bias"]}
    except KeyError as error:
        raise UniEmoError(
            f"fid network must be clean-fid's {FILES['inception'].name}; {path} has no {error}: fetch it again"
        ) from error
