"""CCC, RMSE and the share within raters' deviations over a split, against NumPy; runs on data with ratings."""

import csv
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.models.test_affect import concordance
from tests.tiny_runs import assets, recipe
from uniemo import UniEmoError
from uniemo.checkpoint import load_model, read_checkpoint
from uniemo.cli import main
from uniemo.modules.affect_metrics import SplitAffect

SCALE = (-1.0, 1.0)


def batch(rows, first=0):
    numbers = torch.arange(first, first + len(rows))
    return SimpleNamespace(affect=rows[:, :2], affect_sd=rows[:, 2:], sample_id=numbers)


def test_metrics_by_hand():
    rng = np.random.default_rng(0)
    predicted, rated = rng.uniform(1, 7, (20, 2)), rng.uniform(1, 7, (20, 2))
    deviation = rng.uniform(0.5, 2, (20, 2))
    rated[4] = np.nan
    rows = torch.from_numpy(np.concatenate([rated, deviation], axis=1)).float()
    metric = SplitAffect()
    for start in (0, 8, 16):
        part = slice(start, start + 8)
        metric.update(torch.from_numpy(predicted[part]).float(), batch(rows[part], start))
    metric.update(torch.from_numpy(predicted[:2]).float(), batch(rows[:2]))  # repeated by a sampler
    kept = np.delete(np.arange(20), 4)
    found = metric.compute()
    for place, axis in enumerate(("valence", "arousal")):
        x, y = predicted[kept, place], rated[kept, place]
        assert found[f"ccc_{axis}"].item() == pytest.approx(concordance(x, y, ddof=1), abs=1e-5)
        assert found[f"rmse_{axis}"].item() == pytest.approx(np.sqrt(np.mean((x - y) ** 2)), abs=1e-5)
        assert found[f"within_sd_{axis}"].item() == pytest.approx(np.mean(np.abs(x - y) <= deviation[kept, place]))


