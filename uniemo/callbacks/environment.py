"""Where, with what and for how long a command ran."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import resource
import sys
import time
from pathlib import Path
from typing import Any

import lightning as L
import torch

from uniemo import __version__
from uniemo.cache import write_json

_PACKAGES = ("torch", "lightning", "open_clip_torch", "diffusers", "transformers", "torchmetrics")


class Environment(L.Callback):
    """Write ``<fit|validate|test>_environment.json`` into the run folder when the command has ended.

    It holds versions, machine, devices, the checkpoint, start, duration and peak memory; of a resumed fit those of its
    last part.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Start the clock."""
        self._started = datetime.datetime.now(datetime.timezone.utc)
        self._clock = time.monotonic()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write the file, unless the command was interrupted."""
        command = None if trainer.state.fn is None else trainer.state.fn.value
        if trainer.is_global_zero and not trainer.interrupted and command in ("fit", "validate", "test"):
            write_json(Path(trainer.default_root_dir) / f"{command}_environment.json", self._facts(trainer))

    def _facts(self, trainer: L.Trainer) -> dict[str, Any]:
        device = trainer.strategy.root_device
        cuda = device.type == "cuda"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        facts: dict[str, Any] = {
            "started": self._started.isoformat(timespec="seconds"),
            "seconds": round(time.monotonic() - self._clock, 1),
            "peak memory": f"{peak / 2**30:.1f} GiB",
            "devices": f"{trainer.world_size} × {torch.cuda.get_device_name(device) if cuda else device.type}",
            "machine": f"{platform.platform()}, {os.cpu_count()} cores",
            "precision": str(trainer.precision),
        }
        if cuda:
            facts["peak memory of the GPU"] = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB"
        if trainer.ckpt_path:
            facts["checkpoint"] = str(trainer.ckpt_path)
        versions = {"uniemo": __version__, "python": platform.python_version()}
        versions |= {name: importlib.metadata.version(name) for name in _PACKAGES}
        return {**facts, "versions": versions}
