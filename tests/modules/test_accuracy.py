import pytest
import torch

from uniemo.metrics.split import SplitMean
from uniemo.modules.accuracy import SplitConfusion, accuracies, sum_classes
from uniemo.taxonomy import EMOTION_ROI_6, MIKELS_8, POLARITY_2, label_map


def test_repeated_samples_count_once():
    metric = SplitConfusion(3)
    scores = torch.eye(3)[[0, 1, 1]]
    chance = torch.tensor([0.9, 0.8, 0.1])
    metric.update(scores, chance, torch.tensor([0, 1, 2]), torch.tensor([10, 11, 12]))
    metric.update(scores[2:], chance[2:], torch.tensor([2]), torch.tensor([12]))  # what a distributed sampler pads with
    confusion = metric.compute()
    assert confusion.tolist() == [[1, 0, 0], [0, 1, 0], [0, 1, 0]]  # rows are labels
    accuracy, balanced, by_class = accuracies(confusion)
    assert accuracy == balanced == torch.tensor(2 / 3)
    assert by_class.tolist() == [1.0, 1.0, 0.0]
    answers = {"sample_id": [10, 11, 12], "label": [0, 1, 2], "answer": [0, 1, 1], "probability": chance.tolist()}
    assert {name: values.tolist() for name, values in metric.answers.items()} == answers


def test_class_without_samples_is_nan_and_left_out_of_the_balance():
    _, balanced, by_class = accuracies(torch.tensor([[1, 0, 0], [1, 1, 0], [0, 0, 0]]))
    assert by_class.isnan().tolist() == [False, False, True]
    assert balanced == pytest.approx((1 + 0.5) / 2)


def test_balanced_accuracy_of_a_constant_answer():
    accuracy, balanced, _ = accuracies(torch.tensor([[470, 0], [133, 0]]))  # Twitter II, always "positive"
    assert accuracy == pytest.approx(470 / 603)
    assert balanced == 0.5


def test_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    label, answer = torch.randint(4, (2, 200), generator=torch.Generator().manual_seed(0))
    metric = SplitConfusion(4)
    for rows in torch.randperm(200, generator=torch.Generator().manual_seed(1)).split(64):
        metric.update(torch.eye(4)[answer[rows]], torch.rand(len(rows)), label[rows], rows)
    confusion = metric.compute()
    assert confusion.tolist() == metrics.confusion_matrix(label, answer).tolist()
    accuracy, balanced, _ = accuracies(confusion)
    assert balanced == pytest.approx(metrics.balanced_accuracy_score(label, answer))
    assert accuracy == pytest.approx(metrics.accuracy_score(label, answer))


@pytest.mark.parametrize("target", [tuple(sorted(MIKELS_8)), EMOTION_ROI_6, POLARITY_2, POLARITY_2[::-1]])
def test_probabilities_are_summed_by_name(target):
    probabilities = torch.rand(5, 8, generator=torch.Generator().manual_seed(0)).softmax(dim=1)
    labels = label_map(MIKELS_8, target)
    summed = sum_classes(labels, probabilities)
    for row, given in zip(summed, probabilities, strict=True):
        by_name = dict.fromkeys(target, 0.0)
        for name, value in zip(MIKELS_8, given.tolist(), strict=True):
            by_name[labels.names[name]] += value
        assert row.tolist() == pytest.approx([by_name[name] for name in target])


def test_a_sum_can_beat_the_largest_class():
    probabilities = torch.tensor([[0.2, 0.1, 0.2, 0.1, 0.4, 0.0, 0.0, 0.0]])  # anger leads, positive has 0.6
    assert sum_classes(label_map(MIKELS_8, ("negative", "positive")), probabilities).argmax() == 1


def test_means_over_a_split():
    metric = SplitMean(limit=3)
    nan = float("nan")
    metric.update(torch.tensor([[1.0, 10.0], [9.0, 90.0]]), torch.tensor([0, 7]))  # id 7 is beyond the limit
    metric.update(torch.tensor([[2.0, nan], [3.0, 30.0], [1.0, 10.0]]), torch.tensor([1, 2, 0]))
    assert metric.compute().tolist() == [2.0, 20.0]
