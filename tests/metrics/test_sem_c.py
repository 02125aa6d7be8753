import numpy as np
import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.metrics import SemC
from uniemo.metrics.sem_c import ZeroShotClarity, semantic_clarity, zero_shot
from uniemo.vocabulary import Vocabulary


def test_by_hand():
    generator = torch.Generator().manual_seed(0)
    scenes, objects = (torch.randn(5, n, generator=generator).softmax(1) for n in (3, 6))
    expected = np.maximum(scenes.numpy().max(axis=1), objects.numpy().max(axis=1))
    np.testing.assert_allclose(semantic_clarity([scenes, objects]), expected)
    metric = SemC()
    for rows in torch.arange(5).split(2):
        metric.update(objects[rows], scenes[rows], emotion=torch.zeros_like(rows), index=rows)
    assert float(metric.compute()["Sem-C"][0, 0]) == pytest.approx(expected.mean(), rel=1e-6)


def test_zero_shot_by_hand():
    generator = torch.Generator().manual_seed(0)
    features, names = (torch.randn(n, 4, generator=generator).double() for n in (5, 3))
    a, b = features.numpy(), names.numpy()
    cosines = (a / np.linalg.norm(a, axis=1, keepdims=True)) @ (b / np.linalg.norm(b, axis=1, keepdims=True)).T
    expected = np.exp(20 * cosines) / np.exp(20 * cosines).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(zero_shot(features, names, 20.0), expected)
    np.testing.assert_allclose(zero_shot(7 * features, names, 20.0), expected)  # lengths do not matter


def test_clarity_by_one_clip(clip):
    vocabulary = Vocabulary(("awe",), ("amusement_park", "beach"), ("Balloon", "Cake", "Eagle"))
    clarity = ZeroShotClarity(clip, vocabulary)
    features = torch.randn(4, clip.embed_dim, generator=torch.Generator().manual_seed(0))
    texts = {"scenes": ["amusement park", "beach"], "objects": ["balloon", "cake", "eagle"]}
    parts = {kind: zero_shot(features, clip.text(names), clip.logit_scale) for kind, names in texts.items()}
    for kind, head in clarity.heads.items():
        torch.testing.assert_close(head(features), parts[kind])
    torch.testing.assert_close(clarity(features), semantic_clarity(list(parts.values())))
    with pytest.raises(UniEmoError, match="scene or object names"):
        ZeroShotClarity(clip, Vocabulary(("awe",)))
