"""A split's labels in one file that processes map and share."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uniemo.data.array_file import read_arrays, write_arrays
from uniemo.data.dataset import Records
from uniemo.data.emoset_files import NameTable
from uniemo.data.index.ledger import Ledger, Positions
from uniemo.data.listing import Split
from uniemo.data.packed import PackedLists, PackedOptional, PackedStrings, dense
from uniemo.vocabulary import Vocabulary


def write_labels(
    path: Path,
    ledger: Ledger,
    split: Split,
    vocabulary: Vocabulary,
    with_masks: bool,
    rows: Positions | None = None,
) -> None:
    """Turn names into class indices and write what :func:`map_labels` maps.

    Args:
        path: file to write.
        ledger: has read all annotations of the split.
        split: which entries.
        vocabulary: numbers the names; unknown attribute names count as absent.
        with_masks: the tree has masks.
        rows: entries to take; None takes all.

    Raises:
        UniEmoError: an emotion outside the vocabulary.
    """
    table = ledger.splits[split]
    if rows is not None:
        table = table.take(rows)
    used = set(table.emotion.tolist())
    emotions = np.array(
        [vocabulary.emotion_index(name) if code in used else -1 for code, name in enumerate(table.emotions)],
        dtype=np.int64,
    )
    unknown: dict[str, tuple[int, str]] = {}
    scene = ledger.scene[table.annotation]
    scene_class = _classes("scene", ledger.scene_names, vocabulary.scenes, scene[scene >= 0], unknown)
    objects = dense(ledger.objects.take(table.annotation.astype(np.int64)))
    object_class = _classes("object", ledger.object_names, vocabulary.objects, objects.values, unknown)
    objects = _classes_of_rows(objects, object_class)
    files = ledger.paths(table.image)
    arrays: dict[str, NDArray[Any]] = {
        "file_data": files.data,
        "file_offsets": files.offsets,
        "emotion": emotions[table.emotion],
        "scene": scene_class[scene],
        "object_values": objects.values,
        "object_offsets": objects.offsets,
        "sample_id": np.arange(len(files), dtype=np.int64),
        "stamp": np.stack([ledger.size[table.image], ledger.time[table.image]], axis=1),
    }
    if with_masks:
        masks = ledger.paths(table.mask)
        arrays |= {"mask_data": masks.data, "mask_offsets": masks.offsets}
    write_arrays(path, arrays, {"unknown": unknown})


def map_labels(path: Path, root: Path, split: Split, num_objects: int) -> Records | None:
    """Return what :func:`write_labels` wrote, mapped; None where it is missing or damaged.

    A warning says how many attribute names the vocabulary did not have.
    """
    content = read_arrays(path)
    if content is None:
        return None
    header, arrays = content
    for kind, (count, name) in header["unknown"].items():
        warnings.warn(
            f"{split}: {count} {kind} names are not in info.json (most often {name!r}) and count as absent",
            stacklevel=4,
        )
    masks = None
    if "mask_offsets" in arrays:
        masks = PackedOptional(PackedStrings(arrays["mask_data"], arrays["mask_offsets"]))
    return Records(
        root=root,
        files=PackedStrings(arrays["file_data"], arrays["file_offsets"]),
        emotion=arrays["emotion"],
        scene=arrays["scene"],
        objects=PackedLists(arrays["object_values"], arrays["object_offsets"]),
        num_objects=num_objects,
        sample_id=arrays["sample_id"],
        masks=masks,
        stamp=arrays["stamp"],
    )


def _classes(
    kind: str, names: list[str], known: tuple[str, ...], used: NDArray[np.int32], unknown: dict[str, tuple[int, str]]
) -> NDArray[np.int64]:
    """Return the class index of each name, and -1 at the end for code -1; note in ``unknown`` what has none.

    Args:
        kind: key in ``unknown``.
        names: as the annotations spell them, by code.
        known: names in class index order.
        used: the codes that occur, as often as they do.
        unknown: gets how many names have no class, and the most frequent of them.
    """
    table = NameTable(known)
    classes = np.array([*(table.find(name) for name in names), -1], dtype=np.int64)
    counts = np.where(classes[:-1] < 0, np.bincount(used, minlength=len(names)), 0)
    if counts.sum():
        unknown[kind] = (int(counts.sum()), names[int(counts.argmax())])
    return classes


def _classes_of_rows(codes: PackedLists, classes: NDArray[np.int64]) -> PackedLists:
    """Return each row's class indices, sorted, each once, unknown ones left out."""
    count = len(codes)
    row = np.repeat(np.arange(count), np.diff(codes.offsets))
    value = classes[codes.values]
    pairs = np.unique(np.stack([row, value], axis=1)[value >= 0], axis=0)  # sorted by row, then by class
    offsets = np.concatenate([[0], np.cumsum(np.bincount(pairs[:, 0], minlength=count))]).astype(np.int64)
    return PackedLists(pairs[:, 1].astype(np.int32), offsets)
