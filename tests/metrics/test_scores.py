import doctest
import importlib

import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.metrics import ClarityReader, EmotionAccuracy, SemanticClarity
from uniemo.metrics.semantic_clarity import semantic_clarity
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


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_semantic_clarity_by_hand():
    generator = torch.Generator().manual_seed(0)
    features, scenes, objects = (torch.randn(n, 4, generator=generator) for n in (5, 3, 6))
    expected = []
    for feature in features:
        best = 0.0
        for names in (scenes, objects):
            cosines = torch.stack([feature @ name / feature.norm() / name.norm() for name in names])
            best = max(best, float(torch.softmax(20 * cosines, 0).max()))
        expected.append(best)
    torch.testing.assert_close(semantic_clarity(features, [scenes, objects], 20.0), torch.tensor(expected))
    metric = SemanticClarity(scenes, objects, 20.0)
    metric.update(features[:2])
    metric.update(features[2:] * 7)  # the length of a feature does not matter
    assert float(metric.compute()) == pytest.approx(sum(expected) / 5, rel=1e-6)
    with pytest.raises(UniEmoError, match="at least 1 image"):
        SemanticClarity(scenes, objects, 20.0).compute()


def test_clarity_reader(networks):
    vocabulary = Vocabulary(("awe",), ("amusement_park", "beach"), ("Balloon", "Cake", "Eagle"))
    reader = ClarityReader(networks.clip, vocabulary)
    features = torch.randn(4, networks.clip.embed_dim, generator=torch.Generator().manual_seed(0))
    texts = [networks.clip.text(["amusement park", "beach"]), networks.clip.text(["balloon", "cake", "eagle"])]
    torch.testing.assert_close(reader(features), semantic_clarity(features, texts, networks.clip.logit_scale))
    assert not reader.state_dict()
    with pytest.raises(UniEmoError, match="scene or object names"):
        ClarityReader(networks.clip, Vocabulary(("awe",)))
