"""The drawing baselines' configurations: they run on the miniature, and stack with those of true size."""

import pytest
import yaml

from tests.baselines.drawing_runs import METHODS
from uniemo.cli import main


def resolved(capsys, *names):
    words = [word for name in names for word in ("--config", name)]
    assert main(["fit", *words, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


@pytest.mark.parametrize("method", METHODS)
def test_recipe_and_overlays(capsys, method):
    config = resolved(capsys, f"baselines/{method}.yaml")
    model, data = config["model"], config["data"]["init_args"]
    assert model["class_path"].startswith(f"uniemo.baselines.{method}.")
    assert (data["root"], data["image_size"], data["diffusion_size"]) == ("miniature:emoset", 64, 32)
    assert model["init_args"]["diffusion"]["steps"] == 15
    if method != "prompted":
        assert (config["best_checkpoint"]["monitor"], config["best_checkpoint"]["mode"]) == ("val/loss", "min")
    large = [f"baselines/{method}.yaml", f"paper/baselines_{method}.yaml", "paper/sdxl.yaml", "cached_latents.yaml"]
    if method == "emogen":
        large.append("paper/vit_b32.yaml")
    config = resolved(capsys, *large)
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["diffusion"]["path"] == "stabilityai/stable-diffusion-xl-base-1.0"
    assert (data["image_size"], data["diffusion_size"], data["cached_latents"]) == (224, 1024, True)
    assert config["generation_metrics"]["test_images"] == 1000
    if method == "emogen":
        assert model["encoder"]["clip"] == "ViT-B-32"
    small = resolved(capsys, f"baselines/{method}.yaml", "model/sd15.yaml")["model"]["init_args"]
    assert small["diffusion"]["guidance"] == 7.5
    assert small["diffusion"]["train_prompt"] == model["diffusion"]["train_prompt"] or method == "textual_inversion"
