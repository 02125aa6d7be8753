import base64
import io
import json
from xml.etree import ElementTree

import pytest
from PIL import Image

from tests.report.pages import Page, assert_self_contained, write_events, write_run
from uniemo.cli import main


def report(folder, capsys, *args):
    assert main(["report", str(folder), *args]) == 0
    output = capsys.readouterr().out.removeprefix("wrote ").strip()
    with open(output, encoding="utf-8") as file:
        page = Page(file.read())
    assert_self_contained(page)
    return page


def test_what_a_run_holds(tmp_path, capsys):
    page = report(write_run(tmp_path / "joint"), capsys)
    words = page.words()
    assert words[words.index("accuracy ↑") + 1] == "87.50 %"
    assert words[words.index("balanced accuracy ↑") + 1] == "75.00 %"
    assert words[words.index("FID ↓") + 1] == "12.35"
    assert words[words.index("Emo-A ↑") + 1 : words.index("Emo-A ↑") + 3] == ["50.00 %", "real 91.25 %"]
    emotion = words.index("awe")
    assert words[emotion : emotion + 3] == ["awe", "100.00", "25.00"]  # accuracy and Emo-A, in percent
    assert words[words.index("object queries") + 1] == "40.0 %"
    assert words[words.index("seed_everything") + 1] == "3"
    assert "Generated images, validation" in words
    assert "After epoch 2. Those of 1 earlier epochs are in images/." in words
    # the confusion matrix, in percent of rows
    cells = [one for one in page.all("td") if "title" in one]
    assert [one["title"] for one in cells] == [
        "3 of 3 awe: awe",
        "0 of 3 awe: fear",
        "1 of 2 fear: awe",
        "1 of 2 fear: fear",
    ]
    assert {"50", "100"} <= set(page.words("td"))


def test_pictures_and_curves_are_inside(tmp_path, capsys):
    page = report(write_run(tmp_path / "joint"), capsys)
    (picture,) = (one for one in page.all("img") if "width" in one)
    content = base64.b64decode(picture["src"].removeprefix("data:image/png;base64,"))
    image = Image.open(io.BytesIO(content))
    assert image.size == (int(picture["width"]), int(picture["height"])) == (8, 6)
    assert image.getpixel((1, 2)) == (0, 0, 255)
    assert image.getpixel((0, 0)) == (255, 0, 0)
    (chart,) = (one for one in page.all("img") if one["src"].startswith("data:image/svg+xml;base64,"))
    assert chart["alt"] == "loss: total: from 2 at step 0 to 0.5 at step 20"
    svg = base64.b64decode(chart["src"].partition(",")[2])
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert b"<text" in svg


def test_every_text_is_escaped(tmp_path, capsys):
    nasty = '<img src=x onerror="alert(1)">&amp;\'</pre></style><script>alert(2)</script>'
    run = write_run(tmp_path / "<b>run", emotions=["a<script>we", 'fe&ar"'], data={"init_args": {"root": nasty}})
    write_events(run, {"loss/<i>x": [(0, 1.0), (1, 2.0)]})
    (run / "index.jsonl").write_text(json.dumps({"emotion": nasty, "prompt": nasty}) + "\n")
    page = report(run, capsys)
    assert not {"i", "script"} & {tag for tag, _ in page.elements}
    assert {one["src"][:5] for one in page.all("img")} == {"data:"}
    assert "<b>run" in page.words("h1")
    assert "a<script>we" in page.words("th")
    assert nasty in page.words("dd")
    assert any("loss: <i>x" in text for text in page.words("span"))


def test_a_run_that_was_not_tested_shows_its_validation(tmp_path, capsys):
    run = tmp_path / "understanding"
    run.mkdir()
    write_events(run, {"val/accuracy": [(9, 0.25), (19, 0.5)]})
    words = report(run, capsys).words()
    assert words[words.index("accuracy ↑") + 1] == "50.00 %"
    assert "Metrics of the last validation." in words


def test_files_that_cannot_be_read_are_named(tmp_path, capsys):
    run = write_run(tmp_path / "run")
    (run / "test_confusion.json").write_text("{")
    (run / "test_generation.json").write_text("[1]")
    (run / "images" / "broken.png").write_bytes(b"no picture")
    (run / "test.json").write_text('{"test/accuracy": 0.5, "test/FID[tiny]": null, "test/LPIPS[tiny]": NaN}')
    words = report(run, capsys).words("p")
    for name in ("test_confusion.json", "test_generation.json", "broken.png"):
        assert any(text.startswith(f"{name} is left out: ") for text in words)


def test_a_folder_of_runs_is_one_page(tmp_path, capsys):
    for name in ("joint", "feedback"):
        write_run(tmp_path / "demo" / name)
    (tmp_path / "demo" / "empty").mkdir()
    page = report(tmp_path / "demo", capsys, "--output", str(tmp_path / "demo.html"))
    assert sorted(page.words("h2")) == ["feedback", "joint"]
    anchors = {one["id"] for one in page.all("h2")}
    assert {one["href"] for one in page.all("a")} == {f"#{name}" for name in anchors}
    assert "At a glance" in page.words("h3")


def test_generated_and_kept_images_are_counted(tmp_path, capsys):
    rows = [{"emotion": emotion, "emo_a": value} for emotion, value in (("awe", 0.25), ("awe", 0.75), ("fear", 1.0))]
    (tmp_path / "kept.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = report(tmp_path, capsys).words()
    place = words.index("Kept by uniemo filter")
    assert words[place + 1 : place + 10] == [
        "emotion",
        "images",
        "mean Emo-A",
        "awe",
        "2",
        "0.500",
        "fear",
        "1",
        "1.000",
    ]


def test_an_earlier_report_is_replaced_another_file_is_not(tmp_path, capsys):
    run, other = write_run(tmp_path / "run"), tmp_path / "thesis.html"
    report(run, capsys)
    report(run, capsys, "--output", str(run / "report.html"))
    other.write_text("<p>mine")
    assert main(["report", str(run), "--output", str(other)]) == 2
    assert "--output must be a new file or an earlier report" in capsys.readouterr().err
    assert other.read_text() == "<p>mine"


def test_the_run_s_own_folder_is_tried_before_work(tmp_path, capsys, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)  # the superuser may write anywhere
    monkeypatch.setattr("uniemo.report.run_page.read_runs", lambda folder: pytest.fail("worked"))
    assert main(["report", str(write_run(tmp_path / "run"))]) == 2
    assert "--output must lie in a folder that can be written to" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("{empty}", "RUN must be a folder that uniemo fit"),
        ("tabel4", "did you mean table4"),
        ("{empty}/x", "or all; got"),
    ],
)
def test_one_line_about_what_is_neither(tmp_path, capsys, target, words):
    assert main(["report", target.format(empty=tmp_path)]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_work_folder_of_studies_is_told_from_a_run(tmp_path, capsys):
    (tmp_path / "cells").mkdir()
    assert main(["report", str(tmp_path)]) == 2
    assert f"all, with --work {tmp_path}\n" in capsys.readouterr().err
