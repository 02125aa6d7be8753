"""``config.yaml`` of a run: everything that it was started with, for ``--config``."""

from __future__ import annotations

from pathlib import Path

import lightning as L
from lightning.pytorch.cli import SaveConfigCallback

from uniemo.cache import atomic_write


class SaveConfig(SaveConfigCallback):
    """Write config.yaml into the run folder, whole or not at all."""

    def save_config(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write it; Lightning calls this on the first rank alone."""
        with atomic_write(Path(trainer.default_root_dir) / self.config_filename) as path:
            self.parser.save(self.config, path, skip_none=False, multifile=False)
