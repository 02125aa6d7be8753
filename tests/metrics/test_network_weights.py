import pickle
import socket
import urllib.error
import zipfile

import pytest
import torch
from huggingface_hub import constants
from torch import nn

from uniemo.errors import UniEmoError
from uniemo.metrics.network_weights import WeightFile, find_weights, load_weights, read_weights, weights_hash
from uniemo.metrics.networks import load_network

MISSING = [
    ("fid", None, "inception-2015-12-05.pt", "https://nvlabs-fi-cdn.nvidia.com"),
    ("fid", "inception-fidelity", "weights-inception-2015-12-05-6726825d.pth", "https://github.com/toshas"),
    ("lpips", None, "alexnet-owt-7be5be79.pth", "https://download.pytorch.org"),
    ("lpips", "vgg", "vgg16-397923af.pth", "https://download.pytorch.org"),
    ("lpips", "squeeze", "squeezenet1_1-b8a52dc0.pth", "https://download.pytorch.org"),
    ("imagenet", None, "resnet50-0676ba61.pth", "https://download.pytorch.org"),
    ("places", None, "resnet50_places365.pth.tar", "http://places2.csail.mit.edu"),
]


@pytest.fixture(autouse=True)
def hub(tmp_path, monkeypatch):
    """An empty folder for weights, and no network."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def online(monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


@pytest.mark.parametrize(("role", "name", "file", "source"), MISSING)
def test_missing_weights_name_file_size_source_and_place(role, name, file, source, hub, monkeypatch):
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("tried to download"))
    with pytest.raises(UniEmoError) as caught:
        load_network(role, name)
    message = str(caught.value)
    assert file in message
    assert source in message
    assert str(hub) in message
    assert " MB)" in message
    assert "\n" not in message


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), TimeoutError("timed out"), ConnectionError()])
def test_failed_download_says_the_same_and_leaves_nothing(error, hub, online, monkeypatch):
    def fail(*_args, **_settings):
        assert socket.getdefaulttimeout() <= 30  # never a hang
        raise error

    monkeypatch.setattr(torch.hub, "urlopen", fail)
    with pytest.raises(UniEmoError, match=r"resnet50_places365\.pth\.tar .* is not in .*download failed.*places2"):
        load_network("places")
    assert [path.name for path in hub.iterdir() if not path.name.endswith(".lock")] == []
    assert socket.getdefaulttimeout() is None


def test_download_is_checked_against_the_hash_in_the_name(hub, online, tmp_path):
    for digest in ("9a129038", "00000000"):  # the first is that of the content
        (tmp_path / f"net-{digest}.pth").write_bytes(b"weights")
    right, wrong = (WeightFile((tmp_path / f"net-{name}.pth").as_uri(), "7 B") for name in ("9a129038", "00000000"))
    path = find_weights(right, "net")
    assert path.read_bytes() == b"weights"
    assert path.parent == hub
    with pytest.raises(UniEmoError, match="invalid hash value"):
        find_weights(wrong, "net")
    assert not (hub / wrong.name).exists()


def test_alias_is_found(hub, tmp_path):
    hub.mkdir(parents=True)
    alias = hub / "pt_inception-2015-12-05-6726825d.pth"
    alias.write_bytes(b"not weights")
    with pytest.raises(UniEmoError, match=f"{alias} cannot be read"):
        load_network("fid", "inception-fidelity")


class _Harm:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_nothing_but_tensors_is_unpickled(tmp_path):
    (tmp_path / "harm.pth").write_bytes(pickle.dumps(_Harm()))
    torch.save({"state_dict": {"w": torch.zeros(1)}, "extra": _Harm()}, tmp_path / "saved.pth")
    for name, content in (("archive.pt", pickle.dumps(_Harm())), ("broken.pt", b"")):  # as TorchScript
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x/constants.pkl", "")
            archive.writestr("x/data.pkl", content)
    for name in ("harm.pth", "saved.pth", "archive.pt", "broken.pt"):
        with pytest.raises(UniEmoError, match="cannot be read"):
            read_weights(tmp_path / name, "net")
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(UniEmoError, match="holds none"):
        read_weights(tmp_path / "list.pth", "net")


def test_prefixes_and_missing_counters(tmp_path):
    source = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    source[1].running_mean.fill_(0.5)
    state = {f"module.{k}": v for k, v in source.state_dict().items() if "num_batches" not in k}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "old.pth.tar")
    target = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))
    load_weights(target, read_weights(tmp_path / "old.pth.tar", "net"), tmp_path, "net")
    assert weights_hash(target) == weights_hash(source)
    with pytest.raises(UniEmoError, match=r"Unexpected key\(s\) in state_dict: \"more\""):
        load_weights(target, {**source.state_dict(), "more": torch.zeros(1)}, tmp_path, "net")


@pytest.mark.parametrize("traced", [False, True])
def test_torchscript_is_read_without_running_it(traced, tmp_path):
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Conv2d(4, 4, 1))).eval()
    made = torch.jit.trace(network, torch.zeros(1, 3, 8, 8)) if traced else torch.jit.script(network)
    made.save(tmp_path / "net.pt")
    found = read_weights(tmp_path / "net.pt", "net")
    for name, value in network.state_dict().items():
        assert torch.equal(found[name], value)
