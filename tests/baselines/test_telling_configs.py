"""Configurations of the baselines that tell emotions, and that each is found by its name."""

import pytest
import yaml

from tests.baselines.telling_runs import METHODS
from uniemo import UniEmoError
from uniemo.baselines import find_method
from uniemo.cli import main
from uniemo.cli.configs import PACKAGED

ALL = (*METHODS, "vision_language")


def resolved(capsys, *names):
    words = [word for name in names for word in ("--config", name)]
    assert main(["fit", *words, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("method", ALL)
def test_recipe_and_overlays(capsys, method):
    recipe, overlay = f"baselines/{method}.yaml", f"paper/baselines_{method}.yaml"
    config = resolved(capsys, recipe)
    assert config["data"]["init_args"]["root"] == "miniature:emoset"
    size = 336 if method == "vision_language" else 64
    assert (config["data"]["init_args"]["image_size"], config["seed_everything"]) == (size, 0)
    assert find_method(method).__name__ == config["model"]["class_path"].rpartition(".")[2]
    large = [recipe, overlay] if method == "vision_language" else [recipe, overlay, "paper/vit_l14.yaml"]
    config = resolved(capsys, *large, "data/fi.yaml")
    assert config["data"]["class_path"] == "uniemo.data.FI"
    if method != "vision_language":
        assert config["model"]["init_args"]["encoder"]["clip"] == "ViT-L-14"
        assert config["data"]["init_args"]["image_size"] == 224
    if method in ("coop", "cocoop"):  # what their codes have
        optimizer = config["model"]["init_args"]["optimizer"]
        assert (optimizer["algorithm"], optimizer["lr"], optimizer["weight_decay"]) == ("sgd", 2e-3, 5e-4)
        assert config["model"]["init_args"]["context_length"] == {"coop": 16, "cocoop": 4}[method]


def test_every_recipe_is_one_file_of_its_name():
    """Adding a baseline is one file and one configuration: each is found by the name that both have."""
    for file in (PACKAGED / "baselines").glob("*.yaml"):
        kind = find_method(file.stem)
        path = yaml.safe_load(file.read_text())["model"]["class_path"]
        assert (path, kind.method) == (f"{kind.__module__}.{kind.__name__}", file.stem)
        assert "uniemo fit --config baselines/" in file.read_text()


@pytest.mark.parametrize("name", ["base", "towers", "nothing", "..coop", ""])
def test_what_is_no_method(name):
    with pytest.raises(UniEmoError, match="a baseline that this version of uniemo has"):
        find_method(name)
