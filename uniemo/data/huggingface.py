"""EmoSet as Hugging Face datasets keeps it: a parquet export, or a folder that ``save_to_disk`` wrote.

::

    root/data/train-00000-of-00002.parquet …   or  root/train.parquet, root/<config>/<split>/0000.parquet
    root/dataset_dict.json  root/<split>/{state.json, dataset_info.json, data-00000-of-00001.arrow}

Columns: ``image``, ``emotion`` or ``label`` (ClassLabel or string), and where the export has them ``scene`` and
``object``: columns of their own, or inside one column ``attributes`` or ``annotation`` (struct or JSON text). The
images are written once into the cache folder, with a list of their labels; everything else then works on files.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

from uniemo.cache import cache_dir, digest, remove_old
from uniemo.cache import get as cached
from uniemo.data.affect import Affect, read_affect
from uniemo.data.files import is_hidden, is_saved_dataset
from uniemo.data.inside import Inside, refuse_outside
from uniemo.data.lists import SPLIT_WORDS
from uniemo.data.manifest import Split
from uniemo.data.rows import Rows
from uniemo.errors import UniEmoError, first_line
from uniemo.progress_bars import progress_bar
from uniemo.taxonomy import MIKELS_8
from uniemo.text_files import parse_json


@dataclass(frozen=True)
class Columns:
    """Names that a column may have, the likeliest first.

    Attributes:
        scale: least and greatest value of valence and arousal, where the two have columns.
        numbers: whether a label may be a number without a name.
    """

    image: tuple[str, ...] = ("image", "img")
    label: tuple[str, ...] = ("emotion", "label")
    scene: tuple[str, ...] = ("scene",)
    object: tuple[str, ...] = ("object",)
    split: tuple[str, ...] = ()
    valence: tuple[str, ...] = ()
    arousal: tuple[str, ...] = ()
    scale: tuple[float, float] | None = None
    numbers: bool = False

    def names(self) -> tuple[str, ...]:
        """Return all columns that a row is read from."""
        places = (*self.image, *self.label, *self.scene, *self.object, *self.split)
        return (*places, *self.valence, *self.arousal, *_NESTED)


_NESTED = ("attributes", "annotation", "annotations")
_LIST = "rows.json"  # beside the unpacked images
_SIGNATURES: dict[bytes, str] = {  # first bytes of an image file
    b"\xff\xd8": ".jpg",
    b"\x89PNG": ".png",
    b"GIF8": ".gif",
    b"RIFF": ".webp",
    b"BM": ".bmp",
    b"II*\0": ".tif",
    b"MM\0*": ".tif",
}


def read_export(
    root: Path,
    follow_links: bool = False,
    emotions: tuple[str, ...] | None = MIKELS_8,
    columns: Columns = Columns(),
) -> Rows:
    """Return the images of an export, which are written to the cache first; without ``emotions`` those that occur.

    Raises:
        UniEmoError: nothing to read, a file cannot be read or lies elsewhere, a column is missing, or the disk is too
            small.
    """
    files = sorted(path for suffix in ("parquet", "arrow") for path in _files(root, suffix))
    if not files:
        raise UniEmoError(f"data.root must hold parquet files or a saved dataset; {root} holds neither")
    size = sum(path.stat().st_size for path in files)
    home = digest(os.fsencode(root.resolve()))
    state = digest(
        [(path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns) for path in files],
        follow_links,
        asdict(columns),
    )

    def write(folder: Path) -> None:
        free = shutil.disk_usage(folder.parent).free
        if size > free:
            raise UniEmoError(
                f"the cache folder must have room for the images of {root}, {size / 2**30:.1f} GiB; {cache_dir()} has "
                f"{free / 2**30:.1f}: set UNIEMO_CACHE to another disk"
            )
        _unpack(root, folder, follow_links, columns)
        remove_old("huggingface", f"{home}-")

    folder = cached("huggingface", f"{home}-{state}", write)
    content = json.loads((folder / _LIST).read_text(encoding="utf-8"))
    names = {kind: tuple(content[kind]) if content[kind] else None for kind in ("scene", "object")}
    if emotions is None:
        emotions = tuple(sorted({emotion for _, emotion, *_ in content["rows"]}))
    notes = [f"images unpacked to {folder}"]
    rows = Rows(folder, emotions, names["scene"], names["object"], columns.scale, notes=notes)
    for path, emotion, place, scene, objects, affect in content["rows"]:
        rows.add(path, emotion, place, scene, objects, affect=affect)
    return rows


def _files(root: Path, suffix: str) -> Iterator[Path]:
    return (path for path in root.rglob(f"*.{suffix}") if not is_hidden(path.name))


def _unpack(root: Path, folder: Path, follow_links: bool, columns: Columns) -> None:
    """Write the images of an export into a new folder, and the list of their labels."""
    import datasets
    import pyarrow as pa

    folder.mkdir()
    content: dict[str, Any] = {"scene": None, "object": None, "rows": []}
    taken: set[str] = set()
    inside = Inside(root)
    outside: list[str] = []
    try:
        for split, rows, features, base in _parts(root, columns):
            for kind in ("scene", "object"):
                content[kind] = content[kind] or class_names(feature_of(features, getattr(columns, kind)[0]))
            bar = progress_bar(rows, desc=f"unpacking {split} images", unit="image", delay=1)
            for number, row in enumerate(bar):
                where = f"row {number} of {split} in {base}"
                emotion, scene, objects, image = read_row(row, features, where, columns)
                place = _place(row, features, where, columns) or split
                data, given = image.get("bytes"), image.get("path")
                path = free_path(emotion, given, data, taken)
                if data is None and given is not None and not follow_links:
                    outside += [] if str((base / given).absolute()) in inside else [given]
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                if data is not None:
                    (folder / path).write_bytes(data)
                elif given is not None and (base / given).is_file():
                    (folder / path).symlink_to((base / given).resolve())
                else:
                    raise UniEmoError(
                        f"image must have bytes or the path of a file; {where} has path {given!r}: restore it"
                    )
                content["rows"].append([path, emotion, place, scene, objects, _affect(row, where, columns)])
    except (pa.ArrowException, datasets.exceptions.DatasetsError, OSError) as error:
        raise UniEmoError(f"export must be readable; {root} is not ({first_line(error)}): download it again") from error
    refuse_outside(root, outside, "the image paths of an export")
    if not content["rows"]:
        raise UniEmoError(f"export must have at least one row; {root} has none: download it again")
    (folder / _LIST).write_text(json.dumps(content), encoding="utf-8")


def _parts(root: Path, columns: Columns) -> Iterator[tuple[Split, Any, Any, Path]]:
    """Yield split, rows, features and the folder that image paths are relative to, of each part of an export."""
    from datasets import Dataset, Image, load_dataset, load_from_disk

    if is_saved_dataset(root):
        saved = load_from_disk(str(root))
        alone = isinstance(saved, Dataset)
        parts = (
            [(str(saved.split or "train"), saved, root)]
            if alone
            else [(n, part, root / n) for n, part in saved.items()]
        )
    else:
        files: dict[str, list[str]] = {}
        for path in sorted(_files(root, "parquet")):
            files.setdefault(split_word(path), []).append(str(path))
        parts = [
            (name, load_dataset("parquet", data_files=paths, split="train", streaming=True), Path(paths[0]).parent)
            for name, paths in files.items()
        ]
    order = list(SPLIT_WORDS.values())
    for name, part, base in sorted(parts, key=lambda part: order.index(SPLIT_WORDS.get(part[0], "train"))):
        features = part.features
        for column in columns.image:
            if isinstance((features or {}).get(column), Image):
                part = part.cast_column(column, Image(decode=False))
        yield SPLIT_WORDS.get(name.split("[")[0], "train"), part, features, base


def split_word(path: PurePath) -> str:
    """Return the split that a file's name begins with, or else its folder's; training where neither does."""
    words = [re.match(r"[a-z]*", name.lower()) for name in (path.name, path.parent.name)]
    return next((word.group() for word in words if word and word.group() in SPLIT_WORDS), "train")


def _place(row: dict[str, Any], features: Any, where: str, columns: Columns) -> Split | None:  # noqa: ANN401
    """Return the split that a column gives a row."""
    for column in columns.split:
        word = str(_named(row.get(column), feature_of(features, column), where)).strip().lower()
        if word not in SPLIT_WORDS:
            raise UniEmoError(f"data.split_column must hold {', '.join(SPLIT_WORDS)}; {where} has {word!r}: correct it")
        return SPLIT_WORDS[word]
    return None


def _affect(row: dict[str, Any], where: str, columns: Columns) -> Affect:
    """Return what a row says of valence and arousal, which have a scale; nothing where they have none."""
    if columns.scale is None:
        return ()
    names = (*columns.valence, *columns.arousal)
    if not set(names) <= set(row):
        raise UniEmoError(
            f"data.valence_column and data.arousal_column must be among {', '.join(row)}, as {where} has; got "
            f"{' and '.join(names)}: correct them"
        )
    return read_affect([row[name] for name in names], columns.scale, where)


def read_row(
    row: dict[str, Any],
    features: Any,  # noqa: ANN401
    where: str,
    columns: Columns,
) -> tuple[str, str | None, list[str], dict[str, Any]]:
    """Return emotion, scene, objects and image of a row."""
    image = next((row[name] for name in columns.image if row.get(name) is not None), None)
    label = next((name for name in columns.label if name in row), "")
    emotion, feature = row.get(label), feature_of(features, label)
    number = columns.numbers and isinstance(emotion, int) and class_names(feature) is None
    emotion = str(emotion) if number else _named(emotion, feature, where)
    if image is None or not isinstance(emotion, str):
        raise UniEmoError(
            f"export must have an image ({' or '.join(columns.image)}) and a label ({' or '.join(columns.label)}) in "
            f"every row; {where} has columns {', '.join(row)} and lacks one: correct --data.root or the column"
        )
    emotion = emotion.strip().lower()
    if not emotion or emotion.startswith(".") or "/" in emotion or "\\" in emotion:
        raise UniEmoError(f"emotion must be a plain name, as it names a folder; {where} has {emotion!r}")
    given = dict(row)
    for name in _NESTED:
        try:
            inner = parse_json(row[name]) if isinstance(row.get(name), str) else row.get(name)
        except ValueError as error:
            raise UniEmoError(
                f"column {name} must hold JSON; {where} does not ({error}): correct --data.root"
            ) from error
        given |= inner if isinstance(inner, dict) else {}
    scenes, objects = (
        _values(given.get(kind), feature_of(features, kind), where) for kind in (columns.scene[0], columns.object[0])
    )
    image = image if isinstance(image, dict) else {"bytes" if isinstance(image, bytes) else "path": image}
    return emotion, scenes[0] if scenes else None, objects, image


def feature_of(features: Any, name: str) -> Any:  # noqa: ANN401
    """Return what the library knows of a column, or of a field of the column that nests the attributes."""
    features = features or {}
    nested = [features[column] for column in _NESTED if isinstance(features.get(column), dict)]
    return next((part[name] for part in (features, *nested) if name in part), None)


def class_names(feature: Any) -> list[str] | None:  # noqa: ANN401
    """Return the names of a ClassLabel, or of a list of them."""
    while isinstance(feature, list) or hasattr(feature, "feature"):
        feature = feature[0] if isinstance(feature, list) else feature.feature
    return getattr(feature, "names", None)


def _values(value: Any, feature: Any, where: str) -> list[str]:  # noqa: ANN401
    """Return the names that a cell holds."""
    values = _named(value if isinstance(value, list) else [value], feature, where)
    return [str(name) for name in values if name not in (None, "")]


def _named(value: Any, feature: Any, where: str) -> Any:  # noqa: ANN401
    """Return names for class indices, alone or in a list; -1 is none; what is no index stays."""
    if isinstance(value, list):
        return [_named(item, feature, where) for item in value]
    if not isinstance(value, int):
        return value
    names = class_names(feature)
    if names is None or value >= len(names):
        raise UniEmoError(
            f"class indices must come with their names (ClassLabel); {where} has {value}: export it again"
        )
    return names[value] if value >= 0 else None


def free_path(emotion: str, given: str | None, data: bytes | None, taken: set[str]) -> str:
    """Return ``image/<emotion>/<name>``: the name that the export gives where it is free, else a number."""
    name = PurePosixPath((given or "").replace("\\", "/")).name
    stem, suffix = os.path.splitext(name)
    if suffix.lower() not in (*_SIGNATURES.values(), ".jpeg"):
        stem, suffix = name, ""
    if data is not None:
        suffix = next((end for head, end in _SIGNATURES.items() if data.startswith(head)), suffix)
    stem = stem.lstrip(".") or f"{emotion}_{len(taken):05d}"
    free, number = stem, 1
    while f"{emotion}/{free}" in taken:
        number += 1
        free = f"{stem}_{number}"
    taken.add(f"{emotion}/{free}")
    return f"image/{emotion}/{free}{suffix or '.jpg'}"
