"""EmoSet as people have it: JSON annotations, an export of Hugging Face datasets, or WebDataset's tars."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from uniemo.miniature.samples import Sample, Tree
from uniemo.miniature.synthesis import annotation, info

if TYPE_CHECKING:
    from datasets import Dataset

_MISSING = 0.1  # share of images without a scene, and without an object
_ODD = 0.1  # share of annotations with an oddity, for each of them
_ACTIONS = ("boxing ", "petting animal (not cat)")  # EmoSet's own spellings, the blank included
_SPLITS = {"train": "train", "val": "validation", "test": "test"}  # ours: those of an export
_TRAIN_SHARDS = 2
_STRINGS = ("image_id", "scene", "facial_expression", "human_action")
_LEVELS = ("brightness", "colorfulness")


def write_emoset(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write 3-tuples and the full info.json, and the painted objects' masks as the miniature has them."""
    _write(tree, samples, ids=False, tables=_full_info(), masks=True)


def write_tuples_of_four(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write 4-tuples, as EmoSet's README has them, and the full info.json."""
    _write(tree, samples, ids=True, tables=_full_info(), masks=False)


def write_old_info(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write 3-tuples and the flat info.json that knows emotions only."""
    _write(tree, samples, ids=False, tables=dict(info()["emotion"]), masks=False)


def write_parquet(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``data/{train,validation,test}-NNNNN-of-NNNNN.parquet``; emotions are strings."""
    for split, name in _SPLITS.items():
        table = _export(tree, [sample for sample in samples if sample.split == split], None)
        shards = _TRAIN_SHARDS if split == "train" else 1
        for shard in range(shards):
            path = tree.path(f"data/{name}-{shard:05d}-of-{shards:05d}.parquet")
            table.shard(shards, shard, contiguous=True).to_parquet(path)


def write_saved(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``dataset_dict.json`` and ``{train,validation,test}/`` with Arrow files, as ``save_to_disk`` does.

    Emotions are a ClassLabel whose names are sorted, another order than EmoSet's: only the names say which is which.
    """
    from datasets import DatasetDict

    names = sorted({sample.name for sample in samples})
    tables = {
        name: _export(tree, [sample for sample in samples if sample.split == split], names)
        for split, name in _SPLITS.items()
    }
    DatasetDict(tables).save_to_disk(tree.root)


def write_webdataset(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``data/{train,validation,test}-NNNNN-of-NNNNN.tar``: a picture and its annotation for each image."""
    for split, name in _SPLITS.items():
        chosen = [sample for sample in samples if sample.split == split]
        shards = _TRAIN_SHARDS if split == "train" else 1
        for shard in range(shards):
            path = tree.path(f"data/{name}-{shard:05d}-of-{shards:05d}.tar")
            with tarfile.open(path, "w") as archive:
                for sample in chosen[shard::shards]:
                    sample.file = sample.filename
                    note = _json(_odd_annotation(sample, tree.rng(sample.number)))
                    for file, content in (
                        (sample.filename, tree.paint(sample)[1]),
                        (f"{sample.stem}.json", note.encode()),
                    ):
                        entry = tarfile.TarInfo(file)
                        entry.size = len(content)
                        archive.addfile(entry, BytesIO(content))


def _write(tree: Tree, samples: Sequence[Sample], ids: bool, tables: dict[str, Any], masks: bool) -> None:
    """Write a tree of JSON files."""
    tree.write("info.json", _json(tables))
    lists: dict[str, list[list[str]]] = {split: [] for split in _SPLITS}
    for sample in samples:
        emotion = sample.label.emotion
        painting = tree.save(sample, f"image/{emotion}")
        note = f"annotation/{emotion}/{sample.stem}.json"
        if sample.fault != "missing_annotation":
            tree.write(note, _json(_odd_annotation(sample, tree.rng(sample.number))))
        if masks:
            mask = Image.fromarray(painting.object_mask.astype(np.uint8) * 255)
            mask.save(tree.path(f"mask/{emotion}/{sample.stem}.png"))
        lists[sample.split].append([sample.name, *([sample.stem] if ids else []), sample.file, note])
    for split, entries in lists.items():
        tree.write(f"{split}.json", _json(entries))


def _odd_annotation(sample: Sample, rng: np.random.Generator) -> dict[str, Any]:
    """Return a sample's attributes with the oddities of the real ones: absent keys, trailing blanks."""
    has_scene, has_object = (rng.random(2) >= _MISSING).tolist()
    result = annotation(sample.label, sample.stem, has_scene, has_object)
    result["emotion"] = sample.name
    no_levels, blank, action, face = (rng.random(4) < _ODD).tolist()
    if no_levels:
        del result["brightness"], result["colorfulness"]
    if blank and has_scene:
        result["scene"] = f"{sample.label.scene} "
    if action:
        result["human_action"] = _ACTIONS[int(rng.integers(len(_ACTIONS)))]
    if face:
        result["facial_expression"] = "happy"
    return result


def _full_info() -> dict[str, Any]:
    """Return info.json with some of EmoSet's own names beside the painted ones."""
    tables = info()
    extra = {"scene": ("bakery/shop",), "object": ("Alarm clock",), "human_action": _ACTIONS}
    for kind, names in extra.items():
        known = sorted({*(str(name) for name in tables[kind]["label2idx"]), *names})
        tables[kind]["label2idx"] = {name: index for index, name in enumerate(known)}
        tables[kind]["idx2label"] = {str(index): name for index, name in enumerate(known)}
    return dict(tables)


def _json(value: object) -> str:
    """Return JSON, names in any script as they are."""
    return json.dumps(value, ensure_ascii=False)


def _export(tree: Tree, samples: Sequence[Sample], names: Sequence[str] | None) -> Dataset:
    """Return samples as a Hugging Face dataset; ``names`` of the emotion's ClassLabel, None for strings."""
    import datasets

    datasets.disable_progress_bars()  # the tree has one of its own
    text = datasets.Value("string")
    rows = []
    for sample in samples:
        sample.file = sample.filename
        note = _odd_annotation(sample, tree.rng(sample.number))
        row: dict[str, Any] = {key: note.get(key) for key in (*_STRINGS, *_LEVELS)}
        row["object"] = note.get("object", [])
        row["image"] = {"bytes": tree.paint(sample)[1], "path": sample.filename}
        row["emotion"] = sample.name
        rows.append(row)
    features = {
        "image": datasets.Image(),
        "emotion": text if names is None else datasets.ClassLabel(names=list(names)),
        **dict.fromkeys(_STRINGS, text),
        **dict.fromkeys(_LEVELS, datasets.Value("float64")),
        "object": [text],
    }
    return datasets.Dataset.from_list(rows, features=datasets.Features(features))
