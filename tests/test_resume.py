"""A run that is killed goes on by ``--resume`` and ends as one that never was."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny_runs import recipe, trained
from uniemo.checkpoint import read_checkpoint
from uniemo.cli import main
from uniemo.launch import cpu_cores
from uniemo.modules import EmotionModule

pytestmark = pytest.mark.usefixtures("empty_folder")

TWO = ["--trainer.accelerator", "cpu", "--trainer.devices", "2", "--trainer.strategy", "ddp_fork"]


class KilledError(Exception):
    """Stands for SIGKILL where a process of its own would take too long."""


def stopping(monkeypatch, batch, stop):
    """Call ``stop`` when training comes to a batch."""
    start = EmotionModule.on_train_batch_start

    def hook(self, *args):
        if self.trainer.fit_loop.total_batch_idx == batch:
            stop()
        start(self, *args)

    monkeypatch.setattr(EmotionModule, "on_train_batch_start", hook)


def killed():
    raise KilledError


def interrupted():
    raise KeyboardInterrupt


def scalars(folder):
    """Return what training logged, by name and step; other tests may have tested in the folder too."""
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    accumulator.Reload()
    found = {}
    for tag in accumulator.Tags()["scalars"]:
        if tag == "epoch" or tag.startswith("test/"):
            continue
        events = accumulator.Scalars(tag)
        steps = [event.step for event in events]
        assert steps == sorted(steps), f"{tag} doubles back"
        found[tag] = {event.step: event.value for event in events}
    return found


def same(folder, other, lost=()):
    """Whether two runs logged the same and ended with the same weights, best ones included.

    A checkpoint is written before the losses of its step are logged: a kill in between loses those (``lost``).
    """
    found, wanted = scalars(folder), scalars(other)
    for tag, values in wanted.items():
        there = {step: value for step, value in values.items() if step + 1 not in lost or step in found[tag]}
        assert found.pop(tag) == there, tag
    assert not found
    for name in ("best.ckpt", "last.ckpt"):
        first, second = (read_checkpoint(Path(run) / name)[0] for run in (folder, other))
        assert first["global_step"] == second["global_step"]
        assert first["state_dict"].keys() == second["state_dict"].keys()
        for key, value in first["state_dict"].items():
            assert torch.equal(value, second["state_dict"][key]), f"{name}: {key}"
    return True


@pytest.mark.parametrize(
    ("stop", "batch", "options", "code"),
    [
        (interrupted, 2, ["--last_checkpoint.every_n_steps", "1"], 130),
        (lambda: os.kill(os.getpid(), signal.SIGTERM), 1, [], 128 + signal.SIGTERM),
    ],
)
def test_interrupted(monkeypatch, capsys, stop, batch, options, code):
    args = [*recipe("understanding"), "--run_dir", "run", *options]
    with monkeypatch.context() as patch:
        stopping(patch, batch, stop)
        assert main(args) == code
    wanted = "stopped at step 2; last.ckpt holds step 2: the same command with --resume goes on from it"
    assert wanted in capsys.readouterr().out.splitlines()
    assert main([*args, "--resume"]) == 0
    assert "1 epochs, 3 steps" in capsys.readouterr().out
    assert same("run", trained("understanding"))


def test_before_the_first_checkpoint(monkeypatch, capsys):
    args = [*recipe("understanding"), "--run_dir", "run"]
    with monkeypatch.context() as patch:
        stopping(patch, 2, interrupted)
        assert main(args) == 130
    assert "stopped at step 2, before the first last.ckpt: the same command begins again" in capsys.readouterr().out
    half = Path("run/.last.ckpt.u3k1")  # as a kill in the middle of the first one leaves it
    half.mkdir()
    assert main([*args, "--resume"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--resume needs run/last.ckpt; there is none: leave --resume out" in error
    assert main(args) == 0
    assert not half.exists()
    assert scalars("run") == scalars(trained("understanding"))


def test_what_cannot_be_resumed_is_not_offered(capsys):
    Path("run").mkdir()
    Path("run/best.ckpt").touch()
    assert main([*recipe("understanding"), "--run_dir", "run"]) == 2
    error = capsys.readouterr().err
    assert "--overwrite" in error
    assert "--resume" not in error


def test_stage_3_goes_on_with_its_generated_images(monkeypatch, capsys):
    args = [*recipe("feedback"), "--model.init_from", str(trained("joint") / "best.ckpt"), "--run_dir", "run"]
    args += ["--last_checkpoint.every_n_steps", "2"]
    with monkeypatch.context() as patch:
        stopping(patch, 3, killed)  # 48 real images and 12 generated ones: the last of four batches
        with pytest.raises(KilledError):
            main(args)
    index = Path("run/generated/index.jsonl").read_bytes()
    assert max(scalars("run")["loss/total"]) == 2  # one step more than last.ckpt knows
    capsys.readouterr()
    assert main([*args, "--resume"]) == 0
    out = capsys.readouterr().out
    assert "1 epochs, 4 steps" in out
    assert "explicit feedback" not in out
    assert Path("run/generated/index.jsonl").read_bytes() == index
    assert same("run", trained("feedback"))


@pytest.mark.skipif(cpu_cores() < 2, reason="two processes need two cores")
def test_two_processes(monkeypatch):
    args = [*recipe("joint"), *TWO, "--data.batch_size", "8", "--last_checkpoint.every_n_steps", "1"]
    args += ["--generation_metrics.every_n_epochs", "0"]
    assert main([*args, "--run_dir", "whole"]) == 0
    args += ["--run_dir", "run"]
    with monkeypatch.context() as patch:
        stopping(patch, 2, killed)
        with pytest.raises(Exception, match="KilledError"):
            main(args)
    assert read_checkpoint("run/last.ckpt")[1].step == 2
    assert main([*args, "--resume"]) == 0
    assert same("run", "whole")


# Real kills.


def command(args):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "uniemo", *args], env=environment, stdout=subprocess.DEVNULL)


def kill(process, folder, checkpoints, writing):
    """Kill a run that has written so many checkpoints, or the moment it writes the one after; return its step."""
    last, seen = folder / "last.ckpt", set()
    while process.poll() is None:
        if last.is_file():
            seen.add(last.stat().st_mtime_ns)
        if len(seen) > checkpoints and (not writing or any(folder.glob(".last.ckpt.*/last.ckpt"))):
            break
        time.sleep(0.001)
    process.kill()
    assert process.wait() == -signal.SIGKILL, "it came to its end"
    return read_checkpoint(last)[1].step


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["understanding", "joint", "feedback"])
def test_killed_again_and_again(stage):
    args = [*recipe(stage), "--data.batch_size", "4", "--trainer.max_epochs", "2"]
    args += ["--last_checkpoint.every_n_steps", "1", "--generation_metrics.every_n_epochs", "2"]
    before = {"joint": "understanding", "feedback": "joint"}.get(stage)
    if before is not None:
        args += ["--model.init_from", str(trained(before) / "best.ckpt")]
    assert command([*args, "--run_dir", "whole"]).wait() == 0
    args += ["--run_dir", "run"]
    folder, choose, steps, halves = Path("run"), random.Random(stage), [], 0
    for number in range(5):
        resume = ["--resume"] if steps else []
        steps.append(kill(command([*args, *resume]), folder, choose.randint(1, 5), writing=number % 2 == 1))
        halves += any(folder.glob(".last.ckpt.*"))
    assert steps == sorted(set(steps))
    assert halves >= 1  # killed in the middle of writing, and yet last.ckpt could be read
    assert command([*args, "--resume"]).wait() == 0
    assert same("run", "whole", lost=steps)
