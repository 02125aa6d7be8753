"""Votes as targets, from fit to test, report and cross-validation, by the commands."""

import json

import pytest

from tests.baselines.baseline_runs import recipe as baseline
from tests.other_trees import painted_votes
from tests.refusals import refused
from tests.tiny_runs import assets, recipe
from uniemo.cli import main
from uniemo.cli.cross_validate import summarise, table
from uniemo.data import FlickrLDL
from uniemo.metrics.label_distribution import MEASURES, distribution_metrics
from uniemo.modules.understanding import UnderstandingModule


def votes():
    """Arguments for a tree with votes."""
    return ["--data", "FlickrLDL", "--data.root", painted_votes(), "--data.target", "distribution"]


def test_stages(tmp_path, capsys):
    """Stage 1, and stages 2 and 3 in one: an epoch of joint training, then one with generated images."""
    quiet = ["--generation_metrics.every_n_epochs", "0", "--attention_maps.every_n_epochs", "0"]
    feedback = ["--explicit_feedback.criteria", "emo_a", "--explicit_feedback.start_epoch", "1"]
    for stage, own in (("understanding", []), ("feedback", [*feedback, "--trainer.max_epochs", "2"])):
        assert main([*recipe(stage), *votes(), *quiet, *own, "--run_dir", stage]) == 0
        assert main(["test", "--ckpt", f"{stage}/best.ckpt", "--generation_metrics.test_images", "0"]) == 0
        found = json.loads((tmp_path / stage / "test.json").read_text())
        assert {f"test/{name}" for name in (*MEASURES, "accuracy", "balanced_accuracy")} <= set(found)
    out = capsys.readouterr().out
    assert out.count("targets: distributions of votes") == 4
    assert "explicit feedback: kept" in out

    data = FlickrLDL(painted_votes(), 32, None, target="distribution")
    module = UnderstandingModule.load_from_checkpoint("understanding/best.ckpt")
    metrics = distribution_metrics()
    for batch in data.test_dataloader():
        metrics.update(module.eval().classify(batch.images), batch.distribution, batch.sample_id)
    logged = json.loads((tmp_path / "understanding" / "test.json").read_text())
    for name, value in metrics.compute().items():
        assert logged[f"test/{name}"] == pytest.approx(float(value), abs=1e-5)

    assert main(["report", "understanding", "--output", "page.html"]) == 0
    page = (tmp_path / "page.html").read_text()
    assert all(text in page for text in ("chebyshev ↓", "KL ↓", "intersection ↑", f"{logged['test/clark']:.4f}"))


@pytest.mark.parametrize("method", ["zero_shot", "linear_probe"])
def test_baselines(method, tmp_path):
    assert main([*baseline(method), *votes(), "--run_dir", "run"]) == 0
    assert main(["test", "--ckpt", "run/best.ckpt"]) == 0
    assert {f"test/{name}" for name in MEASURES} <= set(json.loads((tmp_path / "run/test.json").read_text()))


def test_cross_validation_shows_the_six():
    folds = [{"test/accuracy": 0.5 + fold / 10, "test/kl": 0.25, "test/chebyshev": 0.2} for fold in range(3)]
    head, *_, mean, _ = table(folds, summarise(folds)).splitlines()
    assert head.split() == ["fold", "accuracy", "chebyshev", "kl"]
    assert mean.split()[1:] == ["0.6000", "±", "0.1000", "0.2000", "±", "0.0000", "0.2500", "±", "0.0000"]


def test_a_distance_as_monitor(capsys):
    monitor = ["--best_checkpoint.monitor", "val/kl"]
    run = [*recipe("understanding"), "--run_dir", "run"]
    assert "best_checkpoint.mode must be min" in refused(capsys, *run, *votes(), *monitor)
    smaller = ["--best_checkpoint.mode", "min", "--trainer.max_steps", "1", "--attention_maps.every_n_epochs", "0"]
    assert main([*run, *votes(), *monitor, *smaller]) == 0
    assert "best_checkpoint.monitor must be val/accuracy" in refused(capsys, *run, *monitor)
    wrong = [*run, "--data.root", str(assets() / "tree"), "--data.target", "distribution", "--overwrite"]
    assert "data.target must be emotion for data without votes" in refused(capsys, *wrong)
