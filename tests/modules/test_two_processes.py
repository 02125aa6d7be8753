"""Two processes measure what one measures."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.forked import TWO, needs_two_cores
from tests.tiny_runs import assets, trained
from tests.trees import painted_emoset
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.data import EmoSet

pytestmark = needs_two_cores


def metrics(folder, command):
    """Return the metrics and the confusion that a command has written."""
    values = json.loads((folder / f"{command}.json").read_text())
    return values, json.loads((folder / f"{command}_confusion.json").read_text())


def answers(folder):
    """Return the rows of the answers, probabilities rounded."""
    table = pq.read_table(folder / "test_answers.parquet").to_pydict()
    return {**table, "probability": [round(value, 4) for value in table["probability"]]}


def one_and_two(tmp_path, command, *args):
    """Run a command on one rank and on two; return what each has written."""
    content, _ = read_checkpoint(trained("understanding") / "best.ckpt")
    state = content["state_dict"]
    for layer in ("fc0", "fc1"):  # a head that does not always answer the same
        weight = state[f"model.head.{layer}.weight"]
        state[f"model.head.{layer}.weight"] = 5 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    torch.save(content, tmp_path / "varied.ckpt")
    ckpt = str(tmp_path / "varied.ckpt")
    assert main([command, "--ckpt", ckpt, *args, "--run_dir", "one"]) == 0
    assert main([command, "--ckpt", ckpt, *args, "--run_dir", "two", *TWO]) == 0
    return metrics(tmp_path / "one", command), metrics(tmp_path / "two", command)


def test_every_test_sample_counts_once(tmp_path):
    args = ["--data.root", str(painted_emoset("tree", 8, 8, 13, size=32)), "--data.eval_batch_size", "4"]
    (one, first), (two, second) = one_and_two(tmp_path, "test", *args)
    assert first == second
    assert answers(tmp_path / "one") == answers(tmp_path / "two")
    assert sum(map(sum, second["counts"])) == 13  # of an odd number the sampler of two ranks repeats one
    assert sum(map(any, zip(*second["counts"], strict=True))) > 1  # more than one answer is given
    assert set(one) == set(two)
    assert {"test/balanced_accuracy", "test/coverage/object"} <= set(one)
    for name, value in one.items():
        assert two[name] == (pytest.approx(value, rel=1e-5) if isinstance(value, float) else value), name


def test_validation_looks_at_the_same_first_images(tmp_path):
    args = ["--data.eval_batch_size", "3", "--attention_maps.val_images", "7"]
    (one, first), (two, second) = one_and_two(tmp_path, "validate", *args)
    assert first == second
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-5), name
    # by hand: the mask's share of the first 7 validation images
    data = EmoSet(str(assets() / "tree"), image_size=32, diffusion_size=None)
    assert (np.diff(data.records("val").sample_id) > 0).all()
    masks = torch.cat([batch.masks for batch in data.evaluation_loader("val")])[:7]
    area = masks.mean(dim=(1, 2, 3))
    assert one["val/coverage/area"] == pytest.approx(area[masks.flatten(1).any(dim=1)].mean().item())


def test_predictions_stand_in_one_file_in_the_split_s_order(tmp_path):
    args = ["predict", "--ckpt", str(trained("understanding") / "best.ckpt"), "--data.eval_batch_size", "5"]
    args += ["--data.root", str(painted_emoset("tree", 8, 8, 13, size=32))]
    assert main([*args, "--run_dir", "one"]) == 0
    assert main([*args, "--run_dir", "two", *TWO]) == 0
    one, two = (
        [json.loads(line) for line in (tmp_path / run / "predictions.jsonl").read_text().splitlines()]
        for run in ("one", "two")
    )
    assert [row["file"] for row in two] == [row["file"] for row in one]
    assert len(one) == 13
    for row, other in zip(one, two, strict=True):
        assert other["probabilities"] == pytest.approx(row["probabilities"], abs=2e-6)
    assert [file.name for file in (tmp_path / "two").glob("predictions*")] == ["predictions.jsonl"]
