import pytest
import torch
from weight_files import pictures, tensor, trunk_file

from uniemo.errors import UniEmoError
from uniemo.metrics.networks import ROLES, load_network

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:torchvision")  # lpips uses old argument names
KINDS = ["fid", "lpips", "clip", "miniature", "imagenet"]


@pytest.fixture(scope="module")
def small(clip_folder, tmp_path_factory):
    """One network of each kind, as small as its architecture allows."""
    return {
        "fid": load_network("fid", random=True),
        "lpips": load_network("lpips", f"{trunk_file(tmp_path_factory.mktemp('small'), 'alex')[0]}@64"),
        "clip": load_network("clip", str(clip_folder)),
        "miniature": load_network("miniature", str(clip_folder)),
        "imagenet": load_network("imagenet", random=True),
    }


@pytest.mark.parametrize("kind", KINDS)
def test_one_image_does_not_depend_on_the_rest(small, kind):
    network = small[kind]
    images = tensor(pictures(3))
    for view in network.views:
        whole = network(images, view)
        alone = network(images[1:2], view)
        for name, value in whole.items():
            assert value.dtype == torch.float32
            assert not value.requires_grad
            torch.testing.assert_close(value[1:2], alone[name], rtol=1e-4, atol=1e-5)
    assert len({network.describe(view) for view in network.views}) == len(network.views)


@pytest.mark.parametrize("kind", KINDS)
def test_any_float_type_and_no_autocast(small, kind):
    network = small[kind]
    images = tensor(pictures(2)).half().float()
    expected = network(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):  # a trainer's precision must not change the metrics
        for name, value in network(images).items():
            torch.testing.assert_close(value, expected[name])
    for name, value in network(images.half()).items():
        torch.testing.assert_close(value, expected[name])


def test_images_follow_the_network_to_its_device():
    network = load_network("lpips", "alex@64", random=True).to("meta")  # stands in for an accelerator
    assert network.device.type == "meta"
    assert network(torch.rand(2, 3, 40, 40))["maps"].device.type == "meta"


@pytest.mark.parametrize(
    ("images", "match"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "floats"),
        (torch.zeros(1, 4, 8, 8), "floats"),
        (torch.zeros(3, 8, 8), "floats"),
        (torch.full((1, 3, 8, 8), -1.0), r"\[0, 1\]"),
        (torch.full((1, 3, 8, 8), 255.0), r"\[0, 1\]"),
        (torch.full((1, 3, 8, 8), torch.nan), "nan"),
    ],
)
def test_wrong_images(small, images, match):
    for network in small.values():
        with pytest.raises(UniEmoError, match=match):
            network(images)


def test_frozen_and_eval_whatever_is_asked(small):
    for network in small.values():
        network.train()
        assert not any(module.training for module in network.modules())
        assert not any(parameter.requires_grad for parameter in network.parameters())


def test_random_networks_repeat_and_leave_the_random_state_alone():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    for role, name in (("lpips", "squeeze"), ("places", None), ("miniature", None)):
        first, second = (load_network(role, name, random=True) for _ in range(2))
        assert first.info == second.info
        assert first.info.name.startswith("random-")
        assert first.info.role == role
    assert torch.equal(before, torch.get_rng_state())


def test_hash_is_over_the_weights(tmp_path):
    path, _ = trunk_file(tmp_path, "alex")
    first = load_network("lpips", str(path))
    path.rename(tmp_path / "renamed.pth")
    second = load_network("lpips", f"{tmp_path / 'renamed.pth'}@256")
    assert first.info.hash == second.info.hash
    assert (first.info.name, second.info.name) == ("alex@512", "renamed@256")
    state = torch.load(tmp_path / "renamed.pth")
    state["features.0.bias"][0] += 1e-3
    torch.save(state, tmp_path / "renamed.pth")
    assert load_network("lpips", str(tmp_path / "renamed.pth")).info.hash != first.info.hash
    assert len(first.info.hash) == 12


def test_unknown_names(small, tmp_path):
    with pytest.raises(UniEmoError, match=rf"role must be one of {ROLES[0]}.*'audio'"):
        load_network("audio")
    for role in ("fid", "lpips", "places"):
        with pytest.raises(UniEmoError, match=rf"{role} network must be .*there is no file"):
            load_network(role, str(tmp_path / "none.pth"))
    with pytest.raises(UniEmoError, match="view of tiny-clip must be one of strict, emogen; got 'other'"):
        small["clip"](torch.zeros(1, 3, 8, 8), "other")
