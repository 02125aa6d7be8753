"""A plain table of the figures at the end of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch import Tensor

from uniemo.cache import atomic_write
from uniemo.callbacks.protocol import Maps
from uniemo.data.batch import EmotionBatch

_LOSS = "loss/"  # of the names under which modules log their losses


def format_table(figures: Mapping[str, float], title: str) -> str:
    """Lay out figures in two aligned columns, a heading line per group ("val/accuracy" belongs to "val").

    Args:
        figures: value by name.
        title: first line.

    Returns:
        Lines without trailing white space, the numbers right-aligned with four decimals.
    """
    if not figures:
        return f"{title}\n  (no figures)"
    width = max(len(name) for name in figures)
    lines = [title]
    previous = None
    for name in sorted(figures, key=lambda name: (name.split("/")[0], "/" in name.partition("/")[2], name)):
        group = name.split("/")[0]
        if previous is not None and group != previous:
            lines.append("")
        previous = group
        lines.append(f"  {name:<{width}}  {figures[name]:>10.4f}")
    return "\n".join(lines)


class ClosingTable(L.Callback):
    """Print the last figures when fit, validate or test ends, and save those of validate and test as JSON.

    Losses are means over the last epoch's training images. The files are ``<validate|test>.json`` and, with what was
    taken for what, ``<validate|test>_confusion.json`` in the run folder.
    """

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self._means: dict[str, float] = {}

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Start the epoch's means."""
        self._sums, self._count = {}, 0

    def on_train_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: object,
        batch: EmotionBatch | None,
        batch_idx: int,
    ) -> None:
        """Add the batch's losses, which are over all ranks, weighted by its images."""
        if batch is None:  # nothing of it could be read (data.on_error: skip)
            return
        images = len(batch) * trainer.world_size  # of all ranks, as if each had as many; the ranks' mean is exact
        self._count += images
        for name, value in trainer.callback_metrics.items():
            if name.startswith(_LOSS):  # no .item(): it would wait for the device at every step
                self._sums[name] = self._sums.get(name, 0.0) + value.detach() * images

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the epoch's means, over all ranks."""
        count = torch.tensor(float(max(1, self._count)), device=pl_module.device)
        count = trainer.strategy.reduce(count, reduce_op="mean")
        self._means = {
            name: float(trainer.strategy.reduce(total.clone(), reduce_op="mean") / count)
            for name, total in sorted(self._sums.items())
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the sums so far, for a run that goes on within the epoch (of several ranks those of the first)."""
        return {"sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the sums; an epoch that begins anew clears them."""
        self._sums, self._count = dict(state_dict["sums"]), state_dict["count"]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the figures of the last epoch, and where the checkpoints are."""
        figures = _plain(trainer.callback_metrics) | self._means
        epochs = trainer.current_epoch
        lines = [format_table(figures, f"\nend of fit, {epochs} epochs, {trainer.global_step} steps")]
        lines += [
            f"  {Path(callback.best_model_path).name:<10} {callback.best_model_path}"
            for callback in trainer.checkpoint_callbacks
            if getattr(callback, "best_model_path", "")
        ]
        _say("\n".join(lines))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print and save the test figures."""
        _close(trainer, pl_module, "test", "test")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print and save the figures of a validation on its own (not those inside fit)."""
        if trainer.state.fn == "validate":
            _close(trainer, pl_module, "validate", "val")


def _plain(metrics: Mapping[str, object]) -> dict[str, float]:
    """Turn logged tensors into numbers, without the per-step doubles that Lightning adds."""
    return {
        name.removesuffix("_epoch"): float(value)  # type: ignore[arg-type]
        for name, value in metrics.items()
        if not name.endswith("_step")
    }


def _close(trainer: L.Trainer, module: L.LightningModule, name: str, split: Literal["val", "test"]) -> None:
    """Print the table and write the files."""
    figures = _plain(trainer.callback_metrics)
    _say(format_table(figures, f"\nend of {name}"))
    if not trainer.is_global_zero:
        return
    folder = Path(trainer.default_root_dir)
    values: dict[str, Any] = {key: value if math.isfinite(value) else None for key, value in sorted(figures.items())}
    if isinstance(module, Maps) and (counts := module.confusion(split)) is not None:
        labels = module.label_map()
        if not labels.same_classes:
            values["label_map"] = labels.describe()
        table = {"emotions": labels.target, "rows": "labels", "columns": "answers", "counts": counts.tolist()}
        _write(folder / f"{name}_confusion.json", {"label_map": labels.describe(), **table})
    _write(folder / f"{name}.json", values)


def _write(path: Path, values: dict[str, Any]) -> None:
    """Write JSON."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


@rank_zero_only
def _say(text: str) -> None:
    """Print once, whatever the number of ranks."""
    print(text, flush=True)
