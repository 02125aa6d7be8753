"""The baselines that classify, from fit to test on other data, by the commands."""

import json
import shutil

import pytest
import torch

from tests.baselines.baseline_runs import CLASSIFIERS, best, recipe, trained
from tests.other_trees import painted
from tests.refusals import refused
from tests.tiny_runs import assets
from tests.tiny_runs import recipe as stage_recipe
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.data import EmoSet

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


@pytest.mark.parametrize("method", ["zero_shot", "fine_tune", "cocoop"])
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
    assert said in refused(capsys, *args(), *(["--run_dir", "run"] if args()[0] == "fit" else []))


def test_a_run_goes_on_as_the_method_that_it_was(tmp_path, capsys):
    shutil.copytree(trained("coop"), "run")
    assert "checkpoint must be of the method cocoop; it is of coop" in refused(
        capsys, *recipe("cocoop"), "--run_dir", "run", "--resume"
    )


@pytest.mark.parametrize("method", ["fine_tune", "coop", "cocoop"])  # the linear probe's loss stays finite
def test_training_stops_where_the_loss_is_not_finite(method, tmp_path, capsys):
    line = refused(capsys, *recipe(method), "--model.optimizer.lr=1e30", "--run_dir", "run")
    assert "training losses must be finite; at step 1 emotion: " in line
    assert not list(tmp_path.glob("run/*.ckpt"))
