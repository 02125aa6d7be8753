"""The two checkpoints of a run: ``best.ckpt`` to use, ``last.ckpt`` to go on from."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from uniemo.callbacks.protocol import Completes
from uniemo.errors import UniEmoError


class _RunFolderCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that writes straight into the run folder (``trainer.default_root_dir``)."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Point at the run folder before Lightning works out a folder of its own."""
        self.dirpath = str(Path(trainer.default_root_dir).resolve())
        super().setup(trainer, pl_module, stage)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the module complete the checkpoint, for example with the emotion space in full."""
        super().on_train_end(trainer, pl_module)
        path = self.best_model_path
        if path and isinstance(pl_module, Completes) and not trainer.fast_dev_run:
            pl_module.complete_checkpoint(Path(path))


class BestCheckpoint(_RunFolderCheckpoint):
    """``best.ckpt``: the weights with the best validation accuracy, and nothing that only training needs.

    Accuracy says nothing about the half of the model that draws. With ``standard_errors`` above 0, a later epoch whose
    accuracy is not measurably lower than the best so far takes its place: its generator has learned for longer (the
    one-standard-error rule of Breiman et al., 1984, with training time in the place of simplicity).

    Args:
        monitor: logged figure that decides.
        mode: "max" or "min".
        standard_errors: how many standard errors below the best so far still count as equal, the figure taken as a
            share of the validation images; 0 asks for a better figure.

    Raises:
        UniEmoError: ``standard_errors`` below 0, or above 0 where smaller is better.
    """

    def __init__(self, monitor: str = "val/accuracy", mode: str = "max", standard_errors: float = 0.0) -> None:
        if standard_errors < 0 or (standard_errors > 0 and mode != "max"):
            raise UniEmoError(
                "best_checkpoint.standard_errors must be at least 0, and 0 with mode min; "
                f"got {standard_errors} and {mode}"
            )
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_weights_only=True, enable_version_counter=False
        )
        self.standard_errors = standard_errors
        self.highest: float | None = None  # best figure of the run; with standard_errors not always the saved one's

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether the present weights take the place of the saved ones."""
        if self.standard_errors == 0 or current is None:
            return super().check_monitor_top_k(trainer, current)
        value, highest = float(current), self.highest
        error = 0.0
        if highest is not None and 0 <= highest <= 1:
            error = math.sqrt(highest * (1 - highest) / len(trainer.val_dataloaders.dataset))
        first = highest is None or not self.best_k_models
        take = first or value >= float(highest or 0.0) - self.standard_errors * error
        if not math.isnan(value):
            self.highest = value if highest is None else max(highest, value)
        return bool(trainer.strategy.reduce_boolean_decision(take))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return super().state_dict() | {"highest": self.highest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take up where :meth:`state_dict` was written."""
        self.highest = state_dict.get("highest")
        super().load_state_dict(state_dict)


class LastCheckpoint(_RunFolderCheckpoint):
    """``last.ckpt``: everything needed to resume, after every epoch."""

    def __init__(self) -> None:
        super().__init__(filename="last", save_top_k=1, every_n_epochs=1, enable_version_counter=False)
