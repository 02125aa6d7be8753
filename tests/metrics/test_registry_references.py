import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn
from torchvision import transforms
from torchvision.models import resnet50
from weight_files import inception_script, pictures, tensor, trunk_file

from uniemo.errors import UniEmoError
from uniemo.metrics.registry import load_network
from uniemo.metrics.resizing import clean_resize, eight_bit_resize
from uniemo.metrics.weights import randomise

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # lpips uses old argument names
PUBLISHED_HEAD = Path(__file__).parents[3] / "shared" / "data" / "emogen_emo_a_classifier.safetensors"


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    return inception_script(tmp_path_factory.mktemp("script"))


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


def test_missing_rescale_changes_lpips():
    network = load_network("lpips", "alex@64", random=True)
    first, second = (tensor(pictures(4, 64, 64, seed)) for seed in (0, 5))
    strict, habit = (
        (network(first, view)["maps"] - network(second, view)["maps"]).square().sum(dim=1).mean()
        for view in network.views
    )
    assert abs(habit / strict - 1) > 0.02


@pytest.mark.parametrize("size", [(64, 64), (299, 299), (700, 300), (333, 500), (512, 512)])
def test_clean_resize_is_clean_fids(size):
    from cleanfid.resize import build_resizer

    picture = pictures(1, *size)
    expected = build_resizer("clean")(picture[0])
    got = clean_resize(tensor(picture), 299)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(got - expected).max() < 0.01  # of 255 levels; clean-fid computes its filter in double precision


@pytest.mark.parametrize("size", [(64, 64), (300, 500), (512, 512)])  # no tall ones: Pillow's order of passes varies
def test_eight_bit_resize_is_pillows(size):
    picture = pictures(1, *size)
    expected = np.asarray(Image.fromarray(picture[0]).resize((299, 299), Image.BILINEAR)).astype(int)
    got = eight_bit_resize(tensor(picture), 299)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(got - expected).max() < 1.001
    assert (np.abs(got - expected) > 0.5).mean() < 0.005
    tall = pictures(1, 500, 300)
    expected = np.asarray(Image.fromarray(tall[0]).resize((299, 299), Image.BILINEAR)).astype(int)
    assert np.abs(eight_bit_resize(tensor(tall), 299)[0].permute(1, 2, 0).numpy() * 255 - expected).max() < 2.001


def test_inception_script_gives_clean_fids_features(script):
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    shown = pictures(2, 120, 90)
    theirs = InceptionV3W(str(script.parent), download=False)
    resized = torch.from_numpy(np.stack([build_resizer("clean")(p) for p in shown])).permute(0, 3, 1, 2)
    network = load_network("fid", str(script))
    with torch.no_grad():
        torch.testing.assert_close(network(tensor(shown))["features"], theirs(resized), rtol=1e-4, atol=1e-5)
    assert network.info.name == "inception-2015-12-05"


def test_fidelity_inception_is_torchmetrics_own(tmp_path):
    pytest.importorskip("torch_fidelity")
    from torchmetrics.image.fid import NoTrainInceptionV3

    from uniemo.metrics.inception import fid_inception

    source = fid_inception()
    randomise(source)
    generator = torch.Generator().manual_seed(0)
    for part in source.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=generator)
            part.running_var.uniform_(0.5, 1.5, generator=generator)
    path = tmp_path / "weights-inception.pth"
    torch.save(source.state_dict(), path)
    theirs = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(path))
    shown = pictures(2, 130, 150)
    small = np.stack([np.asarray(Image.fromarray(p).resize((299, 299), Image.BILINEAR)) for p in shown])
    network = load_network("fid", str(path))
    with torch.no_grad():
        expected = theirs((tensor(small) * 255).byte())  # what FrechetInceptionDistance(normalize=True) does
        got = network(tensor(small), "emogen")["features"]
        resized = network(tensor(shown), "emogen")["features"]
        alone = network(tensor(small[1:]), "emogen")["features"]
    assert got.shape == (2, 2048)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[1:], alone, rtol=1e-4, atol=1e-5)
    assert (resized - expected).norm() < 5e-3 * expected.norm()  # single pixels differ by one level


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
    assert prepared.shape == inputs.shape
    assert (prepared - inputs).abs().max() < 1.01 / 255 / 0.224  # Pillow rounds to 8 bits twice
    torch.testing.assert_close(network.read(inputs)["probabilities"], expected)
    got = network(tensor(shown))["probabilities"]
    assert got.shape == (2, 365)
    torch.testing.assert_close(got.sum(dim=1), torch.ones(2))
    torch.testing.assert_close(got, expected, rtol=0.1, atol=1e-3)
    assert network.info.name == "resnet50_places365"
    assert network.views == ("strict",)
    assert network.view_for("emogen") == "strict"


def test_weights_of_another_network_are_refused(places_file, tmp_path, script):
    path, _ = places_file
    with pytest.raises(UniEmoError, match=r"fc\.weight of shape \(1000, 2048\).*\(365, 2048\)"):
        load_network("imagenet", str(path))
    with pytest.raises(UniEmoError, match=r"must have a weight .*belongs to another network"):
        load_network("fid", str(path))
    with pytest.raises(UniEmoError, match=r"AlexNet, VGG-16 or SqueezeNet"):
        load_network("lpips", str(path))
    with pytest.raises(UniEmoError, match="cannot be read"):
        load_network("places", str(script))
    (tmp_path / "cut.pth").write_bytes(b"nothing of use")
    with pytest.raises(UniEmoError, match=r"cut\.pth cannot be read"):
        load_network("places", str(tmp_path / "cut.pth"))
    torch.jit.script(nn.ReLU()).save(tmp_path / "relu.pt")
    with pytest.raises(UniEmoError, match="part named layers"):
        load_network("fid", str(tmp_path / "relu.pt"))
    with zipfile.ZipFile(tmp_path / "broken.pt", "w") as archive:
        archive.writestr("broken/constants.pkl", "")
    with pytest.raises(UniEmoError, match=r"clean-fid's inception-2015-12-05\.pt"):
        load_network("fid", str(tmp_path / "broken.pt"))


def test_published_emotion_head(tmp_path):
    if not PUBLISHED_HEAD.is_file():
        pytest.skip("the published head is not here")
    state = load_file(PUBLISHED_HEAD)
    torch.save(state, tmp_path / "head.pth")
    features = torch.randn(5, 768, generator=torch.Generator().manual_seed(0))
    expected = features.double() @ state["fc.weight"].double().T + state["fc.bias"].double()
    heads = [load_network("emotion", str(path)) for path in (PUBLISHED_HEAD, tmp_path / "head.pth")]
    for head in heads:
        torch.testing.assert_close(head(features)["logits"], expected.float(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(head(features)["probabilities"], expected.softmax(dim=1).float())
    assert heads[0].info.hash == heads[1].info.hash
    assert heads[0].reads == "clip"
