"""Measurements and tables, against numbers worked out here."""

import copy
import statistics
from pathlib import Path

import pytest
from results import OURS, results
from small_study import content

from uniemo.errors import UniEmoError
from uniemo.studies.cells import Setting, resolve
from uniemo.studies.measured import find_metric, measured, networks
from uniemo.studies.tables import latex, markdown

SETTING = Setting()


def test_metrics_are_found_whatever_their_network():
    metrics = {
        "test/Emo-A probability[a]": 1.0,
        "test/Emo-A[a]/awe": 2.0,
        "test/Emo-A[a]": 3.0,
        "test/real/Emo-A[a]": 4.0,
    }
    assert find_metric(metrics, "Emo-A") == ("a", 3.0)
    assert find_metric(metrics, "real/Emo-A") == ("a", 4.0)
    assert find_metric({"test/accuracy/awe": 0.1, "test/accuracy": 0.5}, "accuracy") == ("", 0.5)
    assert find_metric(metrics, "FID") is None


def test_mean_and_spread(study):
    table = measured(study, SETTING, results(study))
    ours = table["Ours", "Accuracy"]
    assert ours.by_seed == pytest.approx({seed: 100 * value for seed, value in OURS.items()})
    assert ours.mean == pytest.approx(63.0)
    assert ours.spread == pytest.approx(statistics.stdev([60, 66, 63]))
    assert set(table) == {(row, column) for row in ("Plain", "Ours") for column in ("Accuracy", "FID")}
    assert networks(table) == ["tiny"]
    assert measured(study, SETTING, results(study, {0: 0.5}, {}))["Plain", "Accuracy"].spread is None
    assert measured(study, Setting(quick=True), results(study)).get(("Ours", "Accuracy")) is None  # other commands


@pytest.mark.parametrize(("plain", "ours", "said"), [(0.995, 1.0, True), (0.98, 1.0, False), (1.02, 1.01, False)])
def test_a_saturated_metric_is_said_to_be(study, plain, ours, said):
    table = measured(study, SETTING, results(study, {0: plain}, {0: ours}))
    assert ("Accuracy is within one per cent" in markdown(study, table, SETTING)) == said
    assert "FID is within" not in markdown(study, table, SETTING)


def test_markdown(study):
    text = markdown(study, measured(study, SETTING, results(study)), SETTING)
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


def test_a_metric_that_the_paper_does_not_print_has_no_column_for_it(written):
    values = content()
    del values["rows"][2]["paper"]["FID"]
    assert "FID ↓, here |\n" in markdown(written(values), {}, SETTING)


def test_real_images_stand_beside_the_methods_and_are_never_the_best(written):
    values = content()
    real = {"label": "Real images", "cell": "plain", "with": {"accuracy": 0.5}, "only": "Accuracy", "reference": "real"}
    study = written({**values, "rows": [real, *values["rows"]]})
    found = results(study)
    for result in found.values():
        result["figures"]["test/real/accuracy"] = 0.99
    table = measured(study, SETTING, found)
    assert table["Real images", "Accuracy"].mean == pytest.approx(99)
    assert ("Real images", "FID") not in table
    lines = markdown(study, table, SETTING).splitlines()
    assert "| 99.0 ± 0.0 (3) |" in next(line for line in lines if line.startswith("| Real images"))
    assert "**63.0 ± 3.0 (3)**" in next(line for line in lines if line.startswith("| Ours"))


def test_latex(study):
    text = latex(study, measured(study, SETTING, results(study)), SETTING)
    lines = text.splitlines()
    assert lines[0] == r"\begin{tabular}{llrrrr}"
    assert r"Plain &  & 52.0 $\pm$ 2.0 (3) & 60.0 & \textbf{11.00 $\pm$ 1.00 (3)} & 9.00 \\" in lines
    heads = [f"{head}, {who}" for head in (r"Accuracy $\uparrow$ \%", r"FID $\downarrow$") for who in ("here", "paper")]
    assert " & ".join(["method", "", *heads]) + r" \\" in lines
    assert all(line.count("&") == 5 for line in lines if line.endswith(r"\\") and "multicolumn" not in line)
    assert "–" not in text


def test_rows_of_image_metrics_name_their_sampler(study):
    found = results(study)
    for result in found.values():
        result["sampler"] = "mixture" if result["name"] == "second" else None
    table = measured(study, SETTING, found)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown(study, table, SETTING).splitlines()]
    assert rows[0][:3] == ["method", "", "sampler"]
    named = {row[0]: row[2] for row in rows if len(row) == 7}
    assert (named["Theirs"], named["Plain"], named["Ours"]) == ("–", "–", "mixture")
    assert r"method &  & sampler" in latex(study, table, SETTING)
    assert "equal samplers" in markdown(study, table, SETTING)
    for result in found.values():
        del result["figures"]["test/FID[tiny]"]  # accuracies have none
    assert "sampler" not in markdown(study, measured(study, SETTING, found), SETTING)


def test_a_column_that_ranks_nothing_has_no_best(written):
    values = content()
    values["metrics"]["FID"]["best"] = "none"
    study = written(values)
    text = markdown(study, measured(study, SETTING, results(study)), SETTING)
    assert "| FID, here |" in text
    assert "| 11.00 ± 1.00 (3) |" in text
    values["checks"][0]["in"] = ["FID"]
    with pytest.raises(UniEmoError, match="in of a check must be one of Accuracy; got 'FID'"):
        written(values)


def test_columns_and_steps_of_one_scale(written):
    values = content()
    values["metrics"]["FID (emogen)"] = {"key": "emogen/FID", "best": "low", "scale": "paper"}
    step = {"run": "evaluate", "into": "emogen", "scale": "paper", "when": {"tower": "small"}}
    values["cells"]["plain"]["steps"].append(step)
    study, paper = written(values), Setting("paper", data=Path("/data"))
    assert "FID (emogen) ↓, here" not in markdown(study, {}, SETTING)
    assert "FID (emogen) ↓, here" in markdown(study, {}, paper)
    steps = [[one.run for one in resolve(study, "plain", {"accuracy": "1"}, 0, at).commands] for at in (SETTING, paper)]
    assert steps == [["fit", "test"], ["fit", "test", "evaluate"]]
    big = resolve(study, "plain", {"accuracy": "1", "tower": "big"}, 0, paper)
    assert [one.run for one in big.commands] == ["fit", "test"]
    for place, value in (("metrics", "FID (emogen)"), ("cells", "plain")):
        wrong = copy.deepcopy(values)
        part = wrong[place][value]
        (part if place == "metrics" else part["steps"][-1])["scale"] = "poster"
        with pytest.raises(UniEmoError, match=r"scale of .* must be one of miniature, paper; got 'poster'"):
            written(wrong)
