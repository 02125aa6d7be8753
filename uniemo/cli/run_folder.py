"""The folder of a run: whether it is free, what resumes in it, and what belongs to its checkpoints."""

from __future__ import annotations

from pathlib import Path

from jsonargparse import Namespace

from uniemo.checkpoint import CheckpointInfo, read_checkpoint
from uniemo.data.datamodule import SPLIT_FILE
from uniemo.errors import UniEmoError
from uniemo.stored_config import stored_config

_RESULTS = (
    *("*.ckpt", "events.out.tfevents.*", "images/*.png", "images/*/*"),
    *("test*.json", "test*.parquet", "validate*.json", "validate*.parquet"),
    *("predictions.jsonl*", SPLIT_FILE, "skipped.jsonl"),
)
# what a run that never wrote a checkpoint may leave, beside events and half-written files, whose names begin with a dot
_LEFTOVERS = ("config.yaml", "hparams.yaml", "images", SPLIT_FILE, "skipped.jsonl")
_SAME_DATA = ("root", "layout", "fold", "folds", "val_fraction", "agreement")  # with the seed, what decides splits


def checkpoint_to_resume(folder: Path, resume: bool, overwrite: bool) -> CheckpointInfo | None:
    """Return the checkpoint with which a fit in a folder goes on, None where it starts anew."""
    last = folder / "last.ckpt"
    if resume:
        if not last.is_file():
            raise UniEmoError(f"--resume needs {last}; there is none: leave --resume out or give --run_dir")
        return read_checkpoint(last)[1]
    if overwrite or not folder.is_dir():
        return None
    names = sorted(path.name for path in folder.iterdir())
    taken = [name for name in names if name not in _LEFTOVERS and not name.startswith((".", "events.out."))]
    if taken:
        go_on = "add --resume to go on, " if last.is_file() else "add "
        raise UniEmoError(
            f"--run_dir must be new or empty; {folder} holds {taken[0]}: {go_on}--overwrite to start again, "
            "or another --run_dir"
        )
    return None


def remove_results(folder: Path) -> None:
    """Remove what a run wrote that is overwritten."""
    for path in [path for pattern in _RESULTS for path in folder.glob(pattern)]:
        path.unlink()


def folder_of_results(checkpoint: CheckpointInfo, data: Namespace) -> Path:
    """Return the checkpoint's folder; for another dataset one in it, so that no results are overwritten."""
    stored = stored_config(checkpoint, trust=True).get("data", {}).get("class_path", "")
    trained, given = (str(name).rpartition(".")[2] for name in (stored, data.class_path))
    return checkpoint.path.parent if trained in ("", given) else checkpoint.path.parent / given


def use_splits_of(checkpoint: CheckpointInfo, data: Namespace) -> None:
    """Use the splits that a checkpoint was trained with, where they lie beside it and the data is the same."""
    stored = stored_config(checkpoint, trust=True).get("data", {})
    before, now = stored.get("init_args", {}), data.init_args
    same = stored.get("class_path") == data.class_path
    same = same and all(before.get(name) == now.get(name) for name in _SAME_DATA)
    beside = checkpoint.path.parent / SPLIT_FILE
    if same and now.get("split_file") is None and beside.is_file():
        now.split_file = str(beside)
