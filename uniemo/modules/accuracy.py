"""Accuracy over a split, each sample counted once."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from uniemo.data.batch import EmotionBatch
from uniemo.data.emotions import LabelMap
from uniemo.metrics.split import first_of_each


@dataclass(frozen=True)
class Scores:
    """How well a split's samples were told apart.

    Attributes:
        accuracy: share of right answers.
        balanced: balanced accuracy, the mean of ``by_class`` over the classes that have samples. It is 1 / C for a
            constant answer, however uneven the classes are.
        by_class: (C,) share of right answers to each class's samples (recall), NaN for a class without samples.
        confusion: (C, C) int64 counts, rows are labels, columns are answers.
    """

    accuracy: Tensor
    balanced: Tensor
    by_class: Tensor
    confusion: Tensor


def scores(confusion: Tensor) -> Scores:
    """Return the figures of a (C, C) confusion matrix with labels as rows."""
    counts = confusion.float()  # exact to 2**24 samples
    hits = counts.diagonal()
    by_class = hits / counts.sum(dim=1)
    return Scores(hits.sum() / counts.sum(), by_class.nanmean(), by_class, confusion)


def sum_classes(labels: LabelMap, probabilities: Tensor) -> Tensor:
    """Return (B, T) probabilities of the data's classes: sums over the model's (B, S) classes that stand for each."""
    index = torch.tensor(labels.index, device=probabilities.device)
    return probabilities.new_zeros(len(probabilities), len(labels.target)).index_add_(1, index, probabilities)


class SplitAccuracy(Metric):
    """What was taken for what over a whole split; :func:`scores` turns it into accuracy.

    Distributed samplers repeat samples so that every rank has as many; repeats are dropped by sample id.

    Args:
        num_classes: C, of the data.
    """

    full_state_update = False
    sample_id: list[Tensor]
    answer: list[Tensor]
    label: list[Tensor]

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        for state in ("sample_id", "answer", "label"):
            self.add_state(state, default=[], dist_reduce_fx="cat")

    def update(self, scores: Tensor, label: Tensor, sample_id: Tensor) -> None:
        """Add a batch.

        Args:
            scores: (B, C), the largest decides.
            label: (B,) int64.
            sample_id: (B,) int64, unique in the split.
        """
        self.sample_id.append(sample_id)
        self.answer.append(scores.argmax(dim=1))
        self.label.append(label)

    def compute(self) -> Tensor:
        """Return (C, C) int64 counts of all samples, rows are labels, columns are answers."""
        rows = first_of_each(dim_zero_cat(self.sample_id))
        answer, label = dim_zero_cat(self.answer)[rows], dim_zero_cat(self.label)[rows]
        classes = self.num_classes
        pairs = torch.bincount(label * classes + answer, minlength=classes * classes)  # (C * C,)
        return pairs.view(classes, classes)


class Examination:
    """The answers to a split's images, told in the classes of the data.

    Args:
        labels: from the model's classes to the data's.

    Attributes:
        confusion: of each split that was evaluated last, (C, C) counts on the CPU, rows are labels.
    """

    def __init__(self, labels: LabelMap) -> None:
        self.labels = labels
        self.confusion: dict[str, Tensor] = {}
        self._accuracy: dict[str, SplitAccuracy] = {}

    def add(self, split: str, logits: Tensor, batch: EmotionBatch) -> None:
        """Add a batch's (B, S) logits of the model's classes."""
        if split not in self._accuracy:
            self._accuracy[split] = SplitAccuracy(len(self.labels.target)).to(logits.device)
        answers = logits if self.labels.trivial else sum_classes(self.labels, logits.float().softmax(dim=1))
        self._accuracy[split].update(answers, batch.emotion, batch.sample_id)

    def figures(self, split: str, by_class: bool) -> dict[str, Tensor]:
        """Return ``accuracy``, ``balanced_accuracy`` and, if wanted, ``accuracy/<emotion>``; start the split anew."""
        found = scores(self._accuracy[split].compute())
        self._accuracy[split].reset()
        self.confusion[split] = found.confusion.cpu()
        result = {"accuracy": found.accuracy, "balanced_accuracy": found.balanced}
        if by_class:
            result |= {
                f"accuracy/{name}": share for name, share in zip(self.labels.target, found.by_class, strict=True)
            }
        return result
