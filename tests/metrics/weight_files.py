"""Pictures and weight files in the published forms, with random weights."""

import lpips
import numpy as np
import torch
from PIL import Image
from torch import nn

from uniemo.metrics.weights import randomise


def pictures(n=2, height=40, width=56, seed=0):
    """8-bit pictures with some structure, (n, H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (n, 7, 9, 3), dtype=np.uint8)
    fine = np.random.default_rng(seed + 1).integers(-20, 21, (n, height, width, 3))
    big = np.stack([np.asarray(Image.fromarray(p).resize((width, height), Image.BICUBIC)) for p in coarse])
    return (big + fine).clip(0, 255).astype(np.uint8)


def tensor(pictures):
    return torch.from_numpy(pictures.copy()).permute(0, 3, 1, 2).float() / 255


class Script(nn.Module):
    """The call interface of clean-fid's TorchScript file: ``layers`` takes what is resized and in [-1, 1)."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(16), nn.Flatten(), nn.Linear(1024, 2048)
        )

    def forward(self, x: torch.Tensor, return_features: bool = True) -> torch.Tensor:
        return self.layers((x - 128) / 128)


def trunk_file(folder, name, seed=0):
    """Write a trunk as torchvision lays it out; return the path and lpips' own network with the same weights."""
    reference = lpips.LPIPS(net=name, pnet_rand=True, verbose=False)
    randomise(reference.net, seed)
    state = {f"features.{key.split('.', 1)[1]}": value.clone() for key, value in reference.net.state_dict().items()}
    state["classifier.1.weight"] = torch.zeros(2, 2)  # the published files hold the classifier too
    torch.save(state, folder / f"{name}.pth")
    return folder / f"{name}.pth", reference


def inception_script(folder):
    """Write a stand-in for ``inception-2015-12-05.pt``, which cannot be had without a network."""
    path = folder / "inception-2015-12-05.pt"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        torch.jit.script(Script()).save(path)
    return path
