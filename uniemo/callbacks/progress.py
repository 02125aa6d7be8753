"""A progress bar that names the losses; a line for each epoch where no terminal shows it."""

from __future__ import annotations

import sys

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar

from uniemo.distributed import is_first


class LossProgressBar(TQDMProgressBar):
    """Lightning's bar without the version number, losses by their short names ("loss/scene" shows as "scene").

    In a file, a pipe or a job's log there is no bar but a line at the end of each epoch.
    """

    def __init__(self) -> None:
        self.on_terminal = sys.stdout.isatty()
        super().__init__(refresh_rate=1 if self.on_terminal else 0)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show epoch and length at once: a run resumed within an epoch does not meet that epoch's start."""
        super().on_train_start(trainer, pl_module)
        self.on_train_epoch_start(trainer, pl_module)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the line where there is no bar."""
        super().on_train_epoch_end(trainer, pl_module)
        if not self.on_terminal and is_first():
            shown = ", ".join(f"{name} {value}" for name, value in self.get_metrics(trainer, pl_module).items())
            print(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: {shown}", flush=True)

    def get_metrics(self, trainer: L.Trainer, pl_module: L.LightningModule) -> dict[str, int | str | float]:
        """Return the metrics shown behind the bar."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return {
            name.removeprefix("loss/"): f"{value:.3f}" if isinstance(value, float) else value
            for name, value in metrics.items()
        }
