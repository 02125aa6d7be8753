"""A progress bar that names the losses."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar


class LossProgressBar(TQDMProgressBar):
    """Lightning's bar without the version number, losses by their short names ("loss/scene" shows as "scene")."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show epoch and length at once: a run resumed within an epoch does not meet that epoch's start."""
        super().on_train_start(trainer, pl_module)
        self.on_train_epoch_start(trainer, pl_module)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, int | str | float]:
        """Return the metrics shown behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {
            name.removeprefix("loss/"): f"{value:.3f}" if isinstance(value, float) else value
            for name, value in metrics.items()
        }
