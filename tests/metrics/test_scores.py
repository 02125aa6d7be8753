import doctest
import importlib

import numpy as np
import pytest
import torch

from uniemo.data.emotions import MIKELS_8
from uniemo.errors import UniEmoError
from uniemo.metrics import ClarityReader, EmotionAccuracy, SemanticClarity
from uniemo.metrics.emotion_accuracy import emotion_scores, polarities, two_class_hits
from uniemo.metrics.semantic_clarity import semantic_clarity, zero_shot
from uniemo.vocabulary import Vocabulary


@pytest.mark.parametrize("name", ["fid", "lpips", "semantic_diversity", "emotion_accuracy", "semantic_clarity"])
def test_examples_in_docstrings(name):
    result = doctest.testmod(importlib.import_module(f"uniemo.metrics.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_emotion_accuracy_by_hand():
    metric = EmotionAccuracy(3)
    metric.update(torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.7, 0.1]]), torch.tensor([0, 0]))
    metric.update(torch.tensor([[0.1, 0.8, 0.1]]), torch.tensor([1]))
    figures = metric.compute()
    assert float(figures["accuracy"]) == pytest.approx(2 / 3)
    assert float(figures["probability"]) == pytest.approx((0.6 + 0.2 + 0.8) / 3)
    torch.testing.assert_close(
        figures["accuracy_by_emotion"], torch.tensor([0.5, 1.0, torch.nan], dtype=torch.float64), equal_nan=True
    )
    assert float(figures["probability_by_emotion"][0]) == pytest.approx(0.4)
    metric.reset()
    with pytest.raises(UniEmoError, match="at least 1 image"):
        metric.compute()
    assert all(reduction.__name__ == "dim_zero_sum" for reduction in metric._reductions.values())
    with pytest.raises(UniEmoError, match=r"finite.*image 1"):
        metric.update(torch.tensor([[0.5, 0.5, 0.0], [torch.nan, 0.5, 0.5]]), torch.tensor([0, 1]))


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_semantic_clarity_by_hand():
    generator = torch.Generator().manual_seed(0)
    scenes, objects = (torch.randn(5, n, generator=generator).softmax(1) for n in (3, 6))
    expected = np.maximum(scenes.numpy().max(axis=1), objects.numpy().max(axis=1))
    np.testing.assert_allclose(semantic_clarity([scenes, objects]), expected)
    metric = SemanticClarity()
    metric.update(scenes[:2], objects[:2])
    metric.update(scenes[2:], objects[2:])
    assert float(metric.compute()) == pytest.approx(expected.mean(), rel=1e-6)
    with pytest.raises(UniEmoError, match="at least 1 image"):
        SemanticClarity().compute()
    with pytest.raises(UniEmoError, match="finite"):
        metric.update(scenes * torch.nan)
    assert all(reduction.__name__ == "dim_zero_sum" for reduction in metric._reductions.values())


def test_zero_shot_by_hand():
    generator = torch.Generator().manual_seed(0)
    features, names = (torch.randn(n, 4, generator=generator).double() for n in (5, 3))
    a, b = features.numpy(), names.numpy()
    cosines = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    expected = np.exp(20 * cosines) / np.exp(20 * cosines).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(zero_shot(features, names, 20.0), expected)
    np.testing.assert_allclose(zero_shot(7 * features, names, 20.0), expected)  # lengths do not matter


def test_clarity_reader(networks):
    vocabulary = Vocabulary(("awe",), ("amusement_park", "beach"), ("Balloon", "Cake", "Eagle"))
    reader = ClarityReader(networks.clip, vocabulary)
    features = torch.randn(4, networks.clip.embed_dim, generator=torch.Generator().manual_seed(0))
    texts = [networks.clip.text(["amusement park", "beach"]), networks.clip.text(["balloon", "cake", "eagle"])]
    parts = [zero_shot(features, text, networks.clip.logit_scale) for text in texts]
    torch.testing.assert_close(reader.probabilities(features), torch.cat(parts, dim=1))
    torch.testing.assert_close(reader(features), semantic_clarity(parts))
    assert not reader.state_dict()
    with pytest.raises(UniEmoError, match="scene or object names"):
        ClarityReader(networks.clip, Vocabulary(("awe",)))


def test_two_class_version():
    negative = polarities(MIKELS_8)
    assert negative.tolist() == [False] * 4 + [True] * 4
    assert polarities(("awe", "fear")) is None
    probabilities = torch.tensor([[0.4, 0.0, 0.0, 0.0, 0.3, 0.3, 0.0, 0.0], [0.2, 0.2, 0.2, 0.0, 0.4, 0.0, 0.0, 0.0]])
    assert emotion_scores(probabilities, torch.tensor([4, 1]))[0].tolist() == [False, False]
    assert two_class_hits(probabilities, torch.tensor([4, 1]), negative).tolist() == [True, True]
    assert two_class_hits(probabilities, torch.tensor([0, 7]), negative).tolist() == [False, False]
