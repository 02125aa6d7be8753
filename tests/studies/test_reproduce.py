"""``uniemo reproduce`` as a user gives it, the last test with the real ``uniemo`` behind it."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml
from small_study import content

from uniemo.cli import main
from uniemo.studies.study_files import known_studies


@pytest.fixture
def own(tmp_path, monkeypatch, calls):
    """A study of one's own in the working directory, its commands the fake one."""
    monkeypatch.chdir(tmp_path)
    values = content()
    values["plot"] = {"kind": "points", "metric": "Accuracy", "x": "label", "lines": "note"}
    Path("own.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    return values


def test_a_study_of_ones_own(own, calls, capsys):
    assert main(["reproduce", "own.yaml", "--jobs", "1"]) == 0
    assert "6 cells run, 0 were there" in capsys.readouterr().out
    folder = Path("runs/studies/miniature")
    assert {path.name for path in folder.iterdir()} >= {"own.md", "own.tex", "own.png", "own.pdf", "RESULTS.md"}
    assert "**75.0 ± 0.0 (2)**" in (folder / "own.md").read_text()
    assert "| ours above plain | too few seeds (2 of 5) |" in (folder / "RESULTS.md").read_text()
    before = len(calls())
    assert main(["reproduce", "own.yaml", "--jobs", "1", "--seeds", "0"]) == 0
    assert "0 cells run, 3 were there" in capsys.readouterr().out
    assert main(["reproduce", "own.yaml", "--no-run", "--results", "page/RESULTS.md"]) == 0
    assert "docs/results/own.png" in Path("page/RESULTS.md").read_text()
    assert Path("page/docs/results/own.png").is_file()
    assert len(calls()) == before


def test_a_failure_is_listed_and_is_no_success(own, calls, capsys):
    own["cells"]["first"]["steps"][0]["args"] = "--fail"
    Path("own.yaml").write_text(yaml.safe_dump(own, sort_keys=False))
    assert main(["reproduce", "own.yaml", "--jobs", "1", "--seeds", "0"]) == 1
    said = capsys.readouterr().out
    assert "\nFAILED first seed 0: uniemo fit ended with code 2: error: this is why" in said
    assert "\nleft out, for what it needs has failed: second" in said
    assert "1 cells run, 0 were there" in said


def test_a_dry_run_prints_commands_and_runs_none(own, calls, capsys):
    assert main(["reproduce", "own.yaml", "--dry-run", "--seeds", "1", "--jobs", "2"]) == 0
    said = capsys.readouterr().out.splitlines()
    commands = [shlex.split(line) for line in said if not line.startswith("#")]
    assert [args[:2] for args in commands] == [["uniemo", name] for name in ("fit", "test", "fit", "fit", "test")]
    assert all("--seed_everything 1" in line for line in said if line.startswith("uniemo fit"))
    assert said[-1].startswith("# 3 cells of own; about ")
    assert said[-1].endswith("min with 2 at once")
    assert calls() == []
    assert not Path("runs").exists()


def test_a_first_look_at_everything_takes_at_most_an_hour_by_the_table(tmp_path, capsys):
    """The estimate, from the table of rough costs; the measured time stands in RESULTS.md."""
    args = ["reproduce", "all", "--dry-run", "--quick", "--seeds", "0", "--jobs", "2", "--work", str(tmp_path)]
    assert main(args) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert all(name in last for name in known_studies())
    assert int(last.split(", ")[-1].split()[0]) <= 60


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["table9"], "a study must be one of table1"),
        (["table1", "--scale", "paper"], "--data must be the folder that holds EmoSet"),
        (["table1", "--seeds", "-1"], "must be at least 0; got -1"),
        (["table1", "--jobs", "0"], "must be at least 1; got 0"),
        (["table1", "--qick"], "uniemo reproduce has no option --qick: did you mean --quick?"),
        ([], "the following arguments are required: STUDY"),
        (["table1", "--dry-run", "--no-run"], "not allowed with argument"),
    ],
)
def test_mistakes(args, said, capsys):
    assert main(["reproduce", *args]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_make_targets():
    """``make table4 SEEDS=1 QUICK=1`` and the like, as make would run them."""

    def made(*args):
        outer = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}  # of make test
        command, root = ["make", "--no-print-directory", "-n", *args], Path(__file__).parents[2]
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True, env=outer)
        return " ".join(done.stdout.replace("\\\n", " ").split())

    assert made("table4", "SEEDS=1", "QUICK=1").endswith("uniemo reproduce --scale miniature --quick --seeds 0 table4")
    assert made("reproduce", "SEEDS=3", "JOBS=2").endswith("reproduce --scale miniature --jobs 2 --seeds 0 1 2 all")
    assert made("fig10", "SCALE=paper", "DATA=/d").endswith("reproduce --scale paper --data '/d' fig10")
    text = made(*known_studies())
    assert all(f"reproduce --scale miniature {name}" in text for name in known_studies())


def test_with_the_real_command(tmp_path, monkeypatch, capsys):
    """A cell whose one step paints a few pictures: the whole way through a real process."""
    monkeypatch.chdir(tmp_path)
    study = {
        "title": "Table Y: paintings",
        "claim": "they can be made",
        "metrics": {"Accuracy": {"key": "accuracy"}},
        "rows": [{"label": "Painted", "cell": "painted"}],
        "cells": {"painted": {"steps": [{"run": "data synthesize", "args": "--layout fi-splits --images 24"}]}},
    }
    Path("own.yaml").write_text(yaml.safe_dump(study))
    assert main(["reproduce", "own.yaml", "--seeds", "5", "--jobs", "1"]) == 0, capsys.readouterr().out
    (result,) = [json.loads(line) for line in Path("runs/studies/results.jsonl").read_text().splitlines()]
    (folder,) = Path("runs/studies/cells").iterdir()
    assert (result["cell"], result["figures"]) == (folder.name, {})
    assert len(list((folder / "synthesize").rglob("*.jpg"))) == 24
    assert "painted 24 images" in (folder / "1_synthesize.log").read_text()
    assert [step["into"] for step in json.loads((folder / "steps.json").read_text())] == ["synthesize"]
