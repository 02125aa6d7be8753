"""Every shipped configuration is parsed; no overlay names a key that does not exist."""

from pathlib import Path

import pytest
import yaml

from uniemo.cli import main
from uniemo.cli.arguments import find_config
from uniemo.configurations import CONFIGURATIONS as PACKAGED
from uniemo.configurations import packaged_recipes as packaged
from uniemo.errors import UniEmoError
from uniemo.studies import costs

RECIPES = ("understanding.yaml", "joint.yaml", "feedback.yaml")
PAPER = tuple(f"paper/{name}" for name in RECIPES)
FAMILIES = ("sd15", "sd21", "sdxl", "sdxl_turbo", "sdxl_lightning", "sd35", "sana")
PAPER_2 = {f"paper/{name}.yaml" for name in (*FAMILIES, "released_joint")}
STAGE_2 = {"model/sd15.yaml", "released_joint.yaml", "cached_latents.yaml", *PAPER_2}
BASELINES = [name for name in packaged() if name.startswith(("baselines/", "paper/baselines_"))]  # tests/baselines
LITERAL = tuple(f"paper/literal/{name}" for name in RECIPES)
OVERLAYS = [name for name in packaged() if name not in (*RECIPES, *PAPER, *LITERAL, *BASELINES)]
PAPER_OVERLAYS = [name for name in OVERLAYS if name.startswith("paper/")]
STACKED = [
    (recipe, overlay)
    for overlay in OVERLAYS
    for recipe in (PAPER if overlay in PAPER_OVERLAYS else RECIPES)
    if overlay not in STAGE_2 or not recipe.endswith("understanding.yaml")
]
STACKED += [(recipe, literal) for recipes in (PAPER, RECIPES) for recipe, literal in zip(recipes, LITERAL, strict=True)]


def resolved(capsys, *names):
    words = [word for name in names for word in ("--config", name)]
    assert main(["fit", *words, "--print_config"]) == 0
    return yaml.safe_load(capsys.readouterr().out)


def test_nothing_is_left_out():
    assert set(RECIPES) <= set(packaged())
    assert {"data/emoset.yaml", "released.yaml", *STAGE_2} <= set(packaged())
    towers = {f"{folder}/vit_{name}.yaml" for folder in ("model", "paper") for name in ("b32", "b16", "l14")}
    assert towers | {*PAPER, *LITERAL, "paper/released.yaml"} <= set(packaged())


@pytest.mark.parametrize("recipe", RECIPES)
def test_recipe(tmp_path, capsys, recipe):
    config = resolved(capsys, recipe)
    stage = recipe.removesuffix(".yaml").capitalize()
    assert config["model"]["class_path"] == f"uniemo.modules.{stage}Module"
    assert config["data"]["init_args"]["root"] == "miniature:emoset"
    assert config["seed_everything"] == 0
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config))
    assert resolved(capsys, str(path)) == config  # a written configuration reads back


@pytest.mark.parametrize(("recipe", "overlay"), STACKED)
def test_overlay(capsys, recipe, overlay):
    config = resolved(capsys, recipe, overlay)
    for section, values in yaml.safe_load((PACKAGED / overlay).read_text()).items():
        assert contains(config[section], values), section


@pytest.mark.parametrize("recipe", PAPER)
def test_paper_recipe(capsys, recipe):
    """The paper's numbers: section IV-A and eq. 4, 9 and 10; rates by group, with warm-up, so that CLIP stays alive."""
    config = resolved(capsys, recipe)
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    stage = recipe.removeprefix("paper/").removesuffix(".yaml").capitalize()
    assert config["model"]["class_path"] == f"uniemo.modules.{stage}Module"
    assert (model["encoder"]["clip"], model["encoder"]["interactive"]) == ("ViT-L-14", "paper")
    loss = model["loss"]
    assert [loss[f"lambda_{name}"] for name in ("scene", "object", "emotion")] == [0.25, 0.25, 0.5]
    assert [loss[f"gamma_{name}"] for name in ("understanding", "condition", "diffusion")] == [0.3, 0.3, 0.4]
    assert loss["tau"] == 0.07
    assert (loss["duplicates"], model["optimizer"]["warmup"]) == ("positive", 0.05)
    rates = [model["optimizer"][f"lr_{group}"] for group in ("clip", "query", "head", "fusion")]
    assert rates == [8e-6 if stage == "Understanding" else 0, 5e-4, 1e-4, 1e-3]
    assert config["note"] is None
    if stage == "Understanding":
        assert data["batch_size"] == 128
    if stage == "Feedback":
        feedback = config["explicit_feedback"]
        assert (feedback["low"], feedback["high"], data["proportion"]) == (0.2, 0.8, 0.2)


