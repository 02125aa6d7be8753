"""``uniemo predict``: probabilities as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter

from uniemo.callbacks.protocol import Classifies, Maps
from uniemo.resources import atomic_write


class PredictionWriter(BasePredictionWriter):
    """Write ``predictions.jsonl`` into the run folder: file, emotion, and the probability of each emotion.

    Where the data has other classes than the model, ``mapped`` holds emotion and probabilities in the data's.
    """

    def __init__(self) -> None:
        super().__init__("epoch")

    def write_on_epoch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        predictions: Sequence[dict[str, Any]],
        batch_indices: Sequence[Any],
    ) -> None:
        """Write all predictions of this rank (rank 0 writes the name without a number)."""
        if not isinstance(pl_module, Classifies):
            return
        emotions = pl_module.vocabulary.emotions
        suffix = "" if trainer.is_global_zero else f"-rank{trainer.global_rank}"
        path = Path(trainer.default_root_dir) / f"predictions{suffix}.jsonl"
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            for part in predictions:
                answers = [_answer(emotions, row) for row in part["probabilities"].tolist()]
                if "mapped" in part and isinstance(pl_module, Maps):
                    classes = pl_module.label_map().target
                    for answer, row in zip(answers, part["mapped"].tolist(), strict=True):
                        answer["mapped"] = _answer(classes, row)
                for name, answer in zip(part["names"], answers, strict=True):
                    file.write(json.dumps({"file": name, **answer}, ensure_ascii=False) + "\n")
        if trainer.is_global_zero:
            print(f"wrote {path}", flush=True)


def _answer(emotions: Sequence[str], probabilities: list[float]) -> dict[str, Any]:
    """Return the most probable emotion and the probability of each."""
    best = max(range(len(emotions)), key=probabilities.__getitem__)
    rounded = (round(value, 6) for value in probabilities)
    return {"emotion": emotions[best], "probabilities": dict(zip(emotions, rounded, strict=True))}
