import math

import numpy as np
import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.metrics.calibration import (
    TEMPERATURES,
    brier_score,
    classification_figures,
    expected_calibration_error,
    fit_temperature,
    negative_log_likelihood,
    reliability,
)


@pytest.fixture(scope="module")
def drawn():
    """Logits of a classifier that is three times too sure: labels are drawn from softmax(logits / 3)."""
    rng = np.random.default_rng(0)
    logits = 6 * rng.normal(size=(4000, 8))
    true = np.exp(logits / 3)
    true /= true.sum(1, keepdims=True)
    labels = (true.cumsum(1) > rng.random((4000, 1))).argmax(1)
    return torch.from_numpy(logits), torch.from_numpy(labels)


def _plain_ece(probabilities, labels, bins):
    confidence, answer = probabilities.max(1), probabilities.argmax(1)
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            gap = abs((answer[inside] == labels[inside]).mean() - confidence[inside].mean())
            total += gap * inside.sum() / len(labels)
    return total


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_equals_plain_numpy(drawn, bins):
    logits, labels = drawn
    probabilities = logits.softmax(1)
    plain, truth = probabilities.numpy(), labels.numpy()
    assert expected_calibration_error(probabilities, labels, bins) == pytest.approx(_plain_ece(plain, truth, bins))
    assert brier_score(probabilities, labels) == pytest.approx(((plain - np.eye(8)[truth]) ** 2).sum(1).mean())
    nll = -np.log(plain[np.arange(len(truth)), truth]).mean()
    assert negative_log_likelihood(probabilities, labels) == pytest.approx(nll)


def test_known_values():
    sure = torch.eye(4)
    right = torch.arange(4)
    assert (
        expected_calibration_error(sure, right) == brier_score(sure, right) == negative_log_likelihood(sure, right) == 0
    )
    wrong = (right + 1) % 4
    assert expected_calibration_error(sure, wrong) == 1
    assert brier_score(sure, wrong) == 2
    assert negative_log_likelihood(sure, wrong) == math.inf
    flat = torch.full((8, 8), 1 / 8)
    assert brier_score(flat, torch.arange(8)) == pytest.approx(7 / 8)
    assert negative_log_likelihood(flat, torch.arange(8)) == pytest.approx(math.log(8))
    assert expected_calibration_error(flat, torch.arange(8)) == pytest.approx(0)  # 1 of 8 is right, as it says


def test_bins_are_closed_on_the_right():
    probabilities = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0]], dtype=torch.float64)
    table = reliability(probabilities, torch.tensor([0, 1, 0]), bins=4)
    assert table.count.tolist() == [0, 1, 1, 1]
    assert table.accuracy[1:].tolist() == [1, 1, 0]
    assert table.confidence[1:].tolist() == [0.5, 0.75, 1]
    assert math.isnan(table.accuracy[0])


def test_temperature_is_found_and_calibrates(drawn):
    logits, labels = drawn
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(3, rel=0.05)
    before, after = (expected_calibration_error((logits / t).softmax(1), labels) for t in (1, temperature))
    assert before > 0.15
    assert after < 0.03
    grid = np.geomspace(*TEMPERATURES, 2001)
    losses = [negative_log_likelihood((logits / t).softmax(1), labels) for t in grid]
    assert negative_log_likelihood((logits / temperature).softmax(1), labels) <= min(losses) + 1e-12
    # a scale of the logits is a scale of the temperature; a shift of each row is nothing
    assert fit_temperature(logits * 2, labels) == pytest.approx(2 * temperature)
    assert fit_temperature(logits + torch.randn(4000, 1), labels) == pytest.approx(temperature)
    assert fit_temperature(torch.eye(4), torch.arange(4)) == pytest.approx(TEMPERATURES[0])  # never wrong
    assert fit_temperature(torch.eye(4), (torch.arange(4) + 1) % 4) == pytest.approx(TEMPERATURES[1])  # always wrong


def test_figures(drawn):
    logits, labels = drawn
    names = tuple("abcdefgh")
    kept = labels != 2  # an emotion without images
    probabilities = logits.softmax(1)[kept]
    figures = classification_figures(probabilities, labels[kept], names)
    answer, truth = probabilities.argmax(1).numpy(), labels[kept].numpy()
    assert figures["accuracy"] == pytest.approx((answer == truth).mean())
    shares = {name: (answer[truth == i] == i).mean() for i, name in enumerate(names) if i != 2}
    assert figures["balanced_accuracy"] == pytest.approx(np.mean(list(shares.values())))
    assert figures["by_emotion"]["c"] == {"images": 0, "accuracy": None}
    for name, share in shares.items():
        assert figures["by_emotion"][name]["accuracy"] == pytest.approx(share)
    assert sum(map(sum, figures["confusion"])) == figures["images"] == int(kept.sum())
    assert figures["confusion"][0][1] == int(((truth == 0) & (answer == 1)).sum())
    order = torch.randperm(len(truth))
    shuffled = classification_figures(probabilities[order], labels[kept][order], names)
    assert shuffled["ece"] == pytest.approx(figures["ece"])


@pytest.mark.parametrize(
    ("probabilities", "labels", "said"),
    [
        (torch.zeros(0, 2), torch.zeros(0), "at least 1 image"),
        (torch.tensor([[0.2, 0.2]]), torch.tensor([0]), "sum to 1"),
        (torch.tensor([[-0.5, 1.5]]), torch.tensor([0]), "at least 0"),
        (torch.tensor([[0.5, 0.5], [math.nan, 1.0]]), torch.tensor([0, 0]), "finite; row 1"),
        (torch.tensor([[0.5, 0.5]]), torch.tensor([2]), "labels must lie in"),
        (torch.tensor([0.5, 0.5]), torch.tensor([0, 1]), r"\(N, C\)"),
    ],
)
def test_refuses(probabilities, labels, said):
    for figure in (expected_calibration_error, brier_score, negative_log_likelihood):
        with pytest.raises(UniEmoError, match=said):
            figure(probabilities, labels)
    with pytest.raises(UniEmoError, match="bins"):
        expected_calibration_error(torch.eye(2), torch.arange(2), bins=0)
