"""Tables, claims, plots and the page, against numbers worked out here."""

import json
import statistics

import pytest
from PIL import Image
from small_study import content

from uniemo.studies.cells import Setting, cells_of
from uniemo.studies.checks import compare, verdict
from uniemo.studies.ledger import Ledger
from uniemo.studies.measured import find_figure, measured, networks
from uniemo.studies.plots import draw
from uniemo.studies.results import write_results
from uniemo.studies.tables import latex, markdown

SETTING = Setting()
PLAIN, OURS = {0: 0.50, 1: 0.54, 2: 0.52}, {0: 0.60, 1: 0.66, 2: 0.63}


def records(study, plain=PLAIN, ours=OURS, setting=SETTING):
    """Results as the runner leaves them."""
    found = {}
    for seed in sorted({*plain, *ours}):
        for cell in cells_of(study, seed, setting):
            values = plain if cell.name == "plain" else ours
            if seed in values:
                found[cell.hash] = {
                    "cell": cell.hash,
                    "name": cell.name,
                    "choices": dict(cell.choices),
                    "seed": seed,
                    "scale": setting.scale,
                    "quick": setting.quick,
                    "commit": "abc",
                    "started": "2026-01-01T00:00:00+00:00",
                    "seconds": 5.0,
                    "peak_memory": 10,
                    "cores": 2,
                    "figures": {"test/accuracy": values[seed], "test/FID[tiny]": 10 + seed, "test/FID[tiny]/awe": 99.0},
                }
    return found


def test_figures_are_found_whatever_their_network():
    figures = {
        "test/Emo-A probability[a]": 1.0,
        "test/Emo-A[a]/awe": 2.0,
        "test/Emo-A[a]": 3.0,
        "test/real/Emo-A[a]": 4.0,
    }
    assert find_figure(figures, "Emo-A") == ("a", 3.0)
    assert find_figure({"test/accuracy/awe": 0.1, "test/accuracy": 0.5}, "accuracy") == ("", 0.5)
    assert find_figure(figures, "FID") is None


def test_mean_and_spread(study):
    table = measured(study, SETTING, records(study))
    ours = table["Ours", "Accuracy"]
    assert ours.by_seed == pytest.approx({seed: 100 * value for seed, value in OURS.items()})
    assert ours.mean == pytest.approx(63.0)
    assert ours.spread == pytest.approx(statistics.stdev([60, 66, 63]))
    assert set(table) == {(row, column) for row in ("Plain", "Ours") for column in ("Accuracy", "FID")}
    assert networks(table) == ["tiny"]
    assert measured(study, SETTING, records(study, {0: 0.5}, {}))["Plain", "Accuracy"].spread is None
    assert measured(study, Setting(quick=True), records(study)).get(("Ours", "Accuracy")) is None  # other commands


@pytest.mark.parametrize(("plain", "ours", "said"), [(0.995, 1.0, True), (0.98, 1.0, False), (1.02, 1.01, False)])
def test_a_metric_that_is_full_everywhere_is_said_to_be(study, plain, ours, said):
    table = measured(study, SETTING, records(study, {0: plain}, {0: ours}))
    assert ("Accuracy is within one per cent" in markdown(study, table, SETTING)) == said
    assert "FID is within" not in markdown(study, table, SETTING)


def test_markdown(study):
    text = markdown(study, measured(study, SETTING, records(study)), SETTING)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    assert rows[0] == ["method", "", "Accuracy ↑ %, here", "Accuracy ↑ %, paper", "FID ↓, here", "FID ↓, paper"]
    assert rows[2] == ["**Others**", "", "", "", "", ""]
    assert rows[3] == ["Theirs", "B/32", "–", "70.0", "–", "–"]
    assert rows[4] == ["Plain", "", "52.0 ± 2.0 (3)", "60.0", "**11.00 ± 1.00 (3)**", "9.00"]
    assert rows[6] == ["Ours", "", "**63.0 ± 3.0 (3)**", "80.0", "**11.00 ± 1.00 (3)**", "–"]
    assert rows[7] == ["Large", "", "–", "–", "–", "–"]
    assert {len(row) for row in rows} == {6}
    assert "Not run here (too large): Large." in text
    assert "The paper's alone, not part of this framework: Theirs B/32." in text
    assert "measured with tiny" in text


def test_real_images_stand_beside_the_methods_and_are_never_the_best(written):
    values = content()
    real = {
        "label": "Real images",
        "cell": "plain",
        "with": {"accuracy": 0.5},
        "only": ["Accuracy"],
        "reference": "real",
    }
    study = written({**values, "rows": [real, *values["rows"]]})
    found = records(study)
    for record in found.values():
        record["figures"]["test/real/accuracy"] = 0.99
    table = measured(study, SETTING, found)
    assert table["Real images", "Accuracy"].mean == pytest.approx(99)
    assert ("Real images", "FID") not in table
    lines = markdown(study, table, SETTING).splitlines()
    assert "| 99.0 ± 0.0 (3) |" in next(line for line in lines if line.startswith("| Real images"))
    assert "**63.0 ± 3.0 (3)**" in next(line for line in lines if line.startswith("| Ours"))


