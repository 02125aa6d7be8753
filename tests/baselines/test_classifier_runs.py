"""The baselines that classify, from fit to test on other data, by the commands."""

import json
import shutil

import pytest
import torch

from tests.baselines.baseline_runs import CLASSIFIERS, best, recipe, trained
from tests.other_trees import painted
from tests.tiny_runs import assets
from tests.tiny_runs import recipe as stage_recipe
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.data import EmoSet
from uniemo.modules import EmotionModule

TRAINED = CLASSIFIERS[1:]


@pytest.mark.parametrize("method", CLASSIFIERS)
def test_checkpoint_holds_what_was_trained_alone(method):
    content, info = read_checkpoint(best(method))
    assert (info.stage, info.method, set(info.backbones)) == ("baseline", method, {"clip"})
    parts = {name.split(".")[1] for name in content["state_dict"]}
    expected = {"zero_shot": set(), "linear_probe": {"head"}, "fine_tune": {"tower", "head"}, "coop": {"context"}}
    assert parts == {**expected, "cocoop": {"context", "meta"}}[method]
    assert info.model["encoder"]["clip"] == str(assets() / "clip")
    assert (trained(method) / "last.ckpt").exists() == (method in TRAINED)


@pytest.mark.parametrize("method", CLASSIFIERS)
def test_test_and_classify_agree(method, tmp_path):
    assert main(["test", "--ckpt", best(method), "--run_dir", "run"]) == 0
    metrics = json.loads((tmp_path / "run/test.json").read_text())
    confusion = json.loads((tmp_path / "run/test_confusion.json").read_text())
    tree = assets() / "tree"
    assert main(["classify", "--ckpt", best(method), str(tree / "image"), "--output", "out.jsonl"]) == 0
    answers = {}
    for line in (tmp_path / "out.jsonl").read_text().splitlines():
        answer = json.loads(line)
        answers[answer["file"].removeprefix(f"{tree}/")] = answer["emotion"]
    test = EmoSet(str(tree), image_size=32, diffusion_size=None).evaluation_loader("test")
    pairs = [
        (confusion["emotions"][label], answers[name])
        for batch in test
        for label, name in zip(batch.emotion.tolist(), batch.names, strict=True)
    ]
    assert metrics["test/accuracy"] == pytest.approx(sum(label == answer for label, answer in pairs) / len(pairs))
    assert len(pairs) == int(torch.tensor(confusion["counts"]).sum())


@pytest.mark.parametrize(
    ("method", "dataset"), [("zero_shot", "TwitterI"), ("linear_probe", "FI"), ("coop", "EmotionROI"), ("cocoop", "FI")]
)
def test_trained_on_emoset_tested_elsewhere(method, dataset, tmp_path):
    args = ["--data", dataset, "--data.root", painted(dataset), "--run_dir", "run"]
    assert main(["test", "--ckpt", best(method), *args]) == 0
    confusion = json.loads((tmp_path / "run/test_confusion.json").read_text())
    count = {"FI": 8, "EmotionROI": 6, "TwitterI": 2}[dataset]
    assert len(confusion["emotions"]) == count
    assert ("label_map" in json.loads((tmp_path / "run/test.json").read_text())) == (count < 8)


@pytest.mark.parametrize(
    ("method", "dataset"), [("coop", "EmotionROI"), ("fine_tune", "TwitterII"), ("zero_shot", "FI")]
)
def test_training_on_other_data(method, dataset, tmp_path):
    args = ["--data", dataset, "--data.root", painted(dataset), "--data.image_size", "32", "--run_dir", "run"]
    assert main([*recipe(method), *args]) == 0
    content, info = read_checkpoint(tmp_path / "run/best.ckpt")
    classes = {"EmotionROI": 6, "TwitterII": 2, "FI": 8}[dataset]
    assert len(info.vocabulary.emotions) == classes
    if method == "coop":
        assert content["state_dict"]["model.context"].shape[0] == classes


def test_a_resumed_run_equals_an_unbroken_one(monkeypatch):
    args = [*recipe("cocoop"), "--trainer.max_epochs", "2", "--last_checkpoint.every_n_steps", "1"]
    assert main([*args, "--run_dir", "whole"]) == 0
    start = EmotionModule.on_train_batch_start

    def stop(self, batch, batch_idx):
        if self.global_step == 4:
            raise KeyboardInterrupt
        start(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(EmotionModule, "on_train_batch_start", stop)
        assert main([*args, "--run_dir", "broken"]) == 130
    assert main([*args, "--run_dir", "broken", "--resume"]) == 0
    whole, broken = (read_checkpoint(f"{run}/last.ckpt")[0] for run in ("whole", "broken"))
    assert whole["global_step"] == broken["global_step"] == 6
    for name, value in whole["state_dict"].items():
        assert torch.equal(broken["state_dict"][name], value), name


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (lambda: ["generate", "--ckpt", best("coop"), "--emotion", "awe", "--out", "x"], "is of coop"),
        (lambda: [*stage_recipe("joint"), "--model.init_from", best("coop")], "of stage baseline (coop)"),
        (lambda: [*recipe("coop"), "--data.image_size", "64"], "data.image_size must be 32"),
        (lambda: [*recipe("coop"), "--model.context_lenght", "2"], "model.context_length"),
        (lambda: [*recipe("coop"), "--data.cached_latents", "true"], "data.cached_latents"),
        (lambda: [*recipe("coop"), "--trainer.strategy", "uniemo.modules.strategies.FrozenFSDPStrategy"], "for coop"),
        (lambda: ["fit", "--config", "baselines/vision_language.yaml"], "model.path must name"),
    ],
)
def test_one_line_says_what_is_wrong(args, said, capsys):
    assert main([*args(), *(["--run_dir", "run"] if args()[0] == "fit" else [])]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_run_goes_on_as_the_method_that_it_was(tmp_path, capsys):
    shutil.copytree(trained("coop"), "run")
    assert main([*recipe("cocoop"), "--run_dir", "run", "--resume"]) == 2
    assert "checkpoint must be of the method cocoop; it is of coop" in capsys.readouterr().err
