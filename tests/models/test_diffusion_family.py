"""A diffusion family outside the package, named by its class path."""

import sys

import pytest
import torch
from convert.joint_files import write

from tests.refusals import refused
from uniemo.checkpoint import load_model
from uniemo.cli import main
from uniemo.errors import UniEmoError
from uniemo.models.diffusion import DiffusionConfig, load_diffusion

FAMILY = """
from uniemo.models.diffusion.prompts import EncodedPrompts
from uniemo.models.diffusion.stable_diffusion import StableDiffusion


class Halved(StableDiffusion):
    def embed(self, prompts, condition=None):
        return EncodedPrompts(super().embed(prompts, condition).states / 2)


number = 5
"""


@pytest.fixture
def family(tmp_path, monkeypatch):
    (tmp_path / "my_family.py").write_text(FAMILY)
    monkeypatch.syspath_prepend(tmp_path)
    yield "my_family.Halved"
    sys.modules.pop("my_family", None)


def test_a_family_of_ones_own(family, diffusion_folder, backbone):
    own = load_diffusion(DiffusionConfig(path=diffusion_folder, family=family, steps=3))
    assert type(own).__name__ == "Halved"
    assert torch.allclose(own.embed(["a room"]).states, backbone.embed(["a room"]).states / 2)
    images = own.generate((torch.ones(1, 32),), ["{}"], [0])
    assert images.shape == (1, 3, 32, 32)
    assert not torch.allclose(images, backbone.generate((torch.ones(1, 32),), ["{}"], [0]))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("my_family.number", "must be the class path of a DiffusionBackbone"),
        ("my_family.Other", "no attribute"),
        ("none.X", "No module"),
    ],
)
def test_what_is_no_family(family, diffusion_folder, name, message):
    with pytest.raises(UniEmoError, match=message):
        load_diffusion(DiffusionConfig(path=diffusion_folder, family=name))


def test_a_checkpoints_family_is_imported_on_trust_alone(family, diffusion_folder, tmp_path, capsys):
    path = write(tmp_path / "best.ckpt", path=diffusion_folder, family=family)
    arguments = ["generate", "--ckpt", str(path), "--emotion", "awe", "--num", "1", "--out", str(tmp_path / "out")]
    assert "add --trust" in refused(capsys, *arguments, "--device", "cpu")
    assert main([*arguments, "--device", "cpu", "--trust"]) == 0
    assert type(load_model(path, generation=True, trust=True)[0].diffusion).__name__ == "Halved"
