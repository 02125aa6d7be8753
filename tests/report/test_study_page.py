import statistics

import pytest
import yaml
from PIL import Image

from tests.report.pages import Page, assert_self_contained, write_run
from uniemo.cli import main
from uniemo.studies.cells import Setting, cell_of
from uniemo.studies.study_files import read_study
from uniemo.studies.work import WorkFolder, add_result, describe

STUDY = {
    "title": "Table X: <b>things</b>",
    "claim": "A & B differ.",
    "metrics": {"Accuracy": {"key": "accuracy", "percent": True}, "FID": {"key": "FID", "best": "low"}},
    "rows": [
        {"label": "Old", "paper": {"Accuracy": 70.5}},
        {"label": "Ours", "paper": {"Accuracy": 80.25}, "cell": "one", "with": {"rate": "1"}},
        {"label": "Other", "cell": "one", "with": {"rate": "2"}},
        {"label": "Waiting", "cell": "one", "with": {"rate": "3"}},
    ],
    "checks": [{"claim": "ours is better", "better": "Ours", "than": "Other", "in": ["Accuracy", "FID"]}],
    "cells": {"one": {"steps": [{"run": "fit", "args": "--config understanding.yaml --model.head.dropout {rate}"}]}},
}
MEASURED = {"Ours": [(0.8, 20.0), (0.9, 24.0)], "Other": [(0.7, 30.0), (0.62, 26.0)]}


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "tablex.yaml"
    path.write_text(yaml.safe_dump(STUDY))
    work, study = WorkFolder(tmp_path / "work"), read_study(str(path))
    for name, values in MEASURED.items():
        for seed, (accuracy, fid) in enumerate(values):
            cell = cell_of(study, study.row(name), study.columns[0], seed, Setting())
            metrics = {"test/accuracy": accuracy, "test/FID[tiny]": fid}
            about = {"commit": "0123abc", "started": "2026-01-01T00:00:00", "seconds": 60.0, "peak_memory": 2**30}
            add_result(work.results_file, {**describe(cell), **about, "cores": 2, "figures": metrics})
    return path


def report(study, capsys):
    assert main(["report", str(study), "--work", str(study.parent / "work")]) == 0
    output = study.parent / "work" / "miniature" / "tablex.html"
    assert str(output) in capsys.readouterr().out
    page = Page(output.read_text(encoding="utf-8"))
    assert_self_contained(page)
    return page


def test_metrics_are_means_and_spreads_and_the_papers_stand_apart(study, capsys):
    words = report(study, capsys).words()
    place = words.index("Ours")
    spread = statistics.stdev([80.0, 90.0])
    assert words[place : place + 6] == ["Ours", "85.00", f"± {spread:.2f} (2)", "80.25", "22.00", "± 2.83 (2)"]
    assert words[words.index("Old") + 1 : words.index("Old") + 3] == ["–", "70.50"]


def test_the_best_is_ours_alone(study, capsys):
    page = report(study, capsys)
    assert len([one for one in page.all("td") if one.get("class") == "best"]) == 2  # one for each metric
    assert len([one for one in page.all("td") if one.get("class") == "paper"]) == 4  # the paper has no FID


def test_claims_and_cells(study, capsys):
    words = report(study, capsys).words()
    assert "A & B differ." in words
    place = words.index("ours is better:")
    assert words[place + 1] == "too few seeds (2 of 5)"
    assert "4 cells, 4 min of commands" in words
    assert any(text.startswith("Not measured yet: Waiting.") for text in words)
    assert "Table X: <b>things</b>" in words


def test_the_first_seeds_runs_are_shown(study, capsys):
    read, work = read_study(str(study)), WorkFolder(study.parent / "work")
    for name in MEASURED:
        cell = cell_of(read, read.row(name), read.columns[0], 0, Setting())
        write_run(work.folder(cell) / "fit")
    page = report(study, capsys)
    assert [text.split(" (")[0] for text in page.words("summary") if ": fit" in text] == ["Ours: fit", "Other: fit"]
    assert len([one for one in page.all("img") if "width" in one]) == 2
    assert page.words().count("Confusion on the test split") == 2


def test_a_picture_comes_along(study, capsys):
    folder = study.parent / "work" / "miniature"
    folder.mkdir()
    Image.new("RGB", (6, 4), "red").save(folder / "tablex.png")
    (picture,) = report(study, capsys).all("img")
    assert (picture["width"], picture["height"]) == ("6", "4")


def test_all_studies_before_anything_was_measured(tmp_path, capsys):
    output = tmp_path / "all.html"
    assert main(["report", "all", "--work", str(tmp_path / "work"), "--output", str(output)]) == 0
    capsys.readouterr()
    page = Page(output.read_text(encoding="utf-8"))
    assert_self_contained(page)
    headings = " ".join(page.words("h2"))
    for name in ("Table I:", "Table IV:", "Fig. 5:", "Fig. 9:", "Fig. 10:"):
        assert name in headings


def test_paper_scale_needs_its_data(tmp_path, capsys):
    assert main(["report", "table4", "--scale", "paper"]) == 2
    assert "--data must name the folder" in capsys.readouterr().err
