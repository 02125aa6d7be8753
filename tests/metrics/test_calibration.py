import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from uniemo.metrics.calibration import TEMPERATURES, classification_metrics, fit_temperature


@pytest.fixture(scope="module")
def sampled():
    """Logits of a classifier that is three times too sure: labels are sampled from softmax(logits / 3)."""
    rng = np.random.default_rng(0)
    logits = 6 * rng.normal(size=(4000, 8))
    true = np.exp(logits / 3)
    true /= true.sum(1, keepdims=True)
    labels = (true.cumsum(1) > rng.random((4000, 1))).argmax(1)
    return torch.from_numpy(logits), torch.from_numpy(labels)


def _plain_ece(probabilities, labels, bins):
    confidence, predicted = probabilities.max(1), probabilities.argmax(1)
    total = 0.0
    for m in range(1, bins + 1):
        inside = (confidence > (m - 1) / bins) & (confidence <= m / bins)
        if inside.any():
            gap = abs((predicted[inside] == labels[inside]).mean() - confidence[inside].mean())
            total += gap * inside.sum() / len(labels)
    return total


def test_temperature_is_found_and_calibrates(sampled):
    logits, labels = sampled
    temperature = fit_temperature(logits, labels)
    assert temperature == pytest.approx(3, rel=0.05)
    before, after = (classification_metrics(logits / t, labels, "abcdefgh")["ece"] for t in (1, temperature))
    assert before > 0.15
    assert after < 0.03
    losses = [float(F.cross_entropy(logits / t, labels)) for t in np.geomspace(*TEMPERATURES, 2001)]
    assert float(F.cross_entropy(logits / temperature, labels)) <= min(losses) + 1e-12
    # a scale of the logits is a scale of the temperature; a shift of each row is nothing
    assert fit_temperature(logits * 2, labels) == pytest.approx(2 * temperature)
    assert fit_temperature(logits + torch.randn(4000, 1), labels) == pytest.approx(temperature)
    assert fit_temperature(torch.eye(4), torch.arange(4)) == pytest.approx(TEMPERATURES[0])  # never wrong
    assert fit_temperature(torch.eye(4), (torch.arange(4) + 1) % 4) == pytest.approx(TEMPERATURES[1])  # always wrong


def test_equals_plain_numpy(sampled):
    logits, labels = sampled
    names = tuple("abcdefgh")
    kept = labels != 2  # an emotion without images
    metrics = classification_metrics(logits[kept], labels[kept], names)
    plain, truth = logits[kept].softmax(1).numpy(), labels[kept].numpy()
    predicted = plain.argmax(1)
    assert metrics["accuracy"] == pytest.approx((predicted == truth).mean())
    shares = {name: (predicted[truth == i] == i).mean() for i, name in enumerate(names) if i != 2}
    assert metrics["balanced_accuracy"] == pytest.approx(np.mean(list(shares.values())))
    assert metrics["by_emotion"]["c"] == {"images": 0, "accuracy": None}
    for name, share in shares.items():
        assert metrics["by_emotion"][name]["accuracy"] == pytest.approx(share)
    assert sum(map(sum, metrics["confusion"])) == metrics["images"] == int(kept.sum())
    assert metrics["confusion"][0][1] == int(((truth == 0) & (predicted == 1)).sum())
    assert metrics["confidence"] == pytest.approx(plain.max(1).mean())
    assert metrics["ece"] == pytest.approx(_plain_ece(plain, truth, metrics["ece_bins"]), rel=1e-5)
    assert metrics["brier"] == pytest.approx(((plain - np.eye(8)[truth]) ** 2).sum(1).mean())
    assert metrics["nll"] == pytest.approx(-np.log(plain[np.arange(len(truth)), truth]).mean())


def test_known_values():
    right = torch.arange(4)
    sure = classification_metrics(200 * torch.eye(4), right, "abcd")
    assert [sure[key] for key in ("accuracy", "ece", "brier", "nll")] == pytest.approx([1, 0, 0, 0], abs=1e-9)
    wrong = classification_metrics(200 * torch.eye(4), (right + 1) % 4, "abcd")
    assert [wrong[key] for key in ("accuracy", "ece", "brier", "nll")] == pytest.approx([0, 1, 2, 200])
    flat = classification_metrics(torch.zeros(8, 8), torch.arange(8), "abcdefgh")
    assert flat["ece"] == pytest.approx(0)  # 1 of 8 is right, as the probabilities say
    assert flat["nll"] == pytest.approx(math.log(8))
