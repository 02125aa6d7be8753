"""EmoSet as Hugging Face datasets keeps it: a parquet export, or a folder that ``save_to_disk`` wrote.

::

    root/data/train-00000-of-00002.parquet …   or  root/train.parquet, root/<config>/<split>/0000.parquet
    root/dataset_dict.json  root/<split>/{state.json, dataset_info.json, data-00000-of-00001.arrow}

Columns: ``image`` (struct of bytes and path), ``emotion`` or ``label`` (ClassLabel or string), and where the export has
them ``scene``, ``object`` and the other attributes of EmoSet's annotations: columns of their own, or inside one column
``attributes`` or ``annotation`` (struct or JSON text).

:func:`unpack` writes the pictures once into the cache folder as an ordinary EmoSet tree; everything else (index, check,
header pass) then works on files.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from filelock import FileLock
from tqdm import tqdm

from uniemo.cache import atomic_write, cache_dir
from uniemo.data.emoset_files import distinct_names
from uniemo.data.emotions import MIKELS_8
from uniemo.data.export_rows import arrow_files, class_names, count, named, parquet_files, rows, split_of
from uniemo.data.layouts import emoset
from uniemo.data.listing import SPLITS, Layout, Listing, Split, find_layout
from uniemo.errors import UniEmoError

_LEVELS = ("brightness", "colorfulness")  # numbers
_ATTRIBUTES = ("scene", "object", "facial_expression", "human_action", *_LEVELS)
_NESTED = ("attributes", "annotation", "annotations")
_DAY_S = 86_400.0
_FORMAT = 1  # of the unpacked tree; one of another format is made again
_SIGNATURES: dict[bytes, str] = {  # first bytes of a picture file
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


def _is_parquet(root: Path) -> bool:
    return any(next(root.glob(pattern), None) for pattern in ("*.parquet", "data/*.parquet", "*/train/*.parquet"))


def _is_saved(root: Path) -> bool:
    return (root / "dataset_dict.json").is_file() or (root / "state.json").is_file()


def unpack(root: str | Path, progress: bool = True) -> Path:
    """Return an EmoSet tree with the pictures of an export, made in the cache at first use and when the export changed.

    Args:
        root: folder with parquet files, or one that ``save_to_disk`` wrote.
        progress: show a bar.

    Raises:
        UniEmoError: pyarrow is missing, a file cannot be read, a needed column is missing, or the disk is too small.
    """
    root = Path(root).resolve()
    files = arrow_files(root) if _is_saved(root) else parquet_files(root)
    if not files:
        raise UniEmoError(f"data.root must hold parquet files or a saved dataset; {root} holds neither")
    looks = [(path.relative_to(root).as_posix(), path.stat()) for path in files]
    stamp = "\n".join([f"{_FORMAT}", *(f"{name} {look.st_size} {look.st_mtime_ns}" for name, look in looks)])
    home, digest = (hashlib.sha256(os.fsencode(text)).hexdigest()[:16] for text in (str(root), stamp))
    folder = cache_dir() / "huggingface"
    folder.mkdir(exist_ok=True)
    tree = folder / f"{home}-{digest}"
    with FileLock(folder / f"{home}.lock"):
        if not tree.is_dir():
            size, free = sum(look.st_size for _, look in looks), shutil.disk_usage(folder).free
            if size > free:
                raise UniEmoError(
                    f"the cache folder must have room for the pictures of {root}, {size / 2**30:.1f} GiB; "
                    f"{folder} has {free / 2**30:.1f}: set UNIEMO_CACHE to another disk"
                )
            with atomic_write(tree) as partial:
                _Tree(partial).fill(root, files, progress)
            for old in folder.glob(f"{home}-*"):
                if old != tree and time.time() - old.stat().st_mtime > _DAY_S:  # a run may still train on today's
                    shutil.rmtree(old, ignore_errors=True)
    return tree


def _split_first(file: tuple[Split, Path]) -> tuple[int, Path]:
    """Order files by split, then by name."""
    return SPLITS.index(file[0]), file[1]


class _Tree:
    """An EmoSet tree that is being written.

    Args:
        root: folder to make.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entries: dict[Split, list[list[str]]] = {}
        self.names: dict[str, dict[str, None]] = {name: {} for name in _ATTRIBUTES}  # ordered sets
        self.declared: dict[str, list[str]] = {}  # names of ClassLabels, in their order
        self.taken: set[str] = set()

    def fill(self, source: Path, files: list[Path], progress: bool) -> None:
        """Write all rows of the export."""
        self.root.mkdir()
        with tqdm(total=count(files), desc="unpacking pictures", unit="image", disable=not progress, delay=1) as bar:
            for split, path in sorted(((split_of(path, source), path) for path in files), key=_split_first):
                for number, (row, features) in enumerate(rows(path)):
                    self._add(split, row, features, f"row {number} of {path}", path.parent)
                    bar.update()
        if not self.entries:
            raise UniEmoError(f"export must have at least one row; {source} has none: download it again")
        tables = {"emotion": list(MIKELS_8)}
        for name, seen in self.names.items():
            tables[name] = self.declared.get(name) or list(distinct_names(seen))
        for split in SPLITS:
            if split in self.entries:
                (self.root / f"{split}.json").write_text(json.dumps(self.entries[split]), encoding="utf-8")
        info = {
            name: {
                "label2idx": {text: index for index, text in enumerate(texts)},
                "idx2label": {str(index): text for index, text in enumerate(texts)},
            }
            for name, texts in tables.items()
        }
        (self.root / "info.json").write_text(json.dumps(info, indent=1), encoding="utf-8")

    def _add(self, split: Split, row: dict[str, Any], features: dict[str, Any], where: str, folder: Path) -> None:
        """Write a row's picture and annotation."""
        image = next((row[name] for name in ("image", "img") if row.get(name) is not None), None)
        emotion = next(
            (named(row[name], features.get(name), where) for name in ("emotion", "label") if name in row), None
        )
        if image is None or not isinstance(emotion, str):
            raise UniEmoError(
                f"export must have an image and an emotion (or label) in every row; {where} has columns "
                f"{', '.join(row)} and lacks one: correct --data.root"
            )
        emotion = emotion.strip().lower()
        if not emotion or emotion.startswith(".") or "/" in emotion or "\\" in emotion:
            raise UniEmoError(f"emotion must be a plain name, as it names a folder; {where} has {emotion!r}")
        if not isinstance(image, dict):
            image = {"bytes" if isinstance(image, bytes) else "path": image}
        data, path = image.get("bytes"), image.get("path")
        note = self._note(row, features, where)
        place = self._place(emotion, note.get("image_id") or path, data)
        for kind in ("image", "annotation"):
            (self.root / kind / emotion).mkdir(parents=True, exist_ok=True)
        target = self.root / "image" / place
        if data is not None:
            target.write_bytes(data)
        else:
            origin = folder / str(path)
            if path is None or not origin.is_file():
                raise UniEmoError(f"image must have bytes or the path of a file; {where} has path {path!r}: restore it")
            target.symlink_to(origin.resolve())
        note = {"image_id": Path(place).stem, "emotion": emotion, **{k: v for k, v in note.items() if k != "image_id"}}
        annotation = f"annotation/{Path(place).with_suffix('.json').as_posix()}"
        (self.root / annotation).write_text(json.dumps(note), encoding="utf-8")
        self.entries.setdefault(split, []).append([emotion, f"image/{place}", annotation])

    def _note(self, row: dict[str, Any], features: dict[str, Any], where: str) -> dict[str, Any]:
        """Return a row's attributes as EmoSet's annotations have them, and remember their names."""
        given, declared = dict(row), dict(features)
        for name in _NESTED:
            inner = json.loads(row[name]) if isinstance(row.get(name), str) else row.get(name)
            if isinstance(inner, dict):
                given |= inner
                declared |= features.get(name) or {}
        note: dict[str, Any] = {"image_id": str(given["image_id"])} if given.get("image_id") else {}
        for name in _ATTRIBUTES:
            value, feature = given.get(name), declared.get(name)
            if name not in _LEVELS or class_names(feature):
                value = named(value, feature, where)
            values = [x for x in (value if isinstance(value, list) else [value]) if x not in (None, "")]
            if not values:
                continue
            note[name] = values if name == "object" else values[0]
            self.names[name] |= dict.fromkeys(map(str, values))
            if names := class_names(feature):
                self.declared[name] = names
        return note

    def _place(self, emotion: str, given: str | None, data: bytes | None) -> str:
        """Return ``<emotion>/<name>`` for a picture: the name that the export gives where it is free, else a number."""
        name = PurePosixPath((given or "").replace("\\", "/")).name
        stem, suffix = os.path.splitext(name)
        if suffix.lower() not in _SIGNATURES.values() and suffix.lower() != ".jpeg":
            stem, suffix = name, ""
        if data is not None:
            suffix = next((end for head, end in _SIGNATURES.items() if data.startswith(head)), suffix)
        stem, number = stem.lstrip(".") or f"{emotion}_{len(self.taken):05d}", 1
        free = stem
        while f"{emotion}/{free}" in self.taken:  # the annotation has the same stem
            number += 1
            free = f"{stem}_{number}"
        self.taken.add(f"{emotion}/{free}")
        return f"{emotion}/{free}{suffix or '.jpg'}"


def _read(name: str, root: Path) -> Listing:
    """List the unpacked tree."""
    tree = unpack(root)
    layout, _ = find_layout(tree, emoset.LAYOUTS)
    return replace(layout.read(tree), layout=name, notes=(f"pictures unpacked to {tree}",))


LAYOUTS: tuple[Layout, ...] = (
    Layout(
        "parquet",
        "EmoSet",
        "data/{train,validation,test}-*.parquet with columns image, emotion, scene, object",
        _is_parquet,
        lambda root: _read("parquet", root),
    ),
    Layout(
        "hf-disk",
        "EmoSet",
        "dataset_dict.json {train,validation,test}/data-*.arrow",
        _is_saved,
        lambda root: _read("hf-disk", root),
    ),
)
