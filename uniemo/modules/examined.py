"""Modules that tell emotions: validation, test and prediction, in the classes of the data."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor

from uniemo.data.batch import EmotionBatch
from uniemo.errors import UniEmoError
from uniemo.modules.accuracy import Examination, sum_classes
from uniemo.modules.emotion import EmotionModule, say


class ExaminedModule(EmotionModule):
    """An :class:`uniemo.modules.emotion.EmotionModule` that reads emotions off images and is examined in it.

    Data whose emotions are others than the model's can be evaluated: probabilities are summed into the data's classes
    by :func:`uniemo.data.emotions.label_map`.
    """

    _examination: Examination | None = None

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) emotion logits of CLIP-normalised images (B, 3, R, R)."""

    @torch.no_grad()
    def classify(self, images: Tensor) -> Tensor:
        """Return (B, C) probabilities of CLIP-normalised images (B, 3, R, R)."""
        probabilities: Tensor = self(images).softmax(dim=1)
        return probabilities

    def on_validation_start(self) -> None:
        """Say how emotions are matched, where that is not plain."""
        if self.trainer.state.fn == "validate":
            self._announce()

    def on_test_start(self) -> None:
        """Say how emotions are matched, where that is not plain."""
        self._announce()

    def validation_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Count right answers."""
        self.examination.add("val", self(batch.images), batch)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/accuracy`` and ``val/balanced_accuracy``."""
        self._log_accuracy("val", by_class=self.trainer.state.fn == "validate")

    def test_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Count right answers."""
        self.examination.add("test", self(batch.images), batch)

    def on_test_epoch_end(self) -> None:
        """Log ``test/accuracy``, ``test/balanced_accuracy`` and the accuracy of each of the data's emotions."""
        self._log_accuracy("test", by_class=True)

    def predict_step(self, batch: EmotionBatch, batch_idx: int) -> dict[str, Any]:
        """Return names, sample ids, (B, C) probabilities and, where the data has other classes, ``mapped`` ones."""
        probabilities = self.classify(batch.images)
        result = {"names": batch.names, "sample_id": batch.sample_id, "probabilities": probabilities}
        try:
            labels = self.label_map()
        except UniEmoError:
            return result  # images can be predicted on whatever they are labelled with
        if not labels.same_classes:
            result["mapped"] = sum_classes(labels, probabilities)  # (B, T)
        return result

    def confusion(self, split: Literal["val", "test"]) -> Tensor | None:
        """Return (C, C) counts of the split evaluated last, rows are the data's labels; None before that."""
        return self.examination.confusion.get(split)

    @property
    def examination(self) -> Examination:
        """The answers so far, in the data's classes."""
        if self._examination is None:
            self._examination = Examination(self.label_map())
        return self._examination

    def forget_answers(self) -> None:
        """Drop what was counted in another label space."""
        self._examination = None

    def _log_accuracy(self, split: str, by_class: bool) -> None:
        """Log the split's figures."""
        for name, value in self.examination.figures(split, by_class).items():
            self.log(f"{split}/{name}", value, prog_bar=name == "accuracy")

    def _announce(self) -> None:
        """Print and log how the model's emotions become the data's."""
        labels = self.label_map()
        if labels.trivial:
            return
        say(labels.describe())
        for logger in self.loggers:
            add_text = getattr(logger.experiment, "add_text", None)
            if add_text is not None:
                add_text("label_map", labels.describe())
