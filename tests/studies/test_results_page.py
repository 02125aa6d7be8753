import pytest
from PIL import Image
from results import five, results
from small_study import content

from uniemo.studies.cells import Setting
from uniemo.studies.measured import measured
from uniemo.studies.plots import plot_study
from uniemo.studies.results_page import write_results

SETTING = Setting()


@pytest.fixture
def plotted(written):
    """Returns a function that reads the small study with a plot of a kind."""
    plot = {"metric": "Accuracy", "x": "label", "lines": "note", "xlabel": "method"}
    return lambda kind: written({**content(), "plot": {"kind": kind, **plot}})


@pytest.mark.parametrize("kind", ["points", "line"])
def test_plots(plotted, tmp_path, kind):
    study = plotted(kind)
    table = measured(study, SETTING, results(study))
    files = plot_study(study, table, SETTING, tmp_path / "plot")
    assert [file.suffix for file in files] == [".png", ".pdf"]
    with Image.open(files[0]) as image:
        assert image.width > 500
    assert files[1].read_bytes().startswith(b"%PDF")
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in plot_study(study, table, SETTING, tmp_path / "plot")] == before
    assert plot_study(study, {}, SETTING, tmp_path / "nothing") == []


def test_the_page(plotted, tmp_path):
    study, page = plotted("points"), tmp_path / "RESULTS.md"
    found = results(study, five(0.50, 0.54, 0.52, 0.51, 0.53), five(0.60, 0.66, 0.63, 0.61, 0.62))
    write_results([study], SETTING, found, tmp_path / "out", page, tmp_path / "docs")
    text = page.read_text()
    assert "| [Table X](#table-x-things) | ours above plain | seen |" in text
    assert "1 of 1 claims could be tested, and p is corrected for their number. Of all: 1 seen." in text
    assert "![Table X: things](docs/tablex.png)" in text
    assert (tmp_path / "docs" / "tablex.png").is_file()
    assert (tmp_path / "out" / "tablex.tex").is_file()
    assert (tmp_path / "out" / "tablex.md").read_text() in text
    assert "- ours above plain: **seen**. Gains: Accuracy over Plain: +10.4 ± 0.51, p < 0.0001 (paper +20).\n" in text
    assert "10 cells, 0.0 hours of commands on machines with 2 cores, 2026-01-01, commit abc." in text
    assert "| Table X | `uniemo reproduce tablex --scale paper --data /data --seeds 0` |" in text


def test_the_page_says_that_nothing_was_measured(study, tmp_path):
    write_results([study], SETTING, {}, tmp_path, tmp_path / "RESULTS.md", tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "Nothing has been measured yet." in text
    assert "| ours above plain | not measured |" in text
