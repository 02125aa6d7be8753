import torch

from uniemo.modules.accuracy import SplitAccuracy


def test_repeated_samples_count_once():
    metric = SplitAccuracy(3)
    scores = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 1.0, 0]])
    metric.update(scores, torch.tensor([0, 1, 2]), torch.tensor([10, 11, 12]))
    metric.update(scores[2:], torch.tensor([2]), torch.tensor([12]))  # what a distributed sampler pads with
    total, by_class = metric.compute()
    assert total == torch.tensor(2 / 3)
    assert by_class.tolist() == [1.0, 1.0, 0.0]


def test_class_without_samples_is_nan():
    metric = SplitAccuracy(3)
    metric.update(torch.eye(3)[:2], torch.tensor([0, 1]), torch.tensor([0, 1]))
    assert metric.compute()[1].isnan().tolist() == [False, False, True]
