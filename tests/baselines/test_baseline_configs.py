"""The baselines' configurations: they run on the miniature, stack with those of true size, and name their class."""

import dataclasses

import pytest
import yaml

from tests.baselines.baseline_runs import CLASSIFIERS, GENERATORS, best
from tests.tiny_runs import assets
from uniemo import UniEmoError
from uniemo.baselines.restore import find_baseline
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.configurations import CONFIGURATIONS as PACKAGED


def resolved(capsys, *names):
    args = [word for name in names for word in ("--config", name)]
    assert main(["fit", *args, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


ASKING = ("vision_language", "vision_language_lora")


@pytest.mark.parametrize("method", [*CLASSIFIERS, *ASKING])
def test_classifiers(capsys, method):
    recipe, overlay = f"baselines/{method}.yaml", f"paper/baselines_{method}.yaml"
    config = resolved(capsys, recipe)
    assert config["data"]["init_args"]["root"] == "miniature:emoset"
    size = 336 if method in ASKING else 64
    assert (config["data"]["init_args"]["image_size"], config["seed_everything"]) == (size, 0)
    large = [recipe, overlay] if method in ASKING else [recipe, overlay, "paper/vit_l14.yaml"]
    config = resolved(capsys, *large, "data/fi.yaml")
    assert config["data"]["class_path"] == "uniemo.data.FI"
    if method not in ASKING:
        assert config["model"]["init_args"]["encoder"]["clip"] == "ViT-L-14"
        assert config["data"]["init_args"]["image_size"] == 224
    if method in ("coop", "cocoop"):  # what their codes have
        optimizer = config["model"]["init_args"]["optimizer"]
        assert (optimizer["algorithm"], optimizer["lr"], optimizer["weight_decay"]) == ("sgd", 2e-3, 5e-4)
        assert config["model"]["init_args"]["context_length"] == {"coop": 16, "cocoop": 4}[method]


@pytest.mark.parametrize("method", ASKING)
@pytest.mark.parametrize(
    ("name", "path", "size"),
    [
        ("qwen2_5", "Qwen/Qwen2.5-VL-7B-Instruct", 448),
        ("qwen3", "Qwen/Qwen3-VL-8B-Instruct", 448),
        ("emotion_qwen", "/path/to/EmotionQwen", 448),
    ],
)
def test_language_models(capsys, method, name, path, size):
    overlays = [f"paper/baselines_{method}.yaml", f"paper/baselines_vision_language_{name}.yaml"]
    config = resolved(capsys, f"baselines/{method}.yaml", *overlays)
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert (model["path"], model["dtype"], data["image_size"]) == (path, "bfloat16", size)


@pytest.mark.parametrize("method", GENERATORS)
def test_generators(capsys, method):
    config = resolved(capsys, f"baselines/{method}.yaml")
    model, data = config["model"], config["data"]["init_args"]
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


def info(config="", method="coop"):
    _, found = read_checkpoint(best("zero_shot"))
    return dataclasses.replace(found, config=config, method=method)


def test_every_recipe_is_one_file_of_its_name():
    for file in (PACKAGED / "baselines").glob("*.yaml"):
        kind = find_baseline(info(file.read_text()))
        assert (kind.method, kind.__module__) == (file.stem, f"uniemo.baselines.{file.stem}")
        assert find_baseline(info(method=file.stem)) is kind  # of a checkpoint written from Python
        assert "uniemo fit --config baselines/" in file.read_text()


@pytest.mark.parametrize("name", ["base", "towers", "nothing", "..coop", ""])
def test_unknown_baselines(name):
    with pytest.raises(UniEmoError, match="a baseline that can be imported"):
        find_baseline(info(method=name))
    with pytest.raises(UniEmoError, match=r"classes of uniemo alone.*--trust"):
        find_baseline(info(config=f"model: {{class_path: {name or 'os'}.getcwd}}"))
    with pytest.raises(UniEmoError, match="class path of a EmotionModule"):
        find_baseline(info(config=f"model: {{class_path: {name or 'os'}.getcwd}}"), trust=True)


OWN = """
import torch
from uniemo.baselines.base import ClassifierBaseline
from uniemo.modules import RateConfig

class Network(torch.nn.Module):
    def __init__(self, classes):
        super().__init__()
        self.head = torch.nn.Linear(3, classes)

    def forward(self, images):
        return self.head(images.mean(dim=(2, 3)))

class MeanColour(ClassifierBaseline):
    method = "mean_colour"

    def __init__(self, optimizer: RateConfig = RateConfig(), seed: int = 0) -> None:
        super().__init__({}, optimizer, seed)

    def make_model(self, vocabulary):
        return Network(len(vocabulary.emotions))
"""


def test_a_baseline_outside_the_package(tmp_path, monkeypatch):
    (tmp_path / "mean_colour_file.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = {"root": str(assets() / "tree"), "image_size": 32, "diffusion_size": None, "batch_size": 16}
    config = {
        "model": {"class_path": "mean_colour_file.MeanColour"},
        "data": {"class_path": "uniemo.data.EmoSet", "init_args": data},
        "trainer": {"max_epochs": 1, "enable_progress_bar": False},
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", "own.yaml", "--run_dir", "run"]) == 0
    assert read_checkpoint("run/best.ckpt")[1].method == "mean_colour"
    assert main(["test", "--ckpt", "run/best.ckpt"]) == 2
    assert main(["test", "--ckpt", "run/best.ckpt", "--trust"]) == 0
    photos = f"{data['root']}/image"
    assert main(["classify", "--trust", "--ckpt", "run/best.ckpt", photos, "--output", "out.jsonl"]) == 0
