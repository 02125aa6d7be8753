"""Pictures and weight files in the published forms, with random weights."""

import lpips
import numpy as np
import torch
from PIL import Image
from scripted import save_archive
from torch import nn

from uniemo.metrics.inception import fid_inception, torchvision_names
from uniemo.metrics.network_weights import randomise


def pictures(n=2, height=40, width=56, seed=0):
    """8-bit pictures with some structure, (n, H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 7, 9, 3), dtype=np.uint8)
    fine = np.random.default_rng(seed + 1).integers(-20, 21, (n, height, width, 3))
    big = np.stack([np.asarray(Image.fromarray(p).resize((width, height), Image.BICUBIC)) for p in coarse])
    return (big + fine).clip(0, 255).astype(np.uint8)


def tensor(pictures):
    return torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).float() / 255


def trunk_file(folder, name, seed=0):
    """Write a trunk as torchvision lays it out; return the path and lpips' own network with the same weights."""
    reference = lpips.LPIPS(net=name, pnet_rand=True, verbose=False)
    randomise(reference.net, seed)
    state = {f"features.{key.split('.', 1)[1]}": value.clone() for key, value in reference.net.state_dict().items()}
    state["classifier.1.weight"] = torch.zeros(2, 2)  # the published files hold the classifier too
    torch.save(state, folder / f"{name}.pth")
    return folder / f"{name}.pth", reference


def inception_state():
    """Random weights of the FID Inception with torch-fidelity's names; batch norms without a scale, as TensorFlow's."""
    network = fid_inception()
    randomise(network)
    generator = torch.Generator().manual_seed(0)
    for part in network.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
            nn.init.normal_(part.bias, 0, 0.1, generator=generator)
    return network.state_dict()


def inception_script(folder, state):
    """Write ``inception-2015-12-05.pt`` with these weights: a TorchScript archive with TensorFlow's names."""
    tensors = {"output.weight": state["fc.weight"], "output.bias": state["fc.bias"]}
    parts = {"weight": "conv.weight", "beta": "bn.bias", "mean": "bn.running_mean", "var": "bn.running_var"}
    for theirs, ours in torchvision_names().items():
        tensors |= {f"{theirs}.{part}": state[f"{ours}.{name}"] for part, name in parts.items()}
    return save_archive(tensors, folder / "inception-2015-12-05.pt")
