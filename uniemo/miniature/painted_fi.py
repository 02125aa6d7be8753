"""FI as people have it: class folders, split folders, JSON lists or a CSV."""

from __future__ import annotations

import json
from collections.abc import Sequence

from uniemo.miniature.samples import Sample, Tree


def write_zip(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``emotion_dataset/<emotion>/``, the author's zip; it gives no split."""
    for sample in samples:
        tree.save(sample, f"emotion_dataset/{sample.name}")


def write_splits(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``FI/{train,val,test}/<emotion>/``."""
    for sample in samples:
        tree.save(sample, f"FI/{sample.split}/{sample.name}")


def write_splits_without_val(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``FI/{train,test}/<emotion>/``."""
    for sample in samples:
        tree.save(sample, f"FI/{_train_or_test(sample)}/{sample.name}")


def write_json(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``{train,test}/`` with ``{train,test}.json`` of ``[name, label]``."""
    lists: dict[str, list[list[str]]] = {"train": [], "test": []}
    for sample in samples:
        tree.save(sample, _train_or_test(sample))
        lists[_train_or_test(sample)].append([sample.filename, sample.name])
    for split, entries in lists.items():
        tree.write(f"{split}.json", json.dumps(entries, ensure_ascii=False))


def write_csv(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``images/<emotion>/`` with ``FI.csv``: path below ``images`` and class."""
    rows = []
    for sample in samples:
        tree.save(sample, f"images/{sample.label.emotion}")
        rows.append((sample.file.removeprefix("images/"), sample.name))
    tree.write_table("FI.csv", rows, ("path", "class"))


def _train_or_test(sample: Sample) -> str:
    """Return the split where only train and test exist."""
    return "train" if sample.split == "val" else sample.split
