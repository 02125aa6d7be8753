"""The two ResNet-50s of Sem-C: ImageNet objects and Places365 scenes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import get_weight, resnet50
from torchvision.transforms import functional as TF

from uniemo.errors import UniEmoError
from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.weights import (
    WeightFile,
    existing_file,
    find_weights,
    load_weights,
    randomise,
    read_weights,
    weights_hash,
)

RESIZE, CROP = 256, 224  # EmoGen's script; both networks' own
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, also in Places365's run_placesCNN_basic.py
CLASSES = {"imagenet": 1000, "places": 365}
_IMAGENET = get_weight("ResNet50_Weights.IMAGENET1K_V1").url  # what EmoGen's resnet50(pretrained=True) loads
_PLACES = "http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar"
FILES = {
    "imagenet": {"resnet50": WeightFile("imagenet network 'resnet50'", _IMAGENET.rsplit("/", 1)[1], _IMAGENET)},
    "places": {
        "resnet50-places365": WeightFile("places network 'resnet50-places365'", "resnet50_places365.pth.tar", _PLACES)
    },
}


class ResNetClassifier(FeatureNetwork):
    """Softmax of a ResNet-50. Both protocols prepare images alike: shorter edge 256, centre 224.

    Args:
        role: ``imagenet`` or ``places``.
        path: weights; None for seeded random ones.
        name: how results call it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, role: str, path: Path | None, name: str) -> None:
        super().__init__()
        self.network = resnet50(weights=None, num_classes=CLASSES[role])
        if path is None:
            randomise(self.network)
            for part in self.network.modules():  # without trained batch norms, sums of branches would grow 2¹⁶-fold
                if hasattr(part, "bn3"):
                    nn.init.constant_(part.bn3.weight, 0.25)
        else:
            load_weights(self.network, read_weights(path, f"{role} network"), path, f"{role} network")
        self.network.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        source = "random weights, seed 0" if path is None else str(path)
        self.info = NetworkInfo(role, name, source, weights_hash(self.network))

    def describe(self, view: str = "strict") -> str:
        """Say how images are prepared."""
        return f"bilinear {RESIZE} (shorter edge), centre {CROP}, ImageNet's mean and standard deviation"

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Resize antialiased on floats (the script rounds to 8 bits in between), cut out the centre, normalise."""
        resized = TF.resize(images, [RESIZE], interpolation=TF.InterpolationMode.BILINEAR, antialias=True)
        return (TF.center_crop(resized, [CROP, CROP]) - self.mean.float()) / self.std.float()

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``probabilities``, (B, K)."""
        return {"probabilities": self.network(inputs).float().softmax(dim=-1)}


def load_resnet(role: str, name: str, random: bool = False) -> ResNetClassifier:
    """Load a ResNet-50.

    Args:
        role: ``imagenet`` (1,000 classes) or ``places`` (365).
        name: ``resnet50`` or ``resnet50-places365``, or a path to a state dict or to a checkpoint with one inside.
        random: seeded random weights.

    Raises:
        UniEmoError: unknown name, weights that cannot be had or read, or those of another network.
    """
    if random:
        if name not in FILES[role]:
            raise UniEmoError(f"{role} network must be {', '.join(FILES[role])} with random weights; got {name!r}")
        return ResNetClassifier(role, None, f"random-{name}")
    if name in FILES[role]:
        return ResNetClassifier(role, find_weights(FILES[role][name]), name)
    path = existing_file(name, f"{role} network")
    return ResNetClassifier(role, path, path.name.split(".")[0])
