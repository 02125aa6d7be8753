"""Several processes for one command: they find each other, and one that fails ends the others."""

import os
import time

import pytest
from rank_work import fail, write_names

from tests.forked import needs_two_cores
from tests.generation.generated_folders import arguments
from uniemo.cli import main
from uniemo.cli.parsing import processes_to_start
from uniemo.errors import UniEmoError
from uniemo.launch import cpu_cores, launch

pytestmark = pytest.mark.usefixtures("empty_folder")


def test_ranks_find_their_place(tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    launch(write_names, (str(tmp_path), ".txt"), 2)
    found = [(tmp_path / f"{rank}.txt").read_text().split() for rank in range(2)]
    threads = str(max(1, cpu_cores() // 2))
    assert [names[:5] for names in found] == [[rank, rank, "2", "2", threads] for rank in "01"]
    assert found[0][5] == found[1][5]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("mistake", "--num must be smaller; got 7: take 6"),
        ("path", "No such file or directory: .*gone.txt"),
        ("fault", "RuntimeError: nobody has thought of this"),
        ("kill", r"process 2 of 2 was killed \(exit code -9\) and the others were ended"),
    ],
)
def test_a_rank_that_fails_ends_the_others(tmp_path, capfd, how, message):
    start = time.monotonic()
    with pytest.raises(UniEmoError, match=f"^{message}"):
        launch(fail, (str(tmp_path), how), 2)
    assert time.monotonic() - start < 30  # the other one would have slept for a minute
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "first").read_text()), 0)
    assert ("Traceback" in capfd.readouterr().err) == (how == "fault")


@pytest.mark.slow
@needs_two_cores
def test_a_rank_that_fails_leaves_nothing(tmp_path, capsys):
    assert main(arguments("--devices", "2", "--prompt", "a room " * 9 + "{}")) == 2  # found in the ranks
    error = capsys.readouterr().err
    assert error.startswith("error: a prompt must hold {}")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_devices_that_are_not_there(tmp_path, capsys, monkeypatch):
    assert main(arguments("--device", "cpu", "--devices", "999")) == 2
    assert "--devices must not exceed the" in capsys.readouterr().err
    assert main(arguments("--device", "meta", "--devices", "2")) == 2
    assert "--device must be cpu, cuda or auto" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert processes_to_start(4, "cpu") == 1  # torchrun has started them
