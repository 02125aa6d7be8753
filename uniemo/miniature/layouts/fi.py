"""FI as people have it: class folders, split folders, JSON lists or a CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence

from uniemo.data.listing import SPLITS, Split

from .shots import Shot, Studio


def write_zip(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``emotion_dataset/<emotion>/``, the author's zip; it gives no split."""
    for shot in shots:
        studio.save(shot, f"emotion_dataset/{shot.name}")


def write_splits(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``FI/{train,val,test}/<emotion>/``."""
    for shot in shots:
        studio.save(shot, f"FI/{shot.split}/{shot.name}")


def write_splits_without_val(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``FI/{train,test}/<emotion>/``."""
    for shot in shots:
        studio.save(shot, f"FI/{_two(shot.split)}/{shot.name}")


def write_json(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``{train,test}/`` with ``{train,test}.json`` of ``[name, label]``."""
    lists: dict[str, list[list[str]]] = {split: [] for split in SPLITS if split != "val"}
    for shot in shots:
        studio.save(shot, _two(shot.split))
        lists[_two(shot.split)].append([shot.filename, shot.name])
    for split, entries in lists.items():
        studio.write(f"{split}.json", json.dumps(entries, ensure_ascii=False))


def write_csv(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``images/<emotion>/`` with ``FI.csv``: path below ``images`` and class."""
    rows = []
    for shot in shots:
        studio.save(shot, f"images/{shot.label.emotion}")
        rows.append((shot.file.removeprefix("images/"), shot.name))
    studio.write_table("FI.csv", rows, ("path", "class"))


def _two(split: Split) -> Split:
    """Return the split where only train and test exist."""
    return "train" if split == "val" else split
