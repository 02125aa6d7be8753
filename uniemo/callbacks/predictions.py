"""``uniemo predict``: probabilities as JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import BasePredictionWriter

from uniemo.callbacks.protocol import Classifies
from uniemo.resources import atomic_write


class PredictionWriter(BasePredictionWriter):
    """Write ``predictions.jsonl`` into the run folder: file, emotion, and the probability of each emotion."""

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
                for name, row in zip(part["names"], part["probabilities"].tolist(), strict=True):
                    best = emotions[max(range(len(row)), key=row.__getitem__)]
                    probabilities = dict(zip(emotions, (round(value, 6) for value in row), strict=True))
                    line = {"file": name, "emotion": best, "probabilities": probabilities}
                    file.write(json.dumps(line, ensure_ascii=False) + "\n")
        if trainer.is_global_zero:
            print(f"wrote {path}", flush=True)
