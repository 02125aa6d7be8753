"""The two checkpoints of a run: ``best.ckpt`` to use, ``last.ckpt`` to go on from."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint

from uniemo.callbacks.protocol import Completes


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

    Args:
        monitor: logged figure that decides.
        mode: "max" or "min".
    """

    def __init__(self, monitor: str = "val/accuracy", mode: str = "max") -> None:
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_weights_only=True, enable_version_counter=False
        )


class LastCheckpoint(_RunFolderCheckpoint):
    """``last.ckpt``: everything needed to resume, after every epoch."""

    def __init__(self) -> None:
        super().__init__(filename="last", save_top_k=1, every_n_epochs=1, enable_version_counter=False)
