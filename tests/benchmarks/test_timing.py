"""The helper that every speed benchmark shares."""

import sys

import pytest

from benchmarks.tables import fill
from benchmarks.timing import Child, Times, Turn, interleave, report, spread


def test_ways_take_turns_and_warm_up_does_not_count():
    order = []

    def way(name, samples):
        order.append(name)
        return Turn(seconds=2.0 * len(order), samples=samples)

    times = interleave({"a": lambda: way("a", 4), "b": lambda: way("b", 2)}, repeats=2, warmup=1, say=False)
    assert order == ["a", "b"] * 3
    assert times.seconds == {"a": [6 / 4, 10 / 4], "b": [8 / 2, 12 / 2]}
    assert times.samples == {"a": 4, "b": 2}


def test_ratio_is_taken_round_by_round():
    times = Times({"fast": [1.0, 2.0, 1.0], "slow": [3.0, 4.0, 4.0]}, {"fast": 1, "slow": 1})
    assert times.ratio("fast", "slow") == {
        "median": 3.0,
        "low": 2.0,
        "high": 4.0,
        "deviation": pytest.approx(1.0),
    }
    assert spread([2.0])["deviation"] == 0


def test_child_does_its_turns_in_another_process():
    code = "import os; from benchmarks.timing import Turn, serve; serve(lambda: Turn(0.5, os.getpid()))"
    child = Child([sys.executable, "-c", code])
    first, second = child(), child()
    assert first.seconds == 0.5
    assert first.samples == second.samples == child.process.pid
    assert child.figures()["peak MiB"] > 1
    assert child.process.returncode == 0


def test_page_takes_the_tables_of_the_files_beside_it(tmp_path):
    where = {"cores": 2, "processor": "x", "memory GiB": 1, "threads": 2, "python": "3", "commit": "c", "date": "d"}
    where |= {"versions": {"torch": "2", "lightning": "2"}, "load at start": 0.0}
    times = Times({"a": [1.0], "b": [2.0]}, {"a": 1, "b": 1}, {"a": [1.0], "b": [3.0]}, where)
    report("speed", times, [("a", "b")], tmp_path / "speed.json")
    (tmp_path / "other.json").write_text("{}")
    page = tmp_path / "README.md"
    rest = "<!-- speed:end -->\nafter\n<!-- other:start -->\nx\n<!-- other:end -->\n"
    page.write_text(f"before\n<!-- speed:start -->\nold\n{rest}")
    assert fill(page) == fill(page) == ["speed"]
    text = page.read_text()
    assert "| a : b | 2.000 (2.000 to 2.000) | 3.000 (3.000 to 3.000) |" in text
    assert "old" not in text
    assert text.startswith("before\n<!-- speed:start -->\n**speed**")
    assert text.endswith(rest)
