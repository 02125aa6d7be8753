"""Checkpoints of the miniature after two steps of training: enough where only time and memory are asked about."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

SHORT = (
    *("--trainer.max_epochs", "1", "--trainer.limit_train_batches", "2", "--trainer.limit_val_batches", "1"),
    *("--trainer.enable_progress_bar", "false", "--trainer.logger", "false"),
    *("--attention_maps.every_n_epochs", "0", "--generation_metrics.every_n_epochs", "0"),
)


def uniemo(*words: str | Path, **environment: str) -> str:
    """Run a command of uniemo in a process of its own and return what it printed.

    Args:
        words: the command and its options.
        environment: variables set for it.

    Raises:
        RuntimeError: it failed; what it said is in the message.
    """
    command = [sys.executable, "-m", "uniemo", *map(str, words)]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with code {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def short_run(stage: str, folder: Path, *words: str | Path) -> Path:
    """Train a stage for two steps, unless the folder holds the result already.

    P(emotion | attribute) comes from a table with one row, so that no classifier has to be trained first; the emotion
    space is built from all training images, as in any run.

    Args:
        stage: understanding, joint or feedback.
        folder: where the run goes.
        words: more options of ``uniemo fit``.

    Returns:
        Its best checkpoint.
    """
    checkpoint = folder / "best.ckpt"
    if checkpoint.is_file():
        return checkpoint
    folder.mkdir(parents=True, exist_ok=True)
    options = ["--config", f"{stage}.yaml", "--run_dir", folder / "run", *SHORT]
    if stage != "understanding":
        table = folder / "table.json"
        table.write_text(json.dumps({"balloon": [1 / 8] * 8}))
        options += ["--model.attributes.source", "table", "--model.attributes.table", table]
    uniemo("fit", *options, *words)
    (folder / "run" / "best.ckpt").rename(checkpoint)
    return checkpoint
