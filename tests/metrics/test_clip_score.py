import pytest
import torch
import torch.nn.functional as F

from uniemo.metrics.base import ImageMetric
from uniemo.metrics.clip_score import CLIPScore, content

PROMPTS = {"a": "a {} room", "b": "a {} balloon", "c": "{}", "e": "a room {}"}


def test_what_a_prompt_asks_for_beside_the_emotion():
    assert content("a {} room") == "a room"
    assert content("{} dress") == "dress"
    assert content(" {} ") == ""


def test_score_of_each_image_with_its_own_text(clip):
    """100 · max(cos, 0), as torchmetrics' CLIPScore; images that are asked for nothing take no part."""
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    metric = CLIPScore.of_prompts(clip, "abcde", PROMPTS)
    features = clip.features(images)
    emotion = torch.tensor([0, 0, 0, 1, 1])
    metric.update(features[:2], emotion=emotion[:2], index=torch.arange(2))
    metric.update(features[2:], emotion=emotion[2:], index=torch.arange(2, 5))
    text = clip.text(["a room", "a balloon", "a room"])
    scores = (100 * F.cosine_similarity(features[[0, 1, 4]], text)).clamp(min=0)
    found = metric.compute()["CLIPScore"]
    assert found[:, 0].tolist() == pytest.approx([float(scores.mean()), float(scores[:2].mean()), float(scores[2])])
    assert (found[0, 1] <= found[0, 0]) & (found[0, 0] <= found[0, 2])
    assert issubclass(CLIPScore, ImageMetric)  # intervals and ranks as the others have them
    assert CLIPScore.of_prompts(clip, "cd", PROMPTS) is None


def test_opposite_features_score_zero():
    metric = CLIPScore(torch.tensor([[1.0, 0.0]]), torch.tensor([0, 0]))
    metric.update(
        torch.tensor([[-3.0, 0.0], [2.0, 0.0]]), emotion=torch.zeros(2, dtype=torch.long), index=torch.arange(2)
    )
    assert metric.samples()[0].flatten().tolist() == [0, 100]
