"""The baselines that generate images, from fit to images, by the commands."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.baselines.baseline_runs import GENERATORS, best, recipe, trained
from tests.refusals import refused
from uniemo.cli import main

KINDS = [*((method, "sd") for method in GENERATORS), ("textual_inversion", "xl")]


@pytest.mark.parametrize(("method", "kind"), KINDS)
def test_checkpoint_holds_what_was_trained_alone(method, kind):
    content = torch.load(best(method, kind), weights_only=True)
    about = content["uniemo"]
    assert (about["stage"], about["method"]) == ("baseline", method)
    assert "optimizer_states" not in content
    names, encoders = set(content["state_dict"]), 1 + (kind == "xl")
    if method == "prompted":
        assert not names
        assert not (trained(method, kind) / "last.ckpt").exists()
    if method == "textual_inversion":
        assert names == {f"model.tokens.{index}" for index in range(encoders)}
    if method == "dreambooth":
        assert all(name.startswith("model.diffusion.unet.") for name in names)
        assert {name.split(".")[-3] for name in names} == {"lora_A", "lora_B"}
        assert all(value.any() for name, value in content["state_dict"].items() if ".lora_B." in name)
    if method == "emogen":
        assert {name.split(".")[1] for name in names} == {"encoder", "mapping", "space", "confidence"}
        assert not any(name.startswith("model.encoder.visual.") for name in names)
        assert len(content["state_dict"]["model.space.bank_emotion"]) == 48
        confidence = content["state_dict"]["model.confidence"]
        held = confidence.sum(dim=1) > 0  # attributes that a training image has
        assert held.any()
        assert torch.allclose(confidence[held].sum(dim=1), torch.ones(int(held.sum())), atol=1e-5)


@pytest.mark.parametrize("method", ["prompted", "emogen"])
def test_test_has_generation_metrics_alone(method, tmp_path):
    assert main(["test", "--ckpt", best(method), "--run_dir", str(tmp_path)]) == 0
    metrics = json.loads((tmp_path / "test.json").read_text())
    assert {"test/FID[clip]", "test/Emo-A[clip]", "test/real/Emo-A[clip]"} <= set(metrics)
    assert not any("accuracy" in name or "loss" in name for name in metrics)
    results = json.loads((tmp_path / "test_generation.json").read_text())
    assert "generated" in results
    assert results["space"] == ("mixture" if method == "emogen" else None)
    assert ("test/Train distance" in metrics) == (method == "emogen")
    assert not (tmp_path / "test_confusion.json").exists()
    assert list((tmp_path / "images").glob("test_generated*.png"))


@pytest.mark.parametrize(("method", "kind"), KINDS)
def test_images_depend_on_their_seed(method, kind, tmp_path):
    """The same seed gives the same image, whatever the batch; emotions and seeds differ."""
    args = ["generate", "--ckpt", best(method, kind), "--device", "cpu"]
    assert main([*args, "--emotion", "all", "--num", "2", "--out", "all"]) == 0
    one = ["--emotion", "fear", "--num", "1", "--seed", "1", "--batch_size", "1"]
    assert main([*args, *one, "--out", "one"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "all/index.jsonl").read_text().splitlines()]
    assert len(rows) == 16
    assert {row["method"] for row in rows} == {method}
    assert {row["space"] for row in rows} == {"mixture" if method == "emogen" else None}
    assert (tmp_path / "all/grid.png").is_file()
    first, again = (pixels(tmp_path / name) for name in ("all/fear/00001.png", "one/fear/00000.png"))
    assert np.abs(first - again).max() <= 1
    assert np.abs(first - pixels(tmp_path / "all/fear/00000.png")).max() > 5
    assert np.abs(first - pixels(tmp_path / "all/awe/00001.png")).max() > 0


def pixels(path):
    return np.asarray(Image.open(path)).astype(int)


def test_prompts_and_mixtures(tmp_path, capsys):
    """Transfer works for all; only methods with a token know what a mixture is."""
    mixed = ["--emotion", "awe=0.7", "--emotion", "fear=0.3", "--num", "1", "--device", "cpu"]
    for method in ("prompted", "textual_inversion", "dreambooth", "emogen"):
        (tmp_path / "prompts.txt").write_text("a {} room\na {} photo\n")
        rooms = ["--emotion", "awe", "--prompts", "prompts.txt", "--num", "1", "--out", f"{method}1"]
        assert main(["generate", "--ckpt", best(method), *rooms]) == 0
        rows = [json.loads(line) for line in (tmp_path / f"{method}1/index.jsonl").read_text().splitlines()]
        assert [row["prompt"] for row in rows] == ["a {} room", "a {} photo"]
        capsys.readouterr()
        done = main(["generate", "--ckpt", best(method), *mixed, "--out", f"{method}2"])
        if method in ("prompted", "dreambooth"):
            assert done == 2
            assert "this method generates one emotion at a time" in capsys.readouterr().err
        else:
            assert done == 0
            assert (tmp_path / f"{method}2/awe+fear/00000.png").is_file()
    args = ["generate", *mixed, "--space", "variation", "--out", "space", "--ckpt"]
    assert "--space must be left out" in refused(capsys, *args, best("textual_inversion"))
    assert main([*args, best("emogen")]) == 0


def test_resumed_run_takes_the_steps_of_an_unbroken_one():
    """EmoGen keeps the encoder and the space that it found; with an even rate, where a run ends does not matter."""
    args = [*recipe("emogen"), "--model.optimizer.warmup", "0", "--model.optimizer.final", "1"]
    args += ["--trainer.max_epochs", "-1", "--last_checkpoint.every_n_steps", "1"]
    assert main([*args, "--run_dir", "whole", "--trainer.max_steps", "3"]) == 0
    assert main([*args, "--run_dir", "parts", "--trainer.max_steps", "1"]) == 0
    first = torch.load("parts/last.ckpt", weights_only=True)["state_dict"]
    assert main([*args, "--run_dir", "parts", "--trainer.max_steps", "3", "--resume"]) == 0
    whole, parts = (torch.load(f"{name}/last.ckpt", weights_only=True)["state_dict"] for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name
        assert torch.equal(value, first[name]) == (not name.startswith("model.mapping")), name


def test_cached_latents(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    args = [*recipe("textual_inversion"), "--config", "cached_latents.yaml", "--run_dir", "run"]
    assert main([*args, "--trainer.limit_train_batches", "1"]) == 0
    assert "48 to encode" in capsys.readouterr().out


def test_refusals(capsys, tmp_path):
    inversion = best("textual_inversion")
    assert "generates images" in refused(capsys, "predict", "--ckpt", inversion, "--run_dir", "a")
    args = [*recipe("textual_inversion"), "--run_dir", "b"]
    assert "must be 32" in refused(capsys, *args, "--data.diffusion_size", "64")
    assert "lora_rank must be 0" in refused(capsys, *args, "--model.diffusion.lora_rank", "2")
    assert "templates must hold {}" in refused(capsys, *args, "--model.templates", '["a photo"]')
    monitor = ["--best_checkpoint.monitor", "val/accuracy", "--best_checkpoint.mode", "max"]
    assert "monitor must be val/loss" in refused(capsys, *args, *monitor)
    booth = [*recipe("dreambooth"), "--run_dir", "c"]
    assert "8 different words" in refused(capsys, *booth, "--model.identifiers", '["sks"]')
    assert "rank must be at least 1" in refused(capsys, *booth, "--model.rank", "0")
    assert "tau must be at least 0.0001; got 0" in refused(
        capsys, *recipe("emogen"), "--run_dir", "c", "--model.tau", "0"
    )
    args = ("--run_dir", "c", "--model.attribute_weight", "-1")
    assert "attribute_weight must be at least 0" in refused(capsys, *recipe("emogen"), *args)
    assert not list(tmp_path.glob("*/*.ckpt"))


@pytest.mark.parametrize("method", ["textual_inversion", "dreambooth", "emogen"])
def test_training_stops_where_the_loss_is_not_finite(method, tmp_path, capsys):
    line = refused(capsys, *recipe(method), "--model.optimizer.lr=1e30", "--run_dir", "run")
    assert "training losses must be finite; at step" in line
    assert "diffusion" in line
    assert not list(tmp_path.glob("run/*.ckpt"))
