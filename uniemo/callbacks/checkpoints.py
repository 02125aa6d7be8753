"""The two checkpoints of a run: ``best.ckpt`` to use, ``last.ckpt`` to resume from."""

from __future__ import annotations

import math
import os
import shutil
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import SIGTERMException
from torch import Tensor

from uniemo.cache import save_tensors
from uniemo.errors import Count, NonNegative, Positive, UniEmoError, check_ranges


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write a checkpoint beside its place, then rename it: whenever a run is killed, the old or the new file is whole.

    Lightning's own makes the file in memory and in the folder for temporary files, and copies it from there where that
    is another disk.
    """

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: Any = None,  # noqa: ANN401
    ) -> None:
        """Write ``checkpoint`` to ``path``; there are no ``storage_options``."""
        save_tensors(Path(path), checkpoint)


class _RunFolderCheckpoint(ModelCheckpoint):
    """A ModelCheckpoint that writes straight into the run folder (``trainer.default_root_dir``)."""

    _over = False  # whether a resumed run has no step left

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Point at the run folder before Lightning chooses one of its own; have files written atomically."""
        folder = Path(trainer.default_root_dir).resolve()
        self.dirpath = str(folder)
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:  # the default, not a plugin that a user chose
            trainer.strategy.checkpoint_io = AtomicCheckpointIO()
        if stage == "fit" and trainer.is_global_zero:
            for partial in folder.glob(f".{self.filename}{self.FILE_EXTENSION}.*"):  # of a run killed while writing
                shutil.rmtree(partial, ignore_errors=True)
        super().setup(trainer, pl_module, stage)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what a run has saved; Lightning removes the files that it names when it writes new ones.

        Raises:
            UniEmoError: it names another file than this callback's own.
        """
        best = state_dict.get("best_k_models") or {}
        names = ("best_model_path", "kth_best_model_path", "last_model_path")
        paths = [*best, *(state_dict.get(name) or "" for name in names)]
        own = f"{self.filename}{self.FILE_EXTENSION}"
        for path in paths:
            if path and (os.path.basename(str(path)) != own or os.path.abspath(str(path)) != path):
                raise UniEmoError(f"checkpoint must name its own run's {own}; it names {path}: take another")
        super().load_state_dict(state_dict)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Find out whether the resumed run was killed at its very end, with no step left to take."""
        if trainer.state.fn == "fit":
            epochs = checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"]
            self._over = 0 < (trainer.max_epochs or 0) <= epochs or 0 < trainer.max_steps <= checkpoint["global_step"]

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Complete the checkpoint of such a run: Lightning does not reach its end again."""
        if self._over:
            self._complete(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Let the module complete the checkpoint, for example with the emotion space in full."""
        super().on_train_end(trainer, pl_module)
        self._complete(trainer, pl_module)

    def _complete(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Give the file to the module; one in another folder, which a resumed run came from, is not this run's."""
        path = Path(self.best_model_path)
        complete = getattr(module, "complete_checkpoint", None)
        if complete is not None and str(path.parent) == self.dirpath and not trainer.fast_dev_run:
            complete(path)


class BestCheckpoint(_RunFolderCheckpoint):
    """``best.ckpt``: the weights with the best validation accuracy, and nothing that only training needs.

    Accuracy does not measure the half of the model that generates. With ``standard_errors`` above 0, a later epoch
    whose accuracy is not measurably lower than the best so far replaces it: its generator has trained for longer (the
    one-standard-error rule of Breiman et al., 1984, with training time in the place of simplicity).

    Args:
        monitor: logged metric that decides.
        mode: "max" or "min".
        standard_errors: how many standard errors below the best so far still count as equal, the metric taken as a
            share of the validation images; 0 asks for a better metric.

    Raises:
        UniEmoError: ``standard_errors`` below 0, or above 0 where smaller is better.
    """

    def __init__(
        self, monitor: str = "val/accuracy", mode: Literal["max", "min"] = "max", standard_errors: NonNegative = 0.0
    ) -> None:
        check_ranges(BestCheckpoint, locals(), "best_checkpoint.")
        if standard_errors > 0 and mode != "max":
            raise UniEmoError(f"best_checkpoint.standard_errors must be 0 with mode {mode}; got {standard_errors}")
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_weights_only=True, enable_version_counter=False
        )
        self.standard_errors = standard_errors
        self.highest: float | None = None  # best metric so far; with standard_errors not always that of the saved file

    def check_monitor_top_k(self, trainer: L.Trainer, current: Tensor | None = None) -> bool:
        """Whether the present weights replace the saved ones."""
        if self.standard_errors == 0 or current is None:
            return super().check_monitor_top_k(trainer, current)
        value, highest = float(current), self.highest
        error = 0.0
        if highest is not None and 0 <= highest <= 1:
            error = math.sqrt(highest * (1 - highest) / len(trainer.val_dataloaders.dataset))
        first = highest is None or not self.best_k_models
        replace = first or value >= float(highest or 0.0) - self.standard_errors * error
        if not math.isnan(value):
            self.highest = value if highest is None else max(highest, value)
        return bool(trainer.strategy.reduce_boolean_decision(replace))

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return super().state_dict() | {"highest": self.highest}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load what :meth:`state_dict` returned."""
        self.highest = state_dict.get("highest")
        super().load_state_dict(state_dict)


class LastCheckpoint(_RunFolderCheckpoint):
    """``last.ckpt``: everything needed to resume, after every epoch and in between.

    A run resumed from it takes the steps that it would have taken without a break, with the same images, noise and
    dropout. Within an epoch it is written between two steps only, and not where a validation comes next: the resumed
    run would leave that out, and a checkpoint follows it anyway.

    Args:
        every_n_steps: write it also after so many optimiser steps; null for the clock alone.
        every_minutes: write it also when the one before is so old; null for never. A run stopped by SIGTERM (as SLURM
            and Kubernetes do) writes it after the current step.

    Raises:
        UniEmoError: ``every_n_steps`` below 1 or ``every_minutes`` not above 0.
    """

    def __init__(self, every_n_steps: Count | None = None, every_minutes: Positive | None = 15.0) -> None:
        check_ranges(LastCheckpoint, locals(), "last_checkpoint.")
        super().__init__(
            filename="last", save_top_k=1, every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False
        )
        self.every_n_steps = every_n_steps
        self.every_minutes = every_minutes
        self._overdue = False  # the one after the last epoch is not written yet
        self._saved_at = 0.0  # seconds of the clock
        self._saved_step: int | None = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the clock; remember the step that a resumed run started at."""
        super().on_train_start(trainer, pl_module)
        self._saved_at = time.monotonic()
        here = trainer.ckpt_path is not None and str(Path(trainer.ckpt_path).resolve()) == self.best_model_path
        self._saved_step = trainer.global_step if here else None

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Write it within the epoch when it is due."""
        stepped = batch is not None and (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if not stepped or _validates_next(trainer, batch_idx) or self._should_skip_saving_checkpoint(trainer):
            return
        if self._due(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write it; where a run's length is given in steps, have it written after the next step.

        Lightning counts an epoch twice when it resumes such a run at an epoch's end.
        """
        self._overdue = trainer.max_steps > 0
        if not self._overdue:
            super().on_train_epoch_end(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write it where no next step has come; let the module complete it."""
        if self._overdue and not self._should_skip_saving_checkpoint(trainer):
            self._save_topk_checkpoint(trainer, self._monitor_candidates(trainer))
        super().on_train_end(trainer, pl_module)

    def _due(self, trainer: L.Trainer) -> bool:
        """Whether steps, clock or a signal ask for a checkpoint, on any rank."""
        if self._overdue or (self.every_n_steps is not None and trainer.global_step % self.every_n_steps == 0):
            return True
        due = trainer.received_sigterm
        if self.every_minutes is not None:
            due = due or time.monotonic() - self._saved_at >= 60 * self.every_minutes
        return bool(trainer.strategy.reduce_boolean_decision(due, all=False))

    def _save_checkpoint(self, trainer: L.Trainer, filepath: str) -> None:
        """Write it, and remember when."""
        super()._save_checkpoint(trainer, filepath)
        self._overdue = False
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Count batches of which no image could be read as started: Lightning does not, and then resumes one off."""
        progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for counts in (progress["total"], progress["current"]):
            counts["started"] = counts["ready"]

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Print how a run that was interrupted can be resumed."""
        super().on_exception(trainer, pl_module, exception)
        interrupted = isinstance(exception, (KeyboardInterrupt, SIGTERMException))
        if not interrupted or trainer.state.fn != "fit" or not trainer.is_global_zero:
            return
        there = ", before the first last.ckpt: the same command begins again"
        if self._saved_step is not None:
            there = f"; last.ckpt holds step {self._saved_step}: the same command with --resume goes on from it"
        print(f"stopped at step {trainer.global_step}{there}", flush=True)


def _validates_next(trainer: L.Trainer, batch_idx: int) -> bool:
    """Whether a validation follows this batch, at the end of the epoch or within it."""
    if trainer.is_last_batch:
        return True
    every = trainer.val_check_batch  # None where the clock decides
    batches = trainer.fit_loop.total_batch_idx if trainer.check_val_every_n_epoch is None else batch_idx
    return every is not None and (batches + 1) % every == 0
