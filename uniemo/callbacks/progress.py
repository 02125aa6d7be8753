"""A progress bar that names the losses."""

from __future__ import annotations

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar


class LossProgressBar(TQDMProgressBar):
    """Lightning's bar without the version number, losses by their short names ("loss/scene" shows as "scene")."""

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, int | str | float]:
        """Return what stands behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {
            name.removeprefix("loss/"): f"{value:.3f}" if isinstance(value, float) else value
            for name, value in metrics.items()
        }
