"""An instruction-tuned vision-language model, asked for the emotion. Nothing is trained."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from uniemo.baselines.base import ClassifierBaseline
from uniemo.baselines.question_model import QuestionModel
from uniemo.data.batch import EmotionBatch
from uniemo.errors import Seed, UniEmoError
from uniemo.modules.accuracy import print_once
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary

QUESTION = "Which of these emotions does this image evoke: {}? Answer with one word."  # ours


class QuestionBaseline(ClassifierBaseline):
    """The base of baselines that ask a vision-language model.

    Args:
        hyperparameters: with ``path``, ``question`` and ``reason``, see :class:`VisionLanguage`.
        optimizer: its settings; None for a method that does not train.
        seed: of first weights and every other random choice in training.

    Raises:
        UniEmoError: no path, or a question without ``{}``.
    """

    model: QuestionModel

    def __init__(self, hyperparameters: Mapping[str, Any], optimizer: RateConfig | None, seed: Seed) -> None:
        if hyperparameters["path"] is None:
            raise UniEmoError(
                "model.path must name a vision-language model; got null: "
                "set --model.path to a folder or to a name on the hub such as llava-hf/llava-1.5-7b-hf"
            )
        if "{}" not in hyperparameters["question"]:
            raise UniEmoError(f"model.question must hold {{}} for the emotions; got {hyperparameters['question']!r}")
        super().__init__(hyperparameters, optimizer, seed)

    def backbones(self) -> dict[str, str]:
        """Return the model's name."""
        return {"vision_language": self.hparams.path}

    def predict_step(self, batch: EmotionBatch, batch_idx: int) -> dict[str, Any]:
        """Return the predictions and, where ``reason`` asks for them, reasons in the model's own words."""
        result = super().predict_step(batch, batch_idx)
        if self.hparams.reason is not None:
            emotions = [self.vocabulary.emotions[index] for index in result["probabilities"].argmax(dim=1).tolist()]
            result["reason"] = self.model.reasons(batch.images, self.hparams.reason, emotions)
        return result

    def on_test_epoch_end(self) -> None:
        """Print how many answers named no emotion, and log the accuracy."""
        if self.model.unnamed:
            first = self.vocabulary.emotions[0]
            print_once(f"{self.model.unnamed} answers of this process named no emotion; they count as {first}")
        super().on_test_epoch_end()


class VisionLanguage(QuestionBaseline):
    """Ask a vision-language model of transformers for the emotion.

    It sees the images as the data module cuts them: set ``data.image_size`` to what the model takes. A model that
    brings its own Python code is loaded with ``--trust`` alone.

    Args:
        path: folder, or name on the hub, for example ``llava-hf/llava-1.5-7b-hf``.
        question: ``{}`` stands for the names of the emotions.
        answer: ``likelihood`` compares the names' mean log-probability per token, so that long names are not at a
            disadvantage; ``text`` looks for a name in the model's own answer. An answer that names none counts as the
            first emotion and is counted on screen.
        calibrate: with ``likelihood``, subtract each name's log-probability for images without content (Zhao et al.,
            "Calibrate Before Use", ICML 2021).
        reason: a question that ``uniemo predict`` asks too, its answer is ``reason`` in predictions.jsonl;
            ``{emotion}`` stands for the predicted one. null asks none.
        dtype: of the weights; "auto" takes that of the files.
        seed: without effect, nothing is random.
    """

    method = "vision_language"
    trains = False

    def __init__(
        self,
        path: str | None = None,
        question: str = QUESTION,
        answer: Literal["likelihood", "text"] = "likelihood",
        calibrate: bool = True,
        reason: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        seed: Seed = 0,
    ) -> None:
        own = {"path": path, "question": question, "answer": answer, "calibrate": calibrate, "reason": reason}
        super().__init__({**own, "dtype": dtype}, None, seed)

    def make_model(self, vocabulary: Vocabulary) -> QuestionModel:
        """Load the model."""
        own = self.hparams
        return QuestionModel(
            own.path, vocabulary.emotions, own.question, own.answer, own.calibrate, own.dtype, self.trust
        )
