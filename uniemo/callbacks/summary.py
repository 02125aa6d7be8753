"""A plain table of the metrics at the end of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from torch import Tensor

from uniemo.cache import write_json
from uniemo.data.batch import EmotionBatch
from uniemo.metrics.answers import ANSWERS, write_answers
from uniemo.modules.accuracy import print_once
from uniemo.modules.base import EmotionModule


def format_table(metrics: Mapping[str, float], title: str) -> str:
    """Lay out metrics by name in two aligned columns under a title, groups ("val/accuracy" is of "val") set apart."""
    if not metrics:
        return f"{title}\n  (no metrics)"
    width = max(map(len, metrics))
    lines, previous = [title], None
    for name in sorted(metrics, key=lambda name: (name.split("/")[0], "/" in name.partition("/")[2], name)):
        group = name.split("/")[0]
        if previous not in (None, group):
            lines.append("")
        previous = group
        lines.append(f"  {name:<{width}}  {metrics[name]:>10.4f}")
    return "\n".join(lines)


class Summary(L.Callback):
    """Print the last metrics when fit, validate or test ends, and save those of validate and test as JSON.

    Losses are means over the last epoch's training images. The files are ``<validate|test>.json`` and, for methods that
    classify, ``<validate|test>_confusion.json`` and ``<validate|test>_answers.parquet`` (of each picture: file, label,
    answer, probability of the label) in the run folder. A metric without a value is null there, and the
    reason is under ``undefined``.
    """

    state_key = "ClosingTable"  # its name in checkpoints since version 0.1

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._count = 0
        self.losses: dict[str, float] = {}  # means over the last epoch

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
        if batch is None:  # none of its images could be read (data.on_error: skip)
            return
        images = len(batch) * trainer.world_size  # as if each rank had as many; the mean over ranks is exact
        self._count += images
        for name, value in trainer.callback_metrics.items():
            if name.startswith("loss/"):  # no .item(): it would wait for the device at every step
                self._sums[name] = self._sums.get(name, 0.0) + value.detach() * images

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Keep the epoch's means, over all ranks."""
        count = torch.tensor(float(max(1, self._count)), device=pl_module.device)
        count = trainer.strategy.reduce(count, reduce_op="mean")
        self.losses = {
            name: float(trainer.strategy.reduce(total.clone(), reduce_op="mean") / count)
            for name, total in sorted(self._sums.items())
        }

    def state_dict(self) -> dict[str, Any]:
        """Return the sums so far, for a run that resumes within the epoch (of several ranks those of the first)."""
        return {"sums": dict(self._sums), "count": self._count}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over the sums; an epoch that begins anew clears them."""
        self._sums, self._count = dict(state_dict["sums"]), state_dict["count"]

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print the metrics of the last epoch, and where the checkpoints are."""
        metrics = _logged(trainer) | self.losses
        title = f"\nend of fit, {trainer.current_epoch} epochs, {trainer.global_step} steps"
        lines = [format_table(metrics, title)]
        paths = [Path(getattr(callback, "best_model_path", "")) for callback in trainer.checkpoint_callbacks]
        lines += [f"  {path.name:<10} {path}" for path in paths if path.name]
        print_once("\n".join(lines))

    def on_test_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print and save the test metrics."""
        _save(trainer, pl_module, "test", "test")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print and save the metrics of a validation on its own (not those inside fit)."""
        if trainer.state.fn == "validate":
            _save(trainer, pl_module, "validate", "val")


def _logged(trainer: L.Trainer) -> dict[str, float]:
    """Return the logged metrics as numbers, without the per-step doubles that Lightning adds."""
    return {
        name.removesuffix("_epoch"): float(value)
        for name, value in trainer.callback_metrics.items()
        if not name.endswith("_step")
    }


def _save(trainer: L.Trainer, module: L.LightningModule, name: str, split: Literal["val", "test"]) -> None:
    """Print the table and write the files."""
    metrics, folder = _logged(trainer), Path(trainer.default_root_dir)
    print_once(format_table(metrics, f"\nend of {name}"))
    if not trainer.is_global_zero:
        return
    values: dict[str, Any] = {key: value if math.isfinite(value) else None for key, value in sorted(metrics.items())}
    undefined = {key: _reason(key, split) for key, value in values.items() if value is None}
    if undefined:
        values["undefined"] = undefined
    if isinstance(module, EmotionModule) and (counts := module.confusion(split)) is not None:
        labels = module.label_map()
        if not labels.same_classes:
            values["label_map"] = labels.describe()
        table = {"emotions": labels.target, "rows": "labels", "columns": "answers", "counts": counts.tolist()}
        write_json(folder / f"{name}_confusion.json", {"label_map": labels.describe(), **table})
        _save_answers(folder / f"{name}_{ANSWERS}.parquet", trainer, module, split)
    write_json(folder / f"{name}.json", values)


def _save_answers(path: Path, trainer: L.Trainer, module: EmotionModule, split: Literal["val", "test"]) -> None:
    """Write the answers on a split."""
    found = module.answers(split)
    assert found is not None  # where there is a confusion
    files = trainer.datamodule.names(split, found["sample_id"].tolist())
    write_answers(path, files, module.label_map().target, found["label"], found["answer"], found["probability"])


def _reason(name: str, split: str) -> str:
    """Return why a metric has no value."""
    return "the split has no image of it" if name.startswith(f"{split}/accuracy/") else "not a finite number"
