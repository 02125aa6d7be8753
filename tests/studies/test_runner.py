"""The runner, with real processes of a small program that stands for ``uniemo``."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from small_study import content

from uniemo.errors import UniEmoError
from uniemo.studies.cells import Setting, cells_of, with_parents
from uniemo.studies.runner import cores, default_jobs, environment, pending, run_cells
from uniemo.studies.work import WorkFolder

SETTING = Setting()


def quiet(line):
    pass


def lines(work):
    return [json.loads(line) for line in work.ledger.path.read_text().splitlines()]


def test_a_run_makes_every_cell_once_parents_first(study, work, fake, calls):
    cells = [cell for seed in (0, 1) for cell in cells_of(study, seed, SETTING)]
    said = []
    summary = run_cells(cells, work, 2, processes=fake, say=said.append)
    assert (len(summary.done), summary.before, summary.failed) == (6, [], [])  # plain, first, second for two seeds
    ran = [words for words in calls() if words[0] == "fit"]
    assert len(ran) == 6
    order = [cell.hash for cell in summary.done]
    for cell in with_parents(cells):
        assert all(order.index(parent.hash) < order.index(cell.hash) for parent in cell.parents)
    results = {record["cell"]: record for record in lines(work)}
    for cell in cells:
        record = results[cell.hash]
        assert record["figures"]["test/accuracy"] == {"plain": 0.5, "second": 0.75}[cell.name]
        assert (record["seed"], record["scale"], record["quick"]) == (cell.seed, "miniature", False)
        assert 0 <= record["seconds"] < 60
        assert record["peak_memory"] > 2**20  # some megabytes: of the command, or of the process that started it
        assert record["commit"]
    assert "nothing left" in said[-1]
    assert {words[-1] for words in calls()} == {str(max(1, cores() // 2))}


def test_finished_cells_are_not_run_again(study, work, fake, calls):
    cells = cells_of(study, 0, SETTING)
    run_cells(cells, work, 1, processes=fake, say=quiet)
    before = calls()
    again = run_cells(cells, work, 1, processes=fake, say=quiet)
    assert calls() == before
    assert (len(again.done), len(again.before)) == (0, 3)
    assert pending(cells, work) == []


def test_what_is_missing_is_made_again_where_it_is_needed(study, work, fake, calls):
    cells = cells_of(study, 0, SETTING)
    run_cells(cells, work, 1, processes=fake, say=quiet)
    shutil.rmtree(work.cells)
    assert pending(cells, work) == []  # the results are there
    assert [cell.name for cell in pending(cells, work, [cells[1].hash])] == ["first", "second"]
    kept = [record for record in lines(work) if record["name"] != "second"]
    work.ledger.path.write_text("".join(json.dumps(record) + "\n" for record in kept))
    assert [cell.name for cell in pending(cells, work)] == ["first", "second"]


def test_a_failing_cell_stops_what_needs_it_alone(written, work, fake, calls):
    values = content()
    values["cells"]["first"]["steps"][0]["words"] = "--fail"
    said = []
    summary = run_cells(cells_of(written(values), 0, SETTING), work, 1, processes=fake, say=said.append)
    assert [cell.name for cell in summary.done] == ["plain"]
    assert [cell.name for cell in summary.left_out] == ["second"]
    ((failed, why),) = summary.failed
    assert failed.name == "first"
    assert "uniemo fit ended with code 2: error: this is why" in why
    assert Path(why.rpartition("(")[2].rstrip(")")).read_text().startswith("working")
    assert any("FAILED" in line for line in said)
    assert "first" not in {record["name"] for record in lines(work)}


def test_a_failed_step_is_tried_again_and_goes_on_from_its_last_checkpoint(written, work, fake, calls, tmp_path):
    values = content()
    cells = cells_of(written(values), 0, SETTING)
    folder = work.folder(next(cell for cell in cells if cell.name == "plain"))
    (folder / "fit").mkdir(parents=True)
    (folder / "fit" / "half.ckpt").touch()  # a killed run's, which it cannot go on from
    run_cells(cells, work, 1, processes=fake, say=quiet)
    assert not (folder / "fit" / "half.ckpt").exists()
    assert not any("--resume" in words for words in calls())
    (folder / "steps.json").unlink()
    work.ledger.path.unlink()
    run_cells(cells, work, 1, processes=fake, say=quiet)
    assert [words[0] for words in calls() if "--resume" in words] == ["fit"]


def test_a_result_lost_at_the_last_moment_is_found(study, work, fake, calls):
    cells = cells_of(study, 0, SETTING)
    run_cells(cells, work, 1, processes=fake, say=quiet)
    kept = lines(work)
    work.ledger.path.write_text(json.dumps(kept[0]) + "\n" + json.dumps(kept[1])[:40])  # killed while it wrote
    before = calls()
    run_cells(cells, work, 1, processes=fake, say=quiet)
    assert calls() == before
    known = work.ledger.read()
    assert {record["cell"]: record["figures"] for record in kept} == {
        key: value["figures"] for key, value in known.items()
    }


def interrupted(tmp_path, number):
    """Run a study in a process that gets a signal while its first cell hangs; returns its exit code and output."""
    script = f"""
        import signal
        import sys
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell inherits it ignored
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from pathlib import Path
        from small_study import FAKE
        from uniemo.studies.cells import Setting, cells_of
        from uniemo.studies.process import Processes
        from uniemo.studies.reading import read_study
        from uniemo.studies.runner import run_cells
        from uniemo.studies.work import WorkFolder
        try:
            work = WorkFolder(Path({str(tmp_path / "work")!r}))
            cells = cells_of(read_study({str(tmp_path / "tablex.yaml")!r}), 0, Setting())
            run_cells(cells, work, 1, processes=Processes(program=FAKE))
        except KeyboardInterrupt:
            sys.exit(130)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], start_new_session=True)
    while not (tmp_path / "once").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    return process.wait(timeout=60)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_its_commands_and_goes_on_later(number, written, work, fake, calls, tmp_path):
    values = content()
    values["cells"]["first"]["steps"][0]["words"] = f"--once {tmp_path / 'once'}"
    study = written(values)
    assert interrupted(tmp_path, number) == 130
    with work.locked():  # no command has stayed behind
        done = [record["name"] for record in lines(work)]
    assert done == ["plain"]
    summary = run_cells(cells_of(study, 0, SETTING), work, 1, processes=fake, say=quiet)
    assert [cell.name for cell in summary.done] == ["first", "second"]
    fits = [words for words in calls() if words[0] == "fit"]
    assert len(fits) == 4  # plain once, first twice, second once
    assert ["--resume" in words for words in fits] == [False, False, True, False]


