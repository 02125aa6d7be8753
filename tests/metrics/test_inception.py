import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from weight_files import inception_script, inception_state, pictures, tensor

from uniemo.errors import UniEmoError
from uniemo.metrics.networks import load_network


@pytest.fixture(scope="module")
def state():
    return inception_state()


@pytest.fixture(scope="module")
def fidelity_file(state, tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights-inception.pth"
    torch.save(state, path)
    return path


def test_fidelity_inception_is_torchmetrics_own(fidelity_file):
    pytest.importorskip("torch_fidelity")
    from torchmetrics.image.fid import NoTrainInceptionV3

    theirs = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(fidelity_file))
    shown = pictures(2, 130, 150)
    small = np.stack([np.asarray(Image.fromarray(p).resize((299, 299), Image.BILINEAR)) for p in shown])
    network = load_network("fid", str(fidelity_file))
    with torch.no_grad():
        expected = theirs((tensor(small) * 255).byte())  # what FrechetInceptionDistance(normalize=True) does
    got, resized = network(tensor(small), "emogen")["features"], network(tensor(shown), "emogen")["features"]
    assert got.shape == (2, 2048)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)
    assert (resized - expected).norm() < 5e-3 * expected.norm()  # single pixels differ by one level


def test_clean_fids_archive_is_read_and_not_run(state, fidelity_file, tmp_path):
    network = load_network("fid", str(inception_script(tmp_path, state)))
    reference = load_network("fid", str(fidelity_file))
    assert network.info.name == "inception-2015-12-05"
    assert network.info.hash == reference.info.hash
    images = tensor(pictures(1, 120, 90))
    assert torch.equal(network(images)["features"], reference(images)["features"])


def test_other_archives_are_refused(tmp_path):
    torch.jit.script(nn.Sequential(nn.Linear(2, 2))).save(tmp_path / "linear.pt")
    with pytest.raises(UniEmoError, match="one architecture"):
        load_network("fid", str(tmp_path / "linear.pt"))
    torch.jit.script(nn.ModuleDict({"layers": nn.Linear(2, 2)})).save(tmp_path / "layers.pt")
    with pytest.raises(UniEmoError, match=r"inception-2015-12-05\.pt; .* has no 'layers\.conv"):
        load_network("fid", str(tmp_path / "layers.pt"))
