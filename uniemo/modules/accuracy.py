"""Accuracy over a split and distances to votes, in the classes of the data, each sample counted once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor
from torchmetrics import Metric, MetricCollection
from torchmetrics.functional.classification import multiclass_confusion_matrix
from torchmetrics.utilities import dim_zero_cat

from uniemo.data.batch import EmotionBatch
from uniemo.metrics.label_distribution import distribution_metrics
from uniemo.metrics.split import first_of_each
from uniemo.models.state import check_scores
from uniemo.taxonomy import LabelMap


def accuracies(confusion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return accuracy, balanced accuracy and the (C,) accuracy of each class.

    Args:
        confusion: (C, C) counts, rows are labels. A class without samples has NaN and takes no part in the balance,
            the mean over classes, which is 1 / C for a constant answer.
    """
    counts = confusion.float()  # exact to 2**24 samples
    hits = counts.diagonal()
    by_class = hits / counts.sum(dim=1)
    return hits.sum() / counts.sum(), by_class.nanmean(), by_class


def sum_classes(labels: LabelMap, probabilities: Tensor) -> Tensor:
    """Return (B, T) probabilities of the data's classes: sums over the model's (B, S) classes that stand for each."""
    index = torch.tensor(labels.index, device=probabilities.device)
    return probabilities.new_zeros(len(probabilities), len(labels.target)).index_add_(1, index, probabilities)


class SplitConfusion(Metric):
    """The (C, C) confusion matrix of a split, rows are labels; samples that a distributed sampler repeats count once.

    Args:
        num_classes: C, of the data.

    Attributes:
        answers: after :meth:`compute`, (N,) each on the CPU, ids ascending: ``sample_id``, ``label``, ``answer`` and
            the ``probability`` of the label.
    """

    full_state_update = False
    sample_id: list[Tensor]
    answer: list[Tensor]
    label: list[Tensor]
    probability: list[Tensor]
    answers: dict[str, Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for state in ("sample_id", "answer", "label", "probability"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, probability: Tensor, label: Tensor, sample_id: Tensor) -> None:
        """Add a batch: (B, C) scores, (B,) probabilities of the labels, labels, and ids, unique in the split."""
        self.sample_id.append(sample_id)
        finite = scores.isfinite().all(dim=1)
        self.answer.append(scores.argmax(dim=1).where(finite, -1))
        self.label.append(label)
        self.probability.append(probability.float())

    def compute(self) -> Tensor:
        """Return the (C, C) int64 counts; UniEmoError for scores that are not finite."""
        rows = first_of_each(dim_zero_cat(self.sample_id))
        states = ("sample_id", "label", "answer", "probability")
        found: dict[str, Tensor] = {name: dim_zero_cat(getattr(self, name))[rows] for name in states}
        answer, label = found["answer"], found["label"]
        check_scores(answer >= 0, "emotion scores")
        self.answers = {name: values.cpu() for name, values in found.items()}
        return multiclass_confusion_matrix(answer, label, self.num_classes)


class AccuracyMetrics:
    """Accuracy, balanced accuracy and confusion of each split, in the classes of the data.

    Where batches carry distributions, the six measures of :mod:`uniemo.metrics.label_distribution` too.

    Args:
        labels: from the model's classes to the data's.

    Attributes:
        confusion: of each split evaluated so far, (C, C) counts on the CPU, rows are labels.
        answers: of each split evaluated so far, see :class:`SplitConfusion`.
    """

    def __init__(self, labels: LabelMap) -> None:
        self.labels = labels
        self.confusion: dict[str, Tensor] = {}
        self.answers: dict[str, dict[str, Tensor]] = {}
        self._metrics: dict[str, SplitConfusion] = {}
        self._distances: dict[str, MetricCollection] = {}

    def update(self, split: str, logits: Tensor, batch: EmotionBatch) -> None:
        """Add a batch's (B, S) logits of the model's classes."""
        if split not in self._metrics:
            self._metrics[split] = SplitConfusion(len(self.labels.target)).to(logits.device)
        probabilities = sum_classes(self.labels, logits.float().softmax(dim=1))  # (B, T)
        scores = logits if self.labels.trivial else probabilities
        probability = probabilities.gather(1, batch.emotion[:, None]).squeeze(1)  # (B,)
        self._metrics[split].update(scores, probability, batch.emotion, batch.sample_id)
        if batch.distribution is not None:
            if split not in self._distances:
                self._distances[split] = distribution_metrics().to(logits.device)
            self._distances[split].update(probabilities, batch.distribution, batch.sample_id)

    def compute(self, split: str, by_class: bool) -> dict[str, Tensor]:
        """Return ``accuracy``, ``balanced_accuracy``, distances and, if wanted, ``accuracy/<emotion>``; reset."""
        confusion = self._metrics[split].compute()
        self.answers[split] = self._metrics[split].answers
        self._metrics[split].reset()
        self.confusion[split] = confusion.cpu()
        accuracy, balanced, classes = accuracies(confusion)
        result = {"accuracy": accuracy, "balanced_accuracy": balanced}
        if split in self._distances:
            result |= self._distances[split].compute()
            self._distances[split].reset()
        if by_class:
            result |= {f"accuracy/{name}": value for name, value in zip(self.labels.target, classes, strict=True)}
        return result


def print_label_map(labels: LabelMap, loggers: Iterable[Any]) -> None:
    """Print and log how the model's emotions become the data's, where they differ."""
    if labels.trivial:
        return
    print_once(labels.describe())
    for logger in loggers:
        if hasattr(logger.experiment, "add_text"):
            logger.experiment.add_text("label_map", labels.describe())


@rank_zero_only
def print_once(text: str) -> None:
    """Print on the first rank alone."""
    print(text, flush=True)
