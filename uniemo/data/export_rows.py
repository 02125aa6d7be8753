"""Rows of the files that Hugging Face datasets writes, with names in place of class indices."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uniemo.data.listing import Split
from uniemo.errors import UniEmoError

_SPLIT_NAMES: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
_ROWS = 32  # pictures held in memory at once


def parquet_files(root: Path) -> list[Path]:
    """Return the parquet files, at most two folders down."""
    return sorted(path for pattern in ("*.parquet", "*/*.parquet", "*/*/*.parquet") for path in root.glob(pattern))


def arrow_files(root: Path) -> list[Path]:
    """Return the Arrow files of a saved dataset, or of a dict of datasets."""
    return sorted(path for pattern in ("data-*.arrow", "*/data-*.arrow") for path in root.glob(pattern))


def split_of(path: Path, root: Path) -> Split:
    """Return the split that a file's name stands for, or else its folder's; training where neither says."""
    state = path.parent / "state.json"
    if path.parent == root and state.is_file():  # one dataset alone: it remembers the split that it was
        name = str(json.loads(state.read_bytes()).get("_split") or "")
        return _SPLIT_NAMES.get(name.split("[")[0], "train")
    for name in (path.name, path.parent.name):
        word = re.match(r"[a-z]*", name.lower())
        if word and word.group() in _SPLIT_NAMES:
            return _SPLIT_NAMES[word.group()]
    return "train"


def load_pyarrow() -> Any:  # noqa: ANN401
    """Import pyarrow; UniEmoError where it is not installed."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UniEmoError('parquet and Arrow files need pyarrow: pip install "uniemo[parquet]"') from error
    return pyarrow


def _tables(path: Path) -> Iterator[Any]:
    """Yield a file's record batches."""
    pyarrow = load_pyarrow()
    if path.suffix == ".parquet":
        with pyarrow.parquet.ParquetFile(path) as file:
            yield from file.iter_batches(batch_size=_ROWS)
        return
    with pyarrow.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            reader = pyarrow.ipc.open_file(source)
            yield from (reader.get_batch(index) for index in range(reader.num_record_batches))
        else:  # what save_to_disk writes
            source.seek(0)
            yield from pyarrow.ipc.open_stream(source)


def count(files: list[Path]) -> int | None:
    """Return the number of rows; None where that takes more than a look."""
    if files[0].suffix != ".parquet":
        return None
    pyarrow = load_pyarrow()
    try:
        return sum(pyarrow.parquet.read_metadata(path).num_rows for path in files)
    except (pyarrow.ArrowException, OSError):  # reading will say which
        return None


def rows(path: Path) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Yield each row and what Hugging Face datasets says of the columns.

    Raises:
        UniEmoError: pyarrow is missing, or the file is damaged.
    """
    pyarrow = load_pyarrow()
    try:
        for batch in _tables(path):
            features = _features(path, batch.schema.metadata or {})
            for start in range(0, batch.num_rows, _ROWS):
                for row in batch.slice(start, _ROWS).to_pylist():
                    yield row, features
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UniEmoError(f"export must be readable; {path} is not ({reason}): download it again") from error


def _features(path: Path, metadata: dict[bytes, bytes]) -> dict[str, Any]:
    """Return the description of the columns from the schema, or from the file beside a saved dataset."""
    beside = path.parent / "dataset_info.json"
    if b"huggingface" in metadata:
        info = json.loads(metadata[b"huggingface"]).get("info", {})
    else:
        info = json.loads(beside.read_bytes()) if beside.is_file() else {}
    return info.get("features") or {}


def class_names(feature: Any) -> list[str] | None:  # noqa: ANN401
    """Return the names of a ClassLabel, or of a list of them."""
    while isinstance(feature, list) and feature:
        feature = feature[0]
    if isinstance(feature, dict):
        return feature.get("names") if "names" in feature else class_names(feature.get("feature"))
    return None


def named(value: Any, feature: Any, where: str) -> Any:  # noqa: ANN401
    """Return names for class indices, alone or in a list; -1 is none; what is no index stays."""
    if isinstance(value, list):
        return [named(item, feature, where) for item in value]
    if not isinstance(value, int):
        return value
    names = class_names(feature)
    if names is None or value >= len(names):
        raise UniEmoError(
            f"class indices must come with their names (ClassLabel); {where} has {value}: export it again"
        )
    return names[value] if value >= 0 else None
