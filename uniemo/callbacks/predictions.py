"""``uniemo predict``: probabilities as JSON Lines."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter

from uniemo.cache import atomic_write, to_json
from uniemo.data.datamodule import EmotionDataModule
from uniemo.distributed import gather
from uniemo.errors import UniEmoError
from uniemo.modules.base import EmotionModule
from uniemo.vocabulary import Vocabulary, output_row


class PredictionWriter(BasePredictionWriter):
    """Write ``predictions.jsonl`` into the run folder: file, emotion, and the probability of each emotion.

    Of a model with a head for them also ``affect``: valence, arousal and their scale.
    Where the data has other classes than the model, ``mapped`` holds emotion and probabilities in the data's; where a
    language model was asked for its ``reason``, that follows. An image that cannot be read has a row with its
    ``error``; unless ``data.on_error`` is ``skip``, the command then fails, when all others are written. What is
    predicted so far is in ``predictions.jsonl.partial`` meanwhile, and stays there when the command is stopped; of
    further processes in ``predictions.jsonl.partial1`` and so on.
    """

    _partial: Path | None = None  # once it holds something

    def __init__(self) -> None:
        super().__init__("batch_and_epoch")
        self._written: dict[int, str] = {}  # lines by sample id

    def write_on_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: EmotionModule,
        prediction: dict[str, Any],
        batch_indices: Sequence[int] | None,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Write the predictions of a batch to the partial file."""
        mode = "a" if self._partial is not None else "w"
        path = _output(trainer).with_suffix(f".jsonl.partial{trainer.global_rank or ''}")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open(mode, encoding="utf-8") as file:
            self._partial = path
            lines = _lines(pl_module, prediction)
            file.writelines(lines.values())
        self._written |= lines

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Say where the predictions of a run that ends early are."""
        if self._partial is not None:
            print(f"what is predicted so far is in {self._partial}", file=sys.stderr)

    def write_on_epoch_end(
        self,
        trainer: L.Trainer,
        pl_module: EmotionModule,
        predictions: Sequence[dict[str, Any]],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write the predictions of all ranks, in the order of the split.

        Raises:
            UniEmoError: images could not be read and ``data.on_error`` is ``raise``.
        """
        lines, self._written = self._written, {}
        for others in gather(lines):
            lines |= others
        data: EmotionDataModule = trainer.datamodule
        found = data.unreadable("test")
        unreadable = {number: {"file": name, "error": reason} for number, (name, reason) in found.items()}
        lines |= {number: to_json(row) for number, row in unreadable.items()}
        if trainer.is_global_zero:
            path = _output(trainer)
            with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
                file.writelines(lines[sample_id] for sample_id in sorted(lines))
            print(f"wrote {path}", flush=True)
        if self._partial is not None:
            self._partial.unlink(missing_ok=True)
            self._partial = None
        if unreadable and data.on_error == "raise":
            first = next(iter(unreadable.values()))
            raise UniEmoError(
                f"images must be readable; {len(unreadable)} of {len(lines)} are not, first {first['file']} "
                f"({first['error']}): all others are in predictions.jsonl; restore them, or add --data.on_error skip"
            )


def _output(trainer: L.Trainer) -> Path:
    return Path(trainer.default_root_dir) / "predictions.jsonl"


def _lines(module: EmotionModule, part: dict[str, Any]) -> dict[int, str]:
    """Return the lines of a batch's predictions by sample id."""
    shares = part["probabilities"].tolist()
    affect = part["affect"].tolist() if "affect" in part else [None] * len(shares)
    rows = [output_row(module.vocabulary, *values) for values in zip(shares, affect, strict=True)]
    if "mapped" in part:
        classes = Vocabulary(module.label_map().target)
        for row, probabilities in zip(rows, part["mapped"].tolist(), strict=True):
            row["mapped"] = output_row(classes, probabilities)
    for row, reason in zip(rows, part.get("reason", ()), strict=False):
        row["reason"] = reason
    found = zip(part["sample_id"].tolist(), part["names"], rows, strict=True)
    return {sample_id: to_json({"file": name, **row}) for sample_id, name, row in found}
