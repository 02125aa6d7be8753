"""Images and labels in the rows of shards: as samples, or copied to files with a list of their labels."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from uniemo.data.batch import EmotionSample
from uniemo.data.huggingface import Columns, free_path, read_row
from uniemo.data.images import UnreadableImageError, decode_image
from uniemo.data.manifest import Info, Manifest, make_manifest
from uniemo.data.shards import Shard, read_rows
from uniemo.data.transforms import PairedTransform
from uniemo.data.webdataset import Row
from uniemo.errors import UniEmoError
from uniemo.progress_bars import progress_bar
from uniemo.vocabulary import Vocabulary, attribute_text

_MANY = 64  # shards that copies come from, since one shard may hold a single class
_LIST = "rows.json"


@dataclass(frozen=True)
class RowReader:
    """Finds image and labels in the columns of a row.

    Attributes:
        columns: their names.
        features: what Hugging Face datasets knows of them, class names among it.
    """

    columns: Columns
    features: dict[str, Any]

    def __call__(self, row: Row | str, where: str) -> tuple[str, str | None, list[str], bytes]:
        """Return emotion, scene, objects and image file.

        Args:
            row: its columns, or why it cannot be read.
            where: what errors call it.

        Raises:
            UniEmoError: it cannot be read, a column is missing, or the image lies elsewhere.
        """
        if isinstance(row, str):
            raise UnreadableImageError(where, row)
        emotion, scene, objects, image = read_row(row, self.features, where, self.columns)
        data = image.get("bytes")
        if not isinstance(data, bytes):
            raise UniEmoError(f"images must lie in their shards; {where} has the path {image.get('path')!r}")
        return emotion, scene, objects, data


def advised(error: UniEmoError, where: str) -> UniEmoError:
    """Return the error of a row with the way out."""
    text = str(error)
    if isinstance(error, UnreadableImageError):
        text = f"images must be readable; {where} is not ({error.reason}): mend the shard"
    return UniEmoError(f"{text}, or leave such images out with --data.on_error skip")


class RowDecoder:
    """Makes samples of rows.

    Args:
        read: finds image and labels.
        vocabulary: numbers the names; scenes and objects that it lacks count as absent.
        transform: makes the views.
        seed: with epoch and sample id it decides crop and flip.
    """

    def __init__(self, read: RowReader, vocabulary: Vocabulary, transform: PairedTransform, seed: int) -> None:
        self.read = read
        self.emotions = {name: index for index, name in enumerate(vocabulary.emotions)}
        self.scenes = {attribute_text(name): index for index, name in enumerate(vocabulary.scenes)}
        self.objects = {attribute_text(name): index for index, name in enumerate(vocabulary.objects)}
        self.transform = transform
        self.seed = seed

    def __call__(self, row: Row | str, where: str, name: str, sample_id: int, epoch: int) -> EmotionSample:
        """Return a row's sample.

        Args:
            row: its columns, or why it cannot be read.
            where: what errors call it.
            name: of the image.
            sample_id: unique in the split.
            epoch: of training.

        Raises:
            UniEmoError: an image that cannot be read, or a label that is not known.
        """
        emotion, scene, objects, data = self.read(row, where)
        if emotion not in self.emotions:
            known = ", ".join(self.emotions)
            raise UniEmoError(f"labels must be {known}; {where} has {emotion!r}: give all with --data.emotions")
        image = decode_image(where, data, whole=not self.transform.train)
        view, target, _ = self.transform(image, np.random.default_rng((self.seed, epoch, sample_id)))
        present = torch.zeros(len(self.objects), dtype=torch.bool)
        present[self.present(objects)] = True
        return EmotionSample(
            image=view,
            target=target,
            emotion=self.emotions[emotion],
            scene=self.scene(scene),
            objects=present,
            generated=False,
            sample_id=sample_id,
            name=name,
        )

    def scene(self, name: str | None) -> int:
        """Return a scene's class index, -1 for none that is known."""
        return -1 if name is None else self.scenes.get(attribute_text(name), -1)

    def present(self, names: Sequence[str]) -> list[int]:
        """Return the sorted class indices of those objects that are known."""
        return sorted({self.objects.get(attribute_text(name), -1) for name in names} - {-1})


def copy_some(
    shards: Sequence[Shard], count: int, seed: int, read: RowReader, on_error: Literal["raise", "skip"], folder: Path
) -> None:
    """Write some images of shards, and the list of their labels, into a new folder.

    Of at most 64 shards, a seeded choice, the first rows are taken, equally many of each.

    Args:
        shards: of a split.
        count: how many images.
        seed: of the choice.
        read: finds image and labels in a row.
        on_error: ``raise`` stops at an image that cannot be used, ``skip`` leaves it out.
        folder: to make.

    Raises:
        UniEmoError: a row cannot be used and ``on_error`` is ``raise``, or none can.
    """
    folder.mkdir()
    chosen = sorted(np.random.default_rng(seed).permutation(len(shards))[:_MANY].tolist())
    whole = sum(shard.rows for shard in shards) <= count
    rows: list[tuple[str, str, str | None, list[str]]] = []
    taken: set[str] = set()
    bar = progress_bar(total=count, desc="copying images that are needed at hand", unit="image", delay=1)
    for place, shard in enumerate(shards if whole else [shards[number] for number in chosen]):
        share = shard.rows if whole else min(shard.rows, -(-(count - len(rows)) // (len(chosen) - place)))
        for number, content in read_rows(shard, 0, share, read.columns.names()):
            where = f"row {number} of {shard.url}"
            try:
                emotion, scene, objects, data = read(content, where)
                decode_image(where, data, whole=True)
            except UniEmoError as error:
                if on_error == "raise":
                    raise advised(error, where) from error
                continue
            path = free_path(emotion, None, data, taken)
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)
            rows.append((path, emotion, scene, objects))
            bar.update()
    if not rows:
        raise UniEmoError(f"shards must hold images that can be used; the first of {shards[0].url} cannot: look at it")
    (folder / _LIST).write_text(json.dumps(rows), encoding="utf-8")


def copied_rows(folder: Path) -> list[tuple[str, str, str | None, list[str]]]:
    """Return path, emotion, scene and objects of each image of :func:`copy_some`."""
    rows: list[Any] = json.loads((folder / _LIST).read_text(encoding="utf-8"))
    return [(path, emotion, scene, objects) for path, emotion, scene, objects in rows]


def manifest_of_copies(folder: Path, decode: RowDecoder, vocabulary: Vocabulary) -> Manifest:
    """Return the copied images whose label is known."""
    rows = [row for row in copied_rows(folder) if row[1] in decode.emotions]
    looks = [os.stat(folder / path) for path, *_ in rows]
    columns: dict[str, list[Any]] = {
        "path": [path for path, *_ in rows],
        "emotion": [decode.emotions[emotion] for _, emotion, _, _ in rows],
        "scene": [decode.scene(scene) for _, _, scene, _ in rows],
        "objects": [decode.present(objects) for *_, objects in rows],
        "size": [look.st_size for look in looks],
        "mtime": [look.st_mtime_ns for look in looks],
    }
    return make_manifest(folder, Info("Streaming", "shards", str(folder), vocabulary), columns)
