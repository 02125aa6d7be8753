"""Every shipped configuration is parsed; no overlay names a key that does not exist."""

from pathlib import Path

import pytest
import yaml

from uniemo.cli import main
from uniemo.cli.configs import PACKAGED, find_config, packaged
from uniemo.errors import UniEmoError

RECIPES = ("understanding.yaml", "joint.yaml", "feedback.yaml")
STAGE_2 = {"model/sd15.yaml", "released_joint.yaml"}
OVERLAYS = [name for name in packaged() if name not in RECIPES]


def resolved(capsys, *names):
    words = [word for name in names for word in ("--config", name)]
    assert main(["fit", *words, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_nothing_is_left_out():
    assert set(RECIPES) <= set(packaged())
    assert {"data/emoset.yaml", "released.yaml", *STAGE_2} <= set(packaged())
    assert {f"model/vit_{name}.yaml" for name in ("b32", "b16", "l14")} <= set(packaged())


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe(capsys, recipe):
    config = resolved(capsys, recipe)
    stage = recipe.removesuffix(".yaml").capitalize()
    assert config["model"]["class_path"] == f"uniemo.modules.{stage}Module"
    assert config["data"]["init_args"]["root"] == "miniature:emoset"
    assert config["seed_everything"] == 0


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize("recipe", RECIPES)
def test_overlay(capsys, recipe, overlay):
    if recipe == "understanding.yaml" and overlay in STAGE_2:
        pytest.skip("an overlay of stages 2 and 3")
    config = resolved(capsys, recipe, overlay)
    for section, values in yaml.safe_load((PACKAGED / overlay).read_text()).items():
        assert contains(config[section], values), section


def contains(whole, part):
    """Whether every value of ``part`` stands in ``whole``."""
    if isinstance(part, dict):
        return all(contains(whole[key], value) for key, value in part.items())
    return whole == part


def test_overlays_stack(capsys):
    config = resolved(capsys, "joint.yaml", "data/emoset.yaml", "model/vit_l14.yaml", "model/sd15.yaml")
    model = config["model"]["init_args"]
    assert model["encoder"] == {**model["encoder"], "clip": "ViT-L-14", "query_length": 32}
    assert model["diffusion"]["guidance"] == 7.5
    assert config["data"]["init_args"]["batch_size"] == 128


def test_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("joint.yaml") == PACKAGED / "joint.yaml"
    Path("joint.yaml").write_text("{}")
    assert find_config("joint.yaml") == Path("joint.yaml")
    with pytest.raises(UniEmoError, match=r"did you mean feedback\.yaml"):
        find_config("feadback.yaml")
