"""Two ranks generate and measure their shares; the metrics and the feedback's images are those of one."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.forked import TWO, needs_two_cores
from tests.tiny_runs import recipe, trained
from uniemo.cli import main
from uniemo.data.generated import read_index
from uniemo.models.uniemo import UniEmoModel


@pytest.fixture
def generated_counts(monkeypatch, tmp_path):
    """Write down how many images each process generates at a time; return a function that returns and clears it."""
    trained("joint")
    whole = UniEmoModel.generate
    notes = tmp_path / "notes"
    notes.mkdir()

    def generate(self, weights, seeds, *args, **kwargs):
        with open(notes / str(os.getpid()), "a") as file:
            file.write(f"{len(seeds)}\n")
        return whole(self, weights, seeds, *args, **kwargs)

    def counts():
        found = sorted([int(line) for line in file.read_text().split()] for file in notes.iterdir())
        shutil.rmtree(notes)
        notes.mkdir()
        return found

    monkeypatch.setattr(UniEmoModel, "generate", generate)
    return counts


def grid(folder):
    return np.asarray(Image.open(Path(folder) / "images/test_generated.png")).astype(int)


@needs_two_cores
def test_metrics_of_two_ranks_are_those_of_one(generated_counts):
    args = ["test", "--ckpt", str(trained("joint") / "best.ckpt"), "--generation_metrics.test_images", "3"]
    args += ["--generation_metrics.batch_size", "7", "--generation_metrics.grid_images", "2"]
    assert main([*args, "--run_dir", "one"]) == 0
    assert generated_counts() == [[6] * 4]  # 24 images, batches of one size across emotions
    assert main([*args, "--run_dir", "two", *TWO]) == 0
    assert generated_counts() == [[6, 6], [6, 6]]
    for name in ("test_generation.json", "test.json"):
        one, two = (json.loads(Path(folder, name).read_text()) for folder in ("one", "two"))
        assert one.keys() == two.keys()
        for key, value in one.items():
            if isinstance(value, dict):
                assert two[key] == pytest.approx(value, rel=1e-5, abs=1e-7), key
            else:
                assert two[key] == (pytest.approx(value, rel=1e-5, abs=1e-7) if isinstance(value, float) else value)
    generated = json.loads(Path("two/test_generation.json").read_text())["generated"]
    assert {"FID[clip]", "LPIPS[clip]", "Emo-A[clip]", "Sem-C[clip]", "Sem-D[clip]", "FID[clip]/awe"} <= set(generated)
    assert np.abs(grid("one") - grid("two")).max() <= 1


@needs_two_cores
def test_feedback_of_two_ranks_is_that_of_one(generated_counts, capfd):
    args = [*recipe("feedback"), "--model.init_from", str(trained("joint") / "best.ckpt")]
    args += ["--generation_metrics.every_n_epochs", "0", "--attention_maps.every_n_epochs", "0"]
    args += ["--trainer.limit_train_batches", "1", "--trainer.limit_val_batches", "1"]
    assert main([*args, "--run_dir", "one"]) == 0
    assert generated_counts() == [[40]]
    assert main([*args, "--run_dir", "two", *TWO]) == 0
    assert generated_counts() == [[20], [20]]
    assert capfd.readouterr().out.count("explicit feedback: kept") == 2  # each run says it once
    one, two = (read_index(f"{folder}/generated/index.jsonl") for folder in ("one", "two"))
    assert [row["file"] for row in one] == [row["file"] for row in two]
    for first, second in zip(one, two, strict=True):
        a, b = (np.asarray(Image.open(f"{folder}/generated/{first['file']}")).astype(int) for folder in ("one", "two"))
        assert np.abs(a - b).max() <= 1
        if (a == b).all():
            assert second["emo_a"] == pytest.approx(first["emo_a"], rel=1e-5)
            assert second["sem_c"] == pytest.approx(first["sem_c"], rel=1e-5)
    kept = [{row["file"] for row in read_index(f"{folder}/generated/kept.jsonl")} for folder in ("one", "two")]
    assert len(kept[0] & kept[1]) >= 0.9 * len(kept[0] | kept[1])  # a rounded pixel may turn a rank
    assert np.asarray(Image.open("two/images/feedback_generated.png")).any()
    assert not list(Path("two").glob(".generated*"))
