"""A plain table of the figures at the end of a run."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import lightning as L
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from uniemo.resources import atomic_write


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

    The file is ``<validate|test>.json`` in the run folder.
    """

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print what was logged last, and where the checkpoints are."""
        figures = _plain(trainer.callback_metrics)
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
        _close(trainer, "test")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Print and save the figures of a validation on its own (not those inside fit)."""
        if trainer.state.fn == "validate":
            _close(trainer, "validate")


def _plain(metrics: Mapping[str, object]) -> dict[str, float]:
    """Turn logged tensors into numbers, without the per-step doubles that Lightning adds."""
    return {
        name.removesuffix("_epoch"): float(value)  # type: ignore[arg-type]
        for name, value in metrics.items()
        if not name.endswith("_step")
    }


def _close(trainer: L.Trainer, name: str) -> None:
    """Print the table and write ``<name>.json``."""
    figures = _plain(trainer.callback_metrics)
    _say(format_table(figures, f"\nend of {name}"))
    if trainer.is_global_zero:
        values = {key: value if math.isfinite(value) else None for key, value in sorted(figures.items())}
        with atomic_write(Path(trainer.default_root_dir) / f"{name}.json") as path:
            path.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


@rank_zero_only
def _say(text: str) -> None:
    """Print once, whatever the number of ranks."""
    print(text, flush=True)
