"""The recipe runs from end to end, resumes, and writes folders that the package opens."""

import json
import sys

import pytest
import torch
from safetensors.torch import load_file

from uniemo.miniature import recipe
from uniemo.miniature.quality import write_report
from uniemo.miniature.training_steps import Progress
from uniemo.models.clip import load_clip
from uniemo.models.diffusion import DiffusionConfig, load_diffusion


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    folder = tmp_path_factory.mktemp("recipe")
    args = ["recipe", "--out", folder / "weights", "--work", folder / "work", "--paintings", 120, "--threads", 1]
    args += ["--clip-steps", 1, "--vae-steps", 2, "--unet-steps", 2, "--stages", "clip", "vae", "unet"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(arg) for arg in args])
        recipe.main()
    return folder


def test_rebuilt_folders_open(rebuilt):
    clip = load_clip(str(rebuilt / "weights" / "clip"))
    assert clip.text(["beach", "skull"]).shape == (2, clip.embed_dim)
    diffusion = load_diffusion(DiffusionConfig(path=str(rebuilt / "weights" / "diffusion")))
    assert diffusion.latent_shape == (8, 8, 8)
    assert diffusion.generate(None, ["a skull in a beach"], [0], steps=2).shape == (1, 3, 32, 32)


def test_text_tower_of_both_models_is_the_same(rebuilt):
    open_clip_text = load_clip(str(rebuilt / "weights" / "clip")).text(["a skull in a beach"])
    diffusion = load_diffusion(DiffusionConfig(path=str(rebuilt / "weights" / "diffusion")))
    states = diffusion.embed(["a skull in a beach"]).states  # (1, 16, 128)
    end = states[0, 6]  # start token and five words come before the end token
    weights = load_file(rebuilt / "weights" / "clip" / "open_clip_model.safetensors")
    torch.testing.assert_close(end @ weights["text_projection"].float(), open_clip_text[0], rtol=1e-3, atol=1e-3)


def test_report_writes_metrics_and_grids(rebuilt, capsys):
    write_report(rebuilt / "weights", rebuilt / "grids", seed=0, count=32, rounds=1, steps=1)
    metrics = json.loads((rebuilt / "weights" / "quality.json").read_text())
    assert {"clip_object", "vae_psnr", "generated_scene"} <= set(metrics)
    assert "wanted" in capsys.readouterr().out
    assert {path.name for path in (rebuilt / "grids").iterdir()} == {
        "generated.png", "paintings.png", "reconstructions.png",
    }  # fmt: skip


def test_progress_resumes_where_it_stopped(tmp_path):
    layer = torch.nn.Linear(1, 1)
    assert list(Progress("first", tmp_path / "state.pt", 3, {"layer": layer})) == [0, 1, 2]
    other = torch.nn.Linear(1, 1)
    assert list(Progress("second", tmp_path / "state.pt", 5, {"layer": other})) == [3, 4]
    assert torch.equal(other.weight, layer.weight)
