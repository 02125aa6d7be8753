import pytest
import torch
from weight_files import pictures, tensor, trunk_file

from uniemo.errors import UniEmoError
from uniemo.metrics.networks import load_network

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # lpips uses old argument names


@pytest.mark.parametrize("trunk", ["alex", "vgg", "squeeze"])
def test_lpips_is_the_distance_of_the_maps(trunk, tmp_path):
    path, reference = trunk_file(tmp_path, trunk)
    network = load_network("lpips", f"{path}@64")
    first, second = (tensor(pictures(3, 64, 64, seed)) for seed in (0, 5))
    for view, normalize in (("strict", True), ("emogen", False)):
        a, b = (network(images, view)["maps"] for images in (first, second))
        with torch.no_grad():
            expected = reference(first, second, normalize=normalize).flatten()
        torch.testing.assert_close((a - b).square().sum(dim=1), expected, rtol=1e-5, atol=1e-7)
    assert (expected > 0.01).all()
    assert network.info.name == f"{trunk}@64"


def test_refuses(tmp_path):
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pth")
    for name, random, said in (
        ("alex@8", False, "at least 32; got 8"),
        ("resnet", True, "alex, vgg, squeeze"),
        (str(tmp_path / "other.pth"), False, "AlexNet, VGG-16 or SqueezeNet"),
    ):
        with pytest.raises(UniEmoError, match=said):
            load_network("lpips", name, random=random)