def test_latex(study):
    text = latex(study, measured(study, SETTING, records(study)), SETTING)
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{llrrrr}"
    assert r"Plain &  & 52.0 $\pm$ 2.0 (3) & 60.0 & \textbf{11.00 $\pm$ 1.00 (3)} & 9.00 \\" in lines
    heads = [r"Accuracy $\uparrow$ \%", r"FID $\downarrow$"]
    assert (
        " & ".join(["method", "", *(f"{head}, {who}" for head in heads for who in ("here", "paper"))]) + r" \\" in lines
    )
    assert all(line.count("&") == 5 for line in lines if line.endswith(r"\\") and "multicolumn" not in line)
    assert "–" not in text


@pytest.mark.parametrize(
    ("plain", "ours", "word"),
    [
        (PLAIN, OURS, "seen"),
        (OURS, PLAIN, "reversed"),
        ({0: 0.5, 1: 0.6, 2: 0.55}, {0: 0.6, 1: 0.5, 2: 0.56}, "within the spread"),
        ({0: 0.5}, {0: 0.6}, "one seed, seen"),
        ({0: 0.6}, {0: 0.6}, "one seed, not seen"),
        ({0: 0.5}, {1: 0.6}, "not measured"),
        ({0: 0.5}, {}, "not measured"),
        ({0: 0.5, 1: 0.1}, {0: 0.6}, "one seed, seen"),  # pairs of equal seed alone
    ],
)
def test_claims(study, plain, ours, word):
    found = compare(study, study.checks[0], measured(study, SETTING, records(study, plain, ours)))
    assert [one.verdict for one in found] == [word]
    assert verdict(found) == word
    assert found[0].in_paper == 20


def test_a_claim_about_several_figures(written):
    values = content()
    values["checks"][0]["in"] = ["Accuracy", "FID"]
    study = written(values)
    found = compare(study, study.checks[0], measured(study, SETTING, records(study)))
    assert [one.difference for one in found] == pytest.approx([11.0, 0.0])
    differences = [10.0, 12.0, 11.0]
    assert found[0].error == pytest.approx(statistics.stdev(differences) / 3**0.5)
    assert verdict(found) == "in part (1 of 2 comparisons)"
    values["checks"][0].update(better="Plain", than=["Ours", "Large"])
    study = written(values)
    found = compare(study, study.checks[0], measured(study, SETTING, records(study, {0: 0.7}, {0: 0.6})))
    assert verdict(found) == "in part (1 of 4 comparisons, 2 not measured, one seed)"


@pytest.mark.parametrize("kind", ["points", "line"])
def test_plots(written, tmp_path, kind):
    values = content()
    values["plot"] = {"kind": kind, "figure": "Accuracy", "x": "label", "lines": "note", "xlabel": "method"}
    study = written(values)
    table = measured(study, SETTING, records(study))
    files = draw(study, table, SETTING, tmp_path / "plot")
    assert [file.suffix for file in files] == [".png", ".pdf"]
    with Image.open(files[0]) as image:
        assert image.width > 500
    assert files[1].read_bytes().startswith(b"%PDF")
    before = [file.read_bytes() for file in files]
    assert [file.read_bytes() for file in draw(study, table, SETTING, tmp_path / "plot")] == before
    assert draw(study, {}, SETTING, tmp_path / "nothing") == []


def test_the_page(written, tmp_path):
    values = content()
    values["plot"] = {"kind": "points", "figure": "Accuracy", "x": "label", "lines": "note"}
    study = written(values)
    page = tmp_path / "RESULTS.md"
    write_results([study], SETTING, records(study), tmp_path / "out", page, tmp_path / "docs")
    text = page.read_text()
    assert "| [Table X](#table-x-things) | ours above plain | seen |" in text
    assert "![Table X: things](docs/tablex.png)" in text
    assert (tmp_path / "docs" / "tablex.png").is_file()
    assert (tmp_path / "out" / "tablex.tex").is_file()
    assert "Accuracy over Plain: +11 ± 0.58 (paper +20)" in text
    assert "6 cells, 0.0 hours of commands on machines with 2 cores, 2026-01-01, commit abc." in text
    assert "| Table X | `uniemo reproduce tablex --scale paper --data /data --seeds 0` |" in text


def test_the_page_says_that_nothing_was_measured(study, tmp_path):
    write_results([study], SETTING, {}, tmp_path, tmp_path / "RESULTS.md", tmp_path)
    text = (tmp_path / "RESULTS.md").read_text()
    assert "Nothing has been measured yet." in text
    assert "| ours above plain | not measured |" in text


def test_the_last_record_of_a_cell_counts(tmp_path):
    ledger = Ledger(tmp_path / "results.jsonl")
    assert ledger.read() == {}
    ledger.add({"cell": "a", "seconds": 1})
    ledger.add({"cell": "a", "seconds": 2})
    with open(ledger.path, "a") as file:
        file.write('{"cell": "b", "sec')
    ledger.add({"cell": "c"})
    assert ledger.read() == {"a": {"cell": "a", "seconds": 2}, "c": {"cell": "c"}}
    assert [json.loads(line) for line in ledger.path.read_text().splitlines()[-1:]] == [{"cell": "c"}]
