"""EmoSet as Hugging Face datasets exports it: parquet files, or a folder that ``save_to_disk`` wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from uniemo.data.listing import SPLITS, Split
from uniemo.errors import UniEmoError

from .emoset import annotation
from .shots import Shot, Studio

_NAMES: dict[Split, str] = {"train": "train", "val": "validation", "test": "test"}  # the library's own names
_TRAIN_SHARDS = 2
_STRINGS = ("image_id", "scene", "facial_expression", "human_action")
_LEVELS = ("brightness", "colorfulness")


def write_parquet(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``data/{train,validation,test}-NNNNN-of-NNNNN.parquet``; emotions are strings."""
    require_pyarrow()
    import pyarrow.parquet as parquet

    (studio.root / "data").mkdir()
    for split in SPLITS:
        chosen = [shot for shot in shots if shot.split == split]
        shards = _TRAIN_SHARDS if split == "train" else 1
        for shard in range(shards):
            part = chosen[shard * len(chosen) // shards : (shard + 1) * len(chosen) // shards]
            path = studio.root / f"data/{_NAMES[split]}-{shard:05d}-of-{shards:05d}.parquet"
            parquet.write_table(_table(studio, part, None), path)


def write_saved(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``dataset_dict.json`` and ``{train,validation,test}/`` with Arrow files.

    Emotions are a ClassLabel whose names are sorted, another order than EmoSet's: only the names say which is which.
    """
    pyarrow = require_pyarrow()
    names = sorted({shot.name for shot in shots})
    studio.write("dataset_dict.json", json.dumps({"splits": list(_NAMES.values())}))
    for split in SPLITS:
        folder, file = studio.root / _NAMES[split], "data-00000-of-00001.arrow"
        folder.mkdir()
        table = _table(studio, [shot for shot in shots if shot.split == split], names)
        with pyarrow.OSFile(str(folder / file), "wb") as sink, pyarrow.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        studio.write(f"{_NAMES[split]}/dataset_info.json", json.dumps({"features": _features(names)}))
        state = {"_data_files": [{"filename": file}], "_split": _NAMES[split], "_format_type": None}
        studio.write(f"{_NAMES[split]}/state.json", json.dumps(state))


def require_pyarrow() -> ModuleType:
    """Import pyarrow.

    Raises:
        UniEmoError: it is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise UniEmoError(
            "layouts emoset-parquet and emoset-hf must be written by pyarrow; it is not installed: pip install pyarrow"
        ) from error
    return pyarrow


def _table(studio: Studio, shots: Sequence[Shot], names: Sequence[str] | None) -> Any:  # noqa: ANN401
    """Return a pyarrow table of images and attributes, with the library's own description of the columns.

    Args:
        studio: where the tree is painted.
        shots: the rows.
        names: of the emotion's ClassLabel; None for strings.
    """
    import pyarrow as pa

    rows = []
    for shot in shots:
        shot.file = shot.filename
        note = annotation(shot, studio.rng(shot.number))
        row = {key: note.get(key) for key in (*_STRINGS, *_LEVELS)}
        row["object"] = note.get("object", [])
        row["image"] = {"bytes": studio.encode(shot, studio.paint(shot)), "path": shot.filename}
        row["emotion"] = shot.name if names is None else names.index(shot.name)
        rows.append(row)
        studio.bar.update()
    schema = pa.schema(
        [
            ("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            ("emotion", pa.string() if names is None else pa.int64()),
            *((key, pa.string()) for key in _STRINGS),
            *((key, pa.float64()) for key in _LEVELS),
            ("object", pa.list_(pa.string())),
        ],
        metadata={"huggingface": json.dumps({"info": {"features": _features(names)}})},
    )
    return pa.Table.from_pylist(rows, schema=schema)


def _features(names: Sequence[str] | None) -> dict[str, object]:
    """Return the columns as Hugging Face datasets describes them."""
    text = {"dtype": "string", "_type": "Value"}
    return {
        "image": {"_type": "Image"},
        "emotion": text if names is None else {"names": list(names), "_type": "ClassLabel"},
        **{key: text for key in _STRINGS},
        **{key: {"dtype": "float64", "_type": "Value"} for key in _LEVELS},
        "object": {"feature": text, "_type": "List"},
    }
