import io
import pickle
import urllib.error

import pytest
import torch
from torch import nn

from uniemo.errors import UniEmoError
from uniemo.metrics import clip_networks, weights
from uniemo.metrics.registry import load_network
from uniemo.metrics.weights import WeightFile, file_hash, find_weights, load_weights, read_weights, weights_hash

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
    """An empty hub folder."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    return tmp_path / "hub" / "checkpoints"


@pytest.fixture
def online(monkeypatch):
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(("role", "name", "file", "url"), MISSING)
def test_missing_weights_name_file_source_and_place(role, name, file, url, hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(weights.urllib.request, "urlopen", lambda *a, **k: pytest.fail("asked the network"))
    with pytest.raises(UniEmoError) as caught:
        load_network(role, name)
    message = str(caught.value)
    assert file in message
    assert url in message
    assert str(hub) in message
    assert "\n" not in message


@pytest.mark.parametrize("error", [urllib.error.URLError("no route"), TimeoutError("timed out"), ConnectionError()])
def test_failed_download_says_the_same_and_leaves_nothing(error, hub, online, monkeypatch):
    def fail(url, timeout):
        assert timeout <= 30  # never a hang
        raise error

    monkeypatch.setattr(weights.urllib.request, "urlopen", fail)
    with pytest.raises(UniEmoError, match=r"resnet50_places365\.pth\.tar is not in .*download failed.*places2"):
        load_network("places")
    assert [path.name for path in hub.iterdir() if not path.name.endswith(".lock")] == []


def test_clip_without_a_network(online, monkeypatch):
    def fail(*_args):
        raise ConnectionError("no route")

    monkeypatch.setattr(clip_networks, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(clip_networks, "file_exists", fail)
    with pytest.raises(UniEmoError, match=r"open_clip_model\.safetensors of timm/vit_large_patch14_clip_224\.openai"):
        load_network("clip")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(clip_networks, "file_exists", lambda *_: pytest.fail("asked the network"))
    with pytest.raises(UniEmoError, match=r"co/timm/vit_base_patch32_clip_224\.openai into a folder"):
        load_network("clip", "ViT-B-32")
    with pytest.raises(UniEmoError, match="or an open_clip name such as"):
        load_network("clip", "no-such-clip")


def test_download_is_checked_against_the_hash_in_the_name(hub, online, tmp_path, monkeypatch):
    monkeypatch.setattr(weights.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(b"weights"))
    digest = file_hash(_written(tmp_path / "copy", b"weights"))[:8]
    path = find_weights(WeightFile("net", f"net-{digest}.pth", "https://x"))
    assert path.read_bytes() == b"weights"
    assert path.parent == hub
    with pytest.raises(UniEmoError, match="another hash"):
        find_weights(WeightFile("net", "net-00000000.pth", "https://x"))
    assert not (hub / "net-00000000.pth").exists()


def test_alias_is_found(hub, tmp_path):
    hub.mkdir(parents=True)
    alias = _written(hub / "pt_inception-2015-12-05-6726825d.pth", b"not weights")
    with pytest.raises(UniEmoError, match=f"{alias} cannot be read"):
        load_network("fid", "inception-fidelity")


def _written(path, content):
    path.write_bytes(content)
    return path


class _Harm:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code was run')",))


def test_nothing_but_tensors_is_unpickled(tmp_path):
    _written(tmp_path / "harm.pth", pickle.dumps(_Harm()))
    torch.save({"state_dict": {"w": torch.zeros(1)}, "extra": _Harm()}, tmp_path / "harm2.pth")
    for name in ("harm.pth", "harm2.pth"):
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
    with pytest.raises(UniEmoError, match=r"has no weight more"):
        load_weights(target, {**source.state_dict(), "more": torch.zeros(1)}, tmp_path, "net")
