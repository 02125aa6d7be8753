import numpy as np
import pytest
from results import OURS, PLAIN, five, results
from scipy import stats
from small_study import content

from uniemo.cache import digest
from uniemo.metrics.answers import write_answers
from uniemo.studies.cells import Setting
from uniemo.studies.claims import claims_of
from uniemo.studies.hits import read_hits, unpack
from uniemo.studies.measured import measured

LOW, HIGH = five(0.50, 0.54, 0.52, 0.51, 0.53), five(0.60, 0.66, 0.63, 0.61, 0.62)
MIXED = five(0.50, 0.60, 0.55, 0.61, 0.52), five(0.60, 0.50, 0.56, 0.55, 0.54)


def claims(study, *accuracies, **options):
    return claims_of([(study, measured(study, Setting(), results(study, *accuracies, **options)))])[study.name]


@pytest.mark.parametrize(
    ("plain", "ours", "word"),
    [
        (LOW, HIGH, "seen"),
        (HIGH, LOW, "reversed"),
        (*MIXED, "not seen"),
        (LOW, LOW, "not seen"),
        (PLAIN, OURS, "too few seeds (3 of 5)"),
        ({0: 0.5}, {0: 0.6}, "too few seeds (1 of 5)"),
        ({0: 0.5, 1: 0.1}, {0: 0.6}, "too few seeds (1 of 5)"),  # pairs of equal seed alone
        ({0: 0.5}, {1: 0.6}, "not measured"),
        ({0: 0.5}, {}, "not measured"),
    ],
)
def test_verdicts(study, plain, ours, word):
    (claim,) = claims(study, plain, ours)
    assert claim.verdict == word
    assert claim.comparisons[0].in_paper == 20


def test_a_comparison_without_answers_is_tested_over_seeds(study):
    (one,) = claims(study, LOW, HIGH)[0].comparisons
    test = stats.ttest_rel(list(HIGH.values()), list(LOW.values()))
    assert one.p == pytest.approx(test.pvalue)
    assert one.difference == pytest.approx(10.4)
    assert one.gain == f"+10.4 ± {one.error:.2g}, p < 0.0001"


def test_every_comparison_of_a_claim_counts(written):
    values = content()
    values["checks"][0]["in"] = ["Accuracy", "FID"]  # which does not differ
    (claim,) = claims(written(values), LOW, HIGH)
    assert [one.difference for one in claim.comparisons] == pytest.approx([10.4, 0.0])
    assert claim.verdict == "not seen (1 of 2 in the claimed direction)"
    values["checks"][0].update(better="Plain", than=["Ours", "Large"])
    assert claims(written(values), LOW, HIGH)[0].verdict == "not measured (2 of 4 comparisons are)"


def test_p_is_corrected_for_all_claims_of_the_page(written):
    values = content()
    plain, ours = LOW, five(0.52, 0.55, 0.55, 0.52, 0.56)
    (alone,) = claims(written(values), plain, ours)
    assert 0.01 < alone.comparisons[0].p < 0.05
    assert alone.verdict == "seen"
    check = values["checks"][0]
    values["checks"] += [{**check, "claim": "another"} for _ in range(4)]
    five_claims = claims(written(values), plain, ours)
    assert [one.verdict for one in five_claims] == ["not seen"] * 5
    assert five_claims[0].comparisons[0].p == alone.comparisons[0].p  # shown as it is
    values["checks"] = [check, *({**check, "in": ["FID"], "claim": "FID"} for _ in range(4))]
    studies = [written(values), written(content(), "another")]
    found = claims_of([(one, measured(one, Setting(), results(one, plain, ours))) for one in studies])
    assert found["another"][0].verdict == "not seen"  # the claims of the other study count, too


def answers(tmp_path, right, names=None):
    """What a result holds of (N,) right answers."""
    import torch

    names = names or [f"{number}.jpg" for number in range(len(right))]
    answer = torch.tensor(np.asarray(right)).long()
    (tmp_path / "test").mkdir(exist_ok=True)
    path = tmp_path / "test" / "test_answers.parquet"
    write_answers(path, names, ["a", "b"], torch.ones_like(answer), answer, answer / 2)
    return read_hits(tmp_path)["accuracy"]


def test_answers_are_paired_picture_by_picture(study, tmp_path):
    generator = np.random.default_rng(0)
    right = {name: generator.random((5, 400)) < share for name, share in (("plain", 0.5), ("second", 0.65))}

    def found(pictures):
        def hits(cell, seed):
            return answers(tmp_path, right[cell][seed], [f"{pictures(seed)}{number}" for number in range(400)])

        accuracies = [five(*values.mean(axis=1).tolist()) for values in right.values()]
        (claim,) = claims(study, *accuracies, hits=hits)
        return claim.comparisons[0]

    same, own = found(lambda seed: ""), found(lambda seed: f"{seed}/")
    differences = right["second"].mean(axis=1) - right["plain"].mean(axis=1)
    assert same.difference == own.difference == pytest.approx(100 * differences.mean())
    assert own.p == pytest.approx(stats.ttest_1samp(differences, 0).pvalue)  # each seed has pictures of its own
    assert own.p != same.p
    assert 1 < same.error < 2.5  # of 15 points on 5 × 400 answers


def test_answers_survive_in_a_result(tmp_path):
    right = [True, False, True, True, False, False, True, True, True]
    kept = answers(tmp_path, right)
    hits = unpack({"hits": {"accuracy": kept}}, "accuracy")
    assert hits.right.tolist() == right
    assert hits.pictures == digest(*(f"{number}.jpg" for number in range(9)))
    shuffled = answers(tmp_path, right[::-1], [f"{number}.jpg" for number in reversed(range(9))])
    assert shuffled == kept  # in the order of the names
    assert answers(tmp_path, right, list("abcdefghi"))["pictures"] != kept["pictures"]
    assert unpack({"hits": {"accuracy": kept}}, "Emo-A") is None
    assert unpack({}, "accuracy") is None  # of an earlier version
    assert len(str(answers(tmp_path, [True] * 4000))) < 800