def test_after_a_kill_the_folder_waits_for_the_command_that_is_left(written, work, fake, calls, tmp_path):
    values = content()
    values["cells"]["first"]["steps"][0]["words"] = f"--once {tmp_path / 'once'}"
    study = written(values)
    assert interrupted(tmp_path, signal.SIGKILL) == -signal.SIGKILL
    with pytest.raises(UniEmoError, match="a command that a killed run has left"):
        run_cells(cells_of(study, 0, SETTING), work, 1, processes=fake, say=quiet)
    (left,) = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _is_ours(pid, tmp_path)]
    os.kill(left, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while _runs(left) and time.monotonic() < deadline:
        time.sleep(0.02)
    run_cells(cells_of(study, 0, SETTING), work, 1, processes=fake, say=quiet)
    assert pending(cells_of(study, 0, SETTING), work) == []


def _is_ours(pid, tmp_path):
    """Whether a process is a command of this test that runs."""
    try:
        return f"{tmp_path / 'once'}".encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def _runs(pid):
    """Whether a process is there and more than a zombie; a dying one loses its command line before its lock."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_two_runs_do_not_share_a_folder(work):
    again = WorkFolder(work.root).locked()
    with work.locked(), pytest.raises(UniEmoError, match="--work must be a folder in which nothing runs"), again:
        pass


def test_cells_run_at_once(written, work, fake, calls, tmp_path):
    """Two cells of which each waits until the other has begun."""
    values = content()
    del values["rows"][4:], values["checks"]
    values["rows"] += [{"label": "Again", "cell": "plain", "with": {"accuracy": 0.6}}]
    cells = cells_of(written(values), 0, SETTING)
    assert len(cells) == 2
    meeting = threading.Barrier(2, timeout=30)

    class Meeting(type(fake)):
        def run(self, words, log, environment):
            if words[0] == "fit":
                meeting.wait()
            return super().run(words, log, environment)

    summary = run_cells(cells, work, 2, processes=Meeting(program=fake.program), say=quiet)
    assert len(summary.done) == 2


def test_shares_of_the_machine(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert default_jobs(4) == 4
    assert 1 <= default_jobs(0) <= 8
    assert environment(1, cores(), 0) == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    assert [environment(slot, 3, 2)["CUDA_VISIBLE_DEVICES"] for slot in range(3)] == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert environment(1, 2, 2)["CUDA_VISIBLE_DEVICES"] == "7"
