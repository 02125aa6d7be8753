import doctest
import importlib

import pytest
import torch

from uniemo.metrics import EmoA
from uniemo.metrics.emo_a import emotion_scores, polarities
from uniemo.metrics.pair_store import NotFiniteError
from uniemo.taxonomy import MIKELS_8


@pytest.mark.parametrize("name", ["fid", "lpips", "sem_d", "emo_a", "sem_c"])
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"uniemo.metrics.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_by_hand():
    metric = EmoA(("a", "b", "c"))
    first = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]])
    metric.update(first, emotion=torch.tensor([0, 0]), index=torch.tensor([2, 0]))
    metric.update(first, emotion=torch.tensor([0, 0]), index=torch.tensor([2, 0]))  # repeats do not count
    metric.update(torch.tensor([[0.1, 0.8, 0.1]]), emotion=torch.tensor([1]), index=torch.tensor([1]))
    found = metric.compute()
    assert list(found) == ["Emo-A", "Emo-A probability"]
    assert found["Emo-A"][:, 0].tolist() == pytest.approx([2 / 3, 0.5, 1])
    assert found["Emo-A probability"][:, 0].tolist() == pytest.approx([1.6 / 3, 0.4, 0.8])
    assert metric.confusion.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    intended, predicted, probability = (values.tolist() for values in metric.answers)  # of images 0, 1, 2
    assert (intended, predicted, probability) == ([0, 1, 0], [1, 1, 0], pytest.approx([0.2, 0.8, 0.6]))
    nan = torch.tensor([[0.5, 0.5, 0.0], [torch.nan, 0.5, 0.5]])
    with pytest.raises(NotFiniteError, match="image 7"):
        metric.update(nan, emotion=torch.tensor([0, 1]), index=torch.tensor([3, 7]))


def test_two_class_version():
    negative = polarities(MIKELS_8)
    assert negative.tolist() == [False] * 4 + [True] * 4
    assert polarities(("awe", "fear")) is None
    probabilities = torch.tensor([[0.4, 0.0, 0.0, 0.0, 0.3, 0.3, 0.0, 0.0], [0.2, 0.2, 0.2, 0.0, 0.4, 0.0, 0.0, 0.0]])
    assert emotion_scores(probabilities, torch.tensor([4, 1]), negative)[:, [0, 2]].tolist() == [[0, 1], [0, 1]]
    assert emotion_scores(probabilities, torch.tensor([0, 7]), negative)[:, 2].tolist() == [0, 0]
    assert EmoA(MIKELS_8, "emotion (second)").columns[-1] == "Emo-A two-class (second)"