def test_deviations_are_optional_and_one_image_has_no_concordance():
    rows = torch.tensor([[2.0, 3.0, torch.nan, torch.nan], [4.0, 5.0, torch.nan, torch.nan]])
    metric = SplitAffect()
    metric.update(torch.tensor([[2.0, 3.0], [4.0, 5.0]]), batch(rows))
    found = metric.compute()
    assert set(found) == {f"{name}_{axis}" for name in ("ccc", "rmse") for axis in ("valence", "arousal")}
    assert found["ccc_valence"] == pytest.approx(1)
    metric.reset()
    metric.update(torch.tensor([[2.0, 3.0]]), batch(rows[:1]))
    assert metric.compute()["ccc_valence"].isnan()
    metric.reset()
    metric.update(torch.tensor([[torch.nan, 3.0], [4.0, 5.0]]), batch(rows))
    with pytest.raises(UniEmoError, match=r"valence and arousal must be finite; 1 of 2"):
        metric.compute()


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    """The painted tree as a table of one's own: emotions, scenes, and ratings that follow the emotion."""
    root = tmp_path_factory.mktemp("rated") / "tree"
    shutil.copytree(assets() / "tree", root)
    places = {"amusement": 0.6, "awe": 0.5, "contentment": 0.4, "excitement": 0.7}
    with (root / "rated.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("picture", "feels", "part", "v", "a"))
        for split in ("train", "val", "test"):
            for number, (emotion, image, *_) in enumerate(json.loads((root / f"{split}.json").read_text())):
                valence = places.get(emotion, -0.5) + number % 3 / 10
                ratings = ("", "") if number == 1 else (valence, -valence / 2)
                table.writerow((image, emotion, split, *ratings))
    for name in ("info.json", "train.json", "val.json", "test.json"):
        (root / name).unlink()
    return root


def columns(root):
    named = {"label": "feels", "split": "part", "valence": "v", "arousal": "a"}
    options = [part for name, column in named.items() for part in (f"--data.{name}_column", column)]
    return ["--data", "Folder", "--data.root", str(root), "--data.affect_scale", "[-1, 1]", *options]


QUIET = ["--generation_metrics.every_n_epochs", "0", "--attention_maps.every_n_epochs", "0"]


def test_all_stages_and_commands_know_valence_and_arousal(rated, tmp_path, capsys):
    args = [*recipe("understanding"), *columns(rated), "--run_dir", "first", "--attention_maps.every_n_epochs", "0"]
    assert main([*args, "--best_checkpoint.monitor", "val/ccc_valence"]) == 0
    out = capsys.readouterr().out
    assert "loss/affect" in out
    assert "val/rmse_arousal" in out
    first = str(tmp_path / "first" / "best.ckpt")
    assert read_checkpoint(first)[1].vocabulary.affect == SCALE
    assert main(["test", "--ckpt", first]) == 0
    metrics = json.loads((tmp_path / "first" / "test.json").read_text())
    assert {"test/ccc_valence", "test/rmse_valence", "test/ccc_arousal", "test/rmse_arousal"} <= set(metrics)
    assert main(["report", str(tmp_path / "first"), "--output", "report.html"]) == 0
    assert "CCC valence" in (tmp_path / "report.html").read_text()

    assert main(["predict", "--ckpt", first]) == 0
    rows = [json.loads(line) for line in (tmp_path / "first" / "predictions.jsonl").read_text().splitlines()]
    assert all(-1 < row["affect"]["valence"] < 1 and row["affect"]["scale"] == [-1, 1] for row in rows)
    capsys.readouterr()
    files = [str(rated / row["file"]) for row in rows[:3]]
    assert main(["classify", "--ckpt", first, *files, "--output", "said.jsonl"]) == 0
    assert "valence [-1, 1]  arousal [-1, 1]" in capsys.readouterr().out
    said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    for one, other in zip(said, rows, strict=False):
        assert one["affect"]["valence"] == pytest.approx(other["affect"]["valence"], abs=1e-3)
    assert main(["convert", "--to", "safetensors", first, "--output", "first.safetensors"]) == 0

    second = [*recipe("joint"), *columns(rated), *QUIET, "--model.init_from", first, "--run_dir", "second"]
    assert main(second) == 0
    assert "loss/affect" in capsys.readouterr().out
    model, info = load_model(tmp_path / "second" / "best.ckpt", generation=True)
    assert (model.affect_head is not None, info.vocabulary.affect) == (True, SCALE)
    generated = ["generate", "--ckpt", str(tmp_path / "second" / "best.ckpt"), "--emotion", "all", "--num", "1"]
    assert main([*generated, "--steps", "1", "--out", "generated"]) == 0
    third = [*recipe("feedback"), *columns(rated), *QUIET, "--data.generated", "generated"]
    assert main([*third, "--model.init_from", str(tmp_path / "second" / "best.ckpt"), "--run_dir", "third"]) == 0
    assert "loss/affect" in capsys.readouterr().out  # of the real images alone


def test_the_head_goes_where_the_data_has_no_ratings(rated, tmp_path, capsys):
    args = [*recipe("understanding"), *columns(rated), "--run_dir", "first", "--attention_maps.every_n_epochs", "0"]
    assert main(args) == 0
    first, tree = str(tmp_path / "first" / "best.ckpt"), str(assets() / "tree")
    assert main(["test", "--ckpt", first, "--data", "EmoSet", "--data.root", tree, "--run_dir", "elsewhere"]) == 0
    assert "test/ccc_valence" not in json.loads((tmp_path / "elsewhere" / "test.json").read_text())
    capsys.readouterr()
    plain = [*recipe("understanding"), "--attention_maps.every_n_epochs", "0", "--run_dir", "plain"]
    assert main([*plain, "--model.init_from", first]) == 0
    out = capsys.readouterr().out
    assert "the head of valence and arousal is left out: the data has neither" in out
    assert "loss/affect" not in out
    assert not any("affect" in name for name in read_checkpoint(tmp_path / "plain" / "best.ckpt")[0]["state_dict"])
    again = [*recipe("understanding"), *columns(rated), "--attention_maps.every_n_epochs", "0", "--run_dir", "again"]
    assert main([*again, "--model.init_from", str(tmp_path / "plain" / "best.ckpt")]) == 0
    assert "the head of valence and arousal starts anew" in capsys.readouterr().out
    assert main([*plain, "--overwrite", "--best_checkpoint.monitor", "val/ccc_valence"]) == 2
    assert "which has no valence and arousal" in capsys.readouterr().err
