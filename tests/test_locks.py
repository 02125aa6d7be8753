"""A folder in which a run is at work is refused to a second one; a killed run leaves no lock."""

import os
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest

from tests.refusals import one_line_error, refused
from tests.tiny_runs import recipe, trained
from uniemo.cache import check_unlocked, lock_folder
from uniemo.cli import main

_HOLD = """
import sys; from pathlib import Path; from uniemo.cache import lock_folder
with lock_folder(Path(sys.argv[1]), "--run_dir"):
    print("locked", flush=True); sys.stdin.read()
"""


@contextmanager
def other_run(folder):
    """Hold a folder's lock in another process; yield it."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "locked\n"
        yield process
        process.stdin.close()


def test_a_locked_folder_is_refused_until_the_other_ends(tmp_path):
    with other_run(tmp_path) as process:
        who = f"process {process.pid} on {socket.gethostname()}"
        with (
            one_line_error(f"--run_dir must be .*{who} is at work in {tmp_path}: wait"),
            lock_folder(tmp_path, "--run_dir"),
        ):
            pass
        with one_line_error(who):
            check_unlocked(tmp_path, "--run_dir")
    with lock_folder(tmp_path, "--run_dir"):
        assert os.listdir(tmp_path) == [".lock"]
    assert not os.listdir(tmp_path)
    check_unlocked(tmp_path / "absent", "--run_dir")
    assert not os.listdir(tmp_path)


def test_a_killed_run_leaves_no_lock(tmp_path):
    with other_run(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert os.listdir(tmp_path) == [".lock"]
    with lock_folder(tmp_path, "--run_dir"):
        assert str(os.getpid()) in (tmp_path / ".lock").read_text()


def test_a_folder_without_locks_is_used_with_a_warning(tmp_path, monkeypatch):
    def refuse(*args):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.lockf", refuse)
    with (
        pytest.warns(UserWarning, match=r"cannot be locked \(Function not implemented\)"),
        lock_folder(tmp_path, "--out"),
    ):
        pass


@pytest.mark.parametrize("options", [[], ["--resume"], ["--overwrite"]])
def test_a_second_fit_is_refused_and_changes_nothing(tmp_path, capsys, options):
    with other_run(tmp_path) as process:
        line = refused(capsys, *recipe("understanding"), "--run_dir", tmp_path, *options)
        assert f"process {process.pid} on " in line
        assert os.listdir(tmp_path) == [".lock"]


def test_a_fit_holds_the_lock_while_it_trains(tmp_path, capsys, monkeypatch):
    from uniemo.modules.base import EmotionModule

    def look(module):
        done = subprocess.run([sys.executable, "-c", _HOLD, tmp_path], capture_output=True, text=True, check=False)
        assert f"process {os.getpid()} on " in done.stderr

    monkeypatch.setattr(EmotionModule, "on_train_start", look, raising=False)
    args = [*recipe("understanding"), "--run_dir", str(tmp_path), "--attention_maps.every_n_epochs=0"]
    assert main(args) == 0
    assert not (tmp_path / ".lock").exists()


def test_the_commands_that_fill_a_folder_are_refused(tmp_path, capsys):
    with other_run(tmp_path / "x.partial") as process:
        line = refused(
            *(capsys, "generate", "--ckpt", trained("joint") / "best.ckpt", "--emotion", "awe"),
            *("--out", tmp_path / "x", "--resume"),
        )
        assert f"--out must be a folder that no other run writes to; process {process.pid} on " in line
        assert os.listdir(tmp_path / "x.partial") == [".lock"]
    with other_run(tmp_path / "cv") as process:
        line = refused(capsys, "cross-validate", "--config", "understanding.yaml", "--run_dir", tmp_path / "cv")
        assert f"process {process.pid} on " in line


def test_the_ranks_of_a_run_share_its_lock(tmp_path, monkeypatch, capsys):
    with other_run(tmp_path) as process:
        monkeypatch.setenv("LOCAL_RANK", "1")  # the other is the first rank
        assert main([*recipe("understanding"), "--run_dir", str(tmp_path), "--trainer.fast_dev_run=true"]) == 0
        assert process.poll() is None
