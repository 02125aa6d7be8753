import statistics

import pytest
from results import OURS, PLAIN, results
from small_study import content

from uniemo.studies.cells import Setting
from uniemo.studies.claims import compare, verdict
from uniemo.studies.measured import measured


def comparisons(study, *accuracies):
    return compare(study, study.checks[0], measured(study, Setting(), results(study, *accuracies)))


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
def test_verdicts(study, plain, ours, word):
    found = comparisons(study, plain, ours)
    assert [one.verdict for one in found] == [word]
    assert verdict(found) == word
    assert found[0].in_paper == 20


def test_a_claim_about_several_metrics(written):
    values = content()
    values["checks"][0]["in"] = ["Accuracy", "FID"]
    found = comparisons(written(values))
    assert [one.difference for one in found] == pytest.approx([11.0, 0.0])
    assert found[0].error == pytest.approx(statistics.stdev([10.0, 12.0, 11.0]) / 3**0.5)
    assert found[0].gain == "+11 ± 0.58"
    assert verdict(found) == "in part (1 of 2 comparisons)"
    values["checks"][0].update(better="Plain", than=["Ours", "Large"])
    found = comparisons(written(values), {0: 0.7}, {0: 0.6})
    assert verdict(found) == "in part (1 of 4 comparisons, 2 not measured, one seed)"
