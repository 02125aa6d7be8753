"""Whole runs on streamed shards: trained, killed, resumed, tested, on one process and on two."""

import json
from pathlib import Path

import pytest
from pyarrow import parquet

from tests.test_resume import TWO, KilledError, killed, same, stopping
from tests.tiny_runs import assets, recipe, run_folder  # noqa: F401 - used by every test
from tests.trees import painted_tree
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.launch import cpu_cores


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    assets()
    folder = tmp_path_factory.mktemp("streamed")
    return {
        kind: painted_tree(f"emoset-{kind}", folder / kind, 100, 0, 32, (), 0) for kind in ("parquet", "webdataset")
    }


def fit(stage, root, *more):
    data = ["--data", "Streaming", "--data.root", str(root), "--data.shuffle_buffer", "20"]
    return [*recipe(stage), *data, "--last_checkpoint.every_n_steps", "1", *more]


def broken_off(monkeypatch, args, batch, words=None):
    with monkeypatch.context() as patch:
        stopping(patch, batch, killed)
        with pytest.raises(Exception if words else KilledError, match=words):
            main(args)


@pytest.mark.parametrize("kind", ["parquet", "webdataset"])
def test_fit_stopped_and_resumed_then_test(painted, kind, monkeypatch, capsys):
    args = fit("understanding", painted[kind], "--trainer.max_epochs", "2")
    assert main([*args, "--run_dir", "whole"]) == 0
    out = capsys.readouterr().out
    assert "Streaming: 76 train images in 2 shards, 8 val images in 1 shards" in out
    assert "2 epochs, 10 steps" in out
    args += ["--run_dir", "run"]
    broken_off(monkeypatch, args, 7)
    assert read_checkpoint("run/last.ckpt")[1].step == 7
    assert main([*args, "--resume"]) == 0
    assert same("run", "whole")
    assert main(["test", "--ckpt", "run/best.ckpt"]) == 0
    names = parquet.read_table("run/test_answers.parquet").to_pylist()
    assert [row["file"].rpartition("#")[2] for row in names] == [str(number) for number in range(16)]
    assert main(["predict", "--ckpt", "run/best.ckpt"]) == 0
    lines = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == [row["file"] for row in names]


@pytest.mark.skipif(cpu_cores() < 2, reason="two processes need two cores")
def test_two_processes_stopped_and_resumed(painted, monkeypatch):
    args = fit("understanding", painted["webdataset"], *TWO, "--data.batch_size", "8")
    assert main([*args, "--run_dir", "whole"]) == 0
    args += ["--run_dir", "run"]
    broken_off(monkeypatch, args, 3, "KilledError")
    assert main([*args, "--resume"]) == 0
    assert same("run", "whole")
    assert main(["test", "--ckpt", "run/best.ckpt", *TWO]) == 0
    assert parquet.read_table("run/test_answers.parquet").num_rows == 16


def test_all_stages_take_images_at_hand(painted, capsys):
    args = fit("feedback", painted["parquet"], "--trainer.max_epochs", "2", "--explicit_feedback.start_epoch", "1")
    assert main([*args, "--run_dir", "run", "--data.images_at_hand", "40"]) == 0
    out = capsys.readouterr().out
    assert "take at most 40 images of a split" in out
    content, _ = read_checkpoint("run/last.ckpt")
    assert content["state_dict"]["model.space.bank_emotion"].shape == (40,)
    assert Path("run/generated/index.jsonl").is_file()