@pytest.mark.parametrize(("recipe", "literal"), list(zip(PAPER, LITERAL, strict=True)))
def test_literal_paper_recipe(capsys, recipe, literal):
    """One rate for the whole model, and what else the paper says to the letter; a note says what becomes of it."""
    config = resolved(capsys, recipe, literal)
    model, optimizer = config["model"]["init_args"], config["model"]["init_args"]["optimizer"]
    stage_1 = recipe.endswith("understanding.yaml")
    groups = ("clip", "query", "head") if stage_1 else ("clip", "query", "head", "fusion")
    assert {optimizer[f"lr_{group}"] for group in groups} == {1e-4 if stage_1 else 0.01}
    assert {optimizer[f"weight_decay_{group}"] for group in groups} == {1e-3}
    assert (optimizer["warmup"], model["loss"]["duplicates"]) == (0, "negative")
    if not stage_1:
        assert (model["fusion"]["normalize"], model["space"]["kind"]) == (False, "gaussian")
    if recipe.endswith("feedback.yaml"):
        assert config["explicit_feedback"]["scope"] == "global"
    assert "miniature" in config["note"]
    assert "\n" not in config["note"]


@pytest.mark.parametrize("tower", ["b32", "b16", "l14"])
@pytest.mark.parametrize("diffusion", ["sd15", "sdxl"])
def test_paper_overlays_stack(capsys, tower, diffusion):
    overlays = [f"paper/{name}.yaml" for name in (f"vit_{tower}", diffusion, "released", "released_joint")]
    config = resolved(capsys, "paper/feedback.yaml", *overlays)
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert model["encoder"]["clip"] == {"b32": "ViT-B-32", "b16": "ViT-B-16", "l14": "ViT-L-14"}[tower]
    assert data["diffusion_size"] == {"sd15": 512, "sdxl": 1024}[diffusion]
    assert (data["image_size"], data["batch_size"]) == (224, 1)
    rates = {group: model["optimizer"][f"lr_{group}"] for group in ("clip", "query", "head", "fusion")}
    assert rates == {"clip": 0.0, "query": 5e-4, "head": 0.0, "fusion": 1e-3}


def test_paper_files_say_how_they_are_used():
    for name in (*PAPER, *LITERAL, *PAPER_OVERLAYS):
        head = [line for line in (PACKAGED / name).read_text().splitlines() if line.startswith("#")]
        assert len(head) >= 3, name
        assert any("uniemo fit" in line for line in head), name


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


def test_null_on_the_command_line(capsys):
    """Also below a section, where the parser alone takes it for text, and over what was set before."""
    words = ["--model.fusion.hidden", "3", "--model.fusion.hidden=null", "--model.init_args.head.hidden", "null"]
    words += ["--model.attributes.table", "a.json", "--model.attributes.table", "null", "--model.init_from", "null"]
    words += ["--data.fold", "2", "--data.fold", "null", "--model.encoder.stages", "null"]
    assert main(["fit", "--config", "joint.yaml", *words, "--print_config"]) == 0
    config = yaml.safe_load(capsys.readouterr().out)
    model = config["model"]["init_args"]
    values = [model["fusion"]["hidden"], model["head"]["hidden"], model["attributes"]["table"], model["init_from"]]
    assert [*values, config["data"]["init_args"]["fold"], model["encoder"]["stages"]] == [None] * 6
    assert (model["fusion"]["normalize"], model["head"]["dropout"]) == (True, 0.2)  # the rest of the section stays


def test_working_directory_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("joint.yaml") == PACKAGED / "joint.yaml"
    Path("joint.yaml").write_text("{}")
    assert find_config("joint.yaml") == Path("joint.yaml")
    with pytest.raises(UniEmoError, match=r"did you mean feedback\.yaml"):
        find_config("feadback.yaml")


@pytest.mark.parametrize("recipe", ["joint", "feedback", "baselines_emogen", "baselines_dreambooth"])
@pytest.mark.parametrize("model", ["sd15", "sdxl"])
def test_metrics_while_training_cost_less_than_a_tenth_of_an_epoch(recipe, model):
    """In arithmetic, in the epoch that also trains Emo-A's classifier (docs/metrics.md); later ones cost a third."""
    config = yaml.safe_load((PACKAGED / f"paper/{recipe}.yaml").read_text())
    metrics = config["generation_metrics"]
    assert metrics["networks"] == "published"
    train, val, clip = costs.TRAINED["emoset"], 5_905, costs.CLIP["vit_l14"]
    unet, decoder, inception = costs.UNET[model], {"sd15": 2.5, "sdxl": 10.0}[model], 0.0114
    images = metrics["val_images"] * costs.EMOTIONS
    measured = images * (costs.STEPS * costs.GUIDED * unet + decoder + costs.MEASURED) + val * inception
    trained = train * ((3 if model == "sdxl" else 2) * unet + costs.VAE[model])  # CLIP's passes come on top
    assert measured / trained < 0.03
    assert (measured + (train + val) * clip) / trained < 0.1
