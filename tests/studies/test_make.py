"""Running cells with make and real processes of a small program that stands for ``uniemo``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from small_study import content

from uniemo.errors import UniEmoError
from uniemo.launch import cpu_cores
from uniemo.studies.cells import Setting, cells_of, with_parents
from uniemo.studies.make import environment, pending, run_cells
from uniemo.studies.work import WorkFolder

SETTING = Setting()


def quiet(line):
    pass


def lines(work):
    return [json.loads(line) for line in work.results_file.read_text().splitlines()]


def test_every_cell_is_run_once_parents_first(study, work, calls):
    cells = [cell for seed in (0, 1) for cell in cells_of(study, seed, SETTING)]
    said = []
    assert len(run_cells(cells, work, 2, say=said.append)) == 6  # plain, first, second for two seeds
    assert len([args for args in calls() if args[0] == "fit"]) == 6
    order = [result["cell"] for result in lines(work)]
    results = work.results()
    for cell in with_parents(cells):
        assert all(order.index(parent.hash) < order.index(cell.hash) for parent in cell.parents)
    for cell in cells:
        result = results[cell.hash]
        assert result["sampler"] == ("mixture" if "test" in [command.run for command in cell.commands] else None)
        assert result["figures"]["test/accuracy"] == {"plain": 0.5, "second": 0.75}[cell.name]
        assert (result["seed"], result["scale"], result["quick"]) == (cell.seed, "miniature", False)
        assert 0 <= result["seconds"] < 60
        assert result["peak_memory"] > 2**20
        assert result["commit"]
    assert "[6/6] done " in said[-1]
    assert said[-1].endswith("nothing left")
    assert {args[-2] for args in calls()} == {str(max(1, cpu_cores() // 2))}


def test_finished_cells_are_not_run_again(study, work, calls):
    cells = cells_of(study, 0, SETTING)
    run_cells(cells, work, 1, say=quiet)
    before, kept = calls(), lines(work)
    assert run_cells(cells, work, 1, say=quiet) == pending(cells, work) == []
    shutil.copytree(work.cells, work.root / "kept")
    shutil.rmtree(work.cells)
    assert pending(cells, work) == []  # the results are there
    assert [cell.name for cell in pending(cells, work, [cells[1].hash])] == ["first", "second"]
    (work.root / "kept").rename(work.cells)
    work.results_file.write_text(json.dumps(kept[0]) + "\n" + json.dumps(kept[1])[:40])  # killed while it wrote
    run_cells(cells, work, 1, say=quiet)
    assert calls() == before
    assert {result["cell"]: result["figures"] for result in kept} == {
        key: result["figures"] for key, result in work.results().items()
    }


def test_a_step_resumes_from_its_last_checkpoint_or_begins_anew(study, work, calls):
    cells = cells_of(study, 0, SETTING)
    folder = work.folder(next(cell for cell in cells if cell.name == "plain"))
    (folder / "fit").mkdir(parents=True)
    (folder / "fit" / "half.ckpt").touch()  # of a killed run, which cannot resume from it
    run_cells(cells, work, 1, say=quiet)
    assert not (folder / "fit" / "half.ckpt").exists()
    assert not any("--resume" in args for args in calls())
    (folder / "steps.json").unlink()
    work.results_file.unlink()
    run_cells(cells, work, 1, say=quiet)
    assert [args[0] for args in calls() if "--resume" in args] == ["fit"]


@pytest.fixture
def interrupted(written, work, calls, tmp_path):
    """Returns a function that sends a signal to a run whose second cell hangs, and the study's cells."""
    values = content()
    values["cells"]["first"]["steps"][0]["args"] = f"--once {tmp_path / 'once'}"
    cells = cells_of(written(values), 0, SETTING)
    script = f"""
        import signal, sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from small_study import FAKE
        from uniemo.cli import main
        from uniemo.studies import make
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits it ignored
        make.PROGRAM = FAKE
        args = [{str(tmp_path / "tablex.yaml")!r}, "--seeds", "0", "--jobs", "1", "--work", {str(work.root)!r}]
        sys.exit(main(["reproduce", *args]))
    """

    def interrupt(number):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)], start_new_session=True, stdout=subprocess.DEVNULL
        )
        while not (tmp_path / "once").exists():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        return process.wait(timeout=60)

    return interrupt, cells


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_its_commands_and_goes_on_later(number, interrupted, work, calls):
    interrupt, cells = interrupted
    assert interrupt(number) == 130
    with work.locked():  # no command has stayed behind
        assert [result["name"] for result in lines(work)] == ["plain"]
    assert [cell.name for cell in run_cells(cells, work, 1, say=quiet)] == ["first", "second"]
    fits = [args for args in calls() if args[0] == "fit"]
    assert ["--resume" in args for args in fits] == [False, False, True, False]  # plain, first twice, second


def test_after_a_kill_the_folder_waits_for_the_command_that_is_left(interrupted, work, calls, tmp_path):
    interrupt, cells = interrupted
    assert interrupt(signal.SIGKILL) == -signal.SIGKILL
    with pytest.raises(UniEmoError, match="a command that a killed run has left"):
        run_cells(cells, work, 1, say=quiet)
    (left,) = (pid for pid in filter(str.isdigit, os.listdir("/proc")) if is_ours(pid, tmp_path))
    os.kill(int(left), signal.SIGKILL)
    deadline = time.monotonic() + 20
    while True:
        try:
            run_cells(cells, work, 1, say=quiet)
            break
        except UniEmoError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert pending(cells, work) == []
    assert len([args for args in calls() if args[0] == "fit"]) == 4  # nothing was started after the kill


def is_ours(pid, tmp_path):
    """Whether a process is a command of this test."""
    try:
        return f"{tmp_path / 'once'}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def test_two_runs_do_not_share_a_folder(work):
    again = WorkFolder(work.root).locked()
    with work.locked(), pytest.raises(UniEmoError, match="--work must be a folder in which nothing runs"), again:
        pass


def test_cells_run_at_once_each_on_a_gpu_of_its_own(written, work, calls, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    values = content()
    del values["rows"][4:], values["checks"]
    values["rows"] += [{"label": "Again", "cell": "plain", "with": {"accuracy": 0.6}}]
    values["cells"]["plain"]["steps"][0]["args"] = f"{{tower}} --meet {tmp_path / 'meeting'}"
    cells = cells_of(written(values), 0, SETTING)
    assert len(run_cells(cells, work, 2, gpus=2, say=quiet)) == 2
    assert {args[-1] for args in calls() if args[0] == "fit"} == {"5", "7"}


def test_shares_of_the_machine(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("MAKEFLAGS", "j")
    shares = environment(cpu_cores(), 2)
    assert (shares["OMP_NUM_THREADS"], shares["MKL_NUM_THREADS"], shares["CUDA_VISIBLE_DEVICES"]) == ("1", "1", "0,1")
    assert "MAKEFLAGS" not in shares
