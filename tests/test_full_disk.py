"""Commands on a disk that fills, into folders that cannot be written to: one line, code 2, old files whole."""

import os
import shutil
import subprocess

import pytest
from lightning.pytorch.loggers import TensorBoardLogger

from tests.refusals import refused
from tests.small_disk import files_of_at_most
from tests.tiny_runs import assets, recipe, trained
from uniemo.cli import _one_line_in_threads, main
from uniemo.errors import one_line

_PLAIN = ["--attention_maps.every_n_epochs=0"]
_CSV = [*_PLAIN, "--trainer.logger=lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir=."]


def contents(folder):
    """Return every file of a folder with its bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "name"), [([], "images/val_attention_epoch000.png"), (_PLAIN, "best.ckpt"), (_CSV, "best.ckpt")]
)
def test_fit_on_a_disk_that_fills(tmp_path, capsys, options, name):
    trained("understanding")  # its dataset is in the cache
    args = [*recipe("understanding"), "--run_dir", tmp_path / "run", *options]
    with files_of_at_most(20_000):
        line = refused(capsys, *args)
    assert f"File too large: {tmp_path / 'run' / name}: free some space" in line
    assert not list(tmp_path.rglob(".*")), "temporary files are left"


def test_tensorboard_on_a_disk_that_fills(tmp_path, capsys):
    logger = TensorBoardLogger(tmp_path)

    def log():
        for step in range(100):
            logger.log_metrics({"loss": 1.0}, step)
        logger.finalize("success")

    with files_of_at_most(1_000), _one_line_in_threads(), pytest.raises((OSError, ValueError)) as caught:
        log()
    assert one_line(caught.value) == "File too large: free some space there, or write to another disk"
    assert "Traceback" not in capsys.readouterr().err, "of its thread"


def test_the_checkpoints_of_before_stay_whole(tmp_path, capsys):
    shutil.copytree(trained("understanding"), tmp_path / "run")
    before = contents(tmp_path / "run")
    args = [*recipe("understanding"), "--run_dir", tmp_path / "run", "--resume", "--trainer.max_epochs=2", *_PLAIN]
    with files_of_at_most(20_000):
        refused(capsys, *args)
    after = contents(tmp_path / "run")
    assert [after[name] for name in ("best.ckpt", "last.ckpt")] == [before[name] for name in ("best.ckpt", "last.ckpt")]


def test_generate_on_a_disk_that_fills_leaves_nothing(tmp_path, capsys):
    args = ["generate", "--ckpt", str(trained("joint") / "best.ckpt"), "--emotion", "all", "--num", "2", "--out"]
    with files_of_at_most(4_500):
        assert main([*args, str(tmp_path / "x")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: File too large: {tmp_path / 'x.partial'}")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("layout", ["emoset", "fi-csv"])
def test_synthesize_on_a_disk_that_fills_leaves_nothing(tmp_path, capsys, layout):
    with files_of_at_most(5_000):
        assert main(["data", "synthesize", "--layout", layout, "--images", "100", "--out", str(tmp_path / "x")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"error: File too large: {tmp_path / 'x'}: free some space")
    assert not os.listdir(tmp_path)


def commands(target):
    """Return one call of every command that writes, each into ``target``."""
    run, tree = trained("joint"), assets() / "tree"
    best = run / "best.ckpt"
    return {
        "fit": [*recipe("understanding"), "--run_dir", target],
        "fit-root": [*recipe("understanding"), "--trainer.default_root_dir", target],
        "test": ["test", "--ckpt", best, "--run_dir", target],
        "predict": ["predict", "--ckpt", best, "--run_dir", target],
        "generate": ["generate", "--ckpt", best, "--emotion", "awe", "--out", target],
        "classify": ["classify", "--ckpt", best, tree, "--output", target],
        "filter": ["filter", "--generated", tree, "--ckpt", best, "--out", target],
        "evaluate": ["evaluate", "--ckpt", best, "--generated", tree, "--output", target],
        "train-classifier": [
            "train-classifier",
            "--clip",
            assets() / "clip",
            "--data.root",
            tree,
            "--output",
            target.with_suffix(".safetensors"),
        ],
        "check": ["data", "check", tree, "--output", target],
        "split": ["data", "split", tree, "--out", target],
        "synthesize": ["data", "synthesize", "--out", target],
        "safetensors": ["convert", "--to", "safetensors", best, "--output", target],
        "diffusers": ["convert", "--to", "diffusers", best, "--output", target],
        "cross-validate": ["cross-validate", "--config", "understanding.yaml", "--run_dir", target],
        "reproduce": ["reproduce", "table4", "--work", target],
        "report": ["report", run, "--output", target],
        "report-study": ["report", "table4", "--work", target],
    }


_COMMANDS = [
    *("fit", "fit-root", "test", "predict", "generate", "classify", "filter", "evaluate", "train-classifier", "check"),
    *("split", "synthesize", "safetensors", "diffusers", "cross-validate", "reproduce", "report", "report-study"),
]


@pytest.mark.parametrize("command", _COMMANDS)
def test_a_place_that_cannot_be_written_to_is_found_before_work(tmp_path, capsys, monkeypatch, command):
    (tmp_path / "file").write_text("")
    line = refused(capsys, *commands(tmp_path / "file" / "x")[command])
    assert "must lie in" in line
    assert str(tmp_path / "file") in line

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # the superuser may write anywhere
    line = refused(capsys, *commands(tmp_path / "x")[command])
    assert "that can be written to" in line
    assert f"{tmp_path} cannot (Permission denied)" in line
    assert os.listdir(tmp_path) == ["file"]


@pytest.fixture
def disk(tmp_path):
    """Mount a disk of its own."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "none", tmp_path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("only the superuser may mount a disk")
    yield tmp_path
    subprocess.run(["umount", tmp_path], check=True)


def test_a_real_disk_full_and_read_only(disk, capsys):
    line = refused(capsys, *recipe("understanding"), "--run_dir", disk / "run", *_PLAIN)
    assert f"No space left on device: {disk / 'run' / 'best.ckpt'}: free some space" in line
    assert not list(disk.rglob(".*"))
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    line = refused(capsys, *recipe("understanding"), "--run_dir", disk / "other")
    assert f"{disk} cannot (Read-only file system)" in line
