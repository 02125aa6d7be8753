"""What a classifier answered on each picture of a test, in a small Parquet file (``test_answers.parquet``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from uniemo.cache import atomic_write

ANSWERS, GENERATED = "answers", "generated"  # ``<command>_answers.parquet`` of real pictures, and of generated ones


def write_answers(
    path: Path, files: Sequence[str], emotions: Sequence[str], label: Tensor, answer: Tensor, probability: Tensor
) -> None:
    """Write a row for each of N pictures.

    Args:
        path: of the file.
        files: N names.
        emotions: names of the classes.
        label: (N,) class index, of a generated picture the intended one.
        answer: (N,) class index.
        probability: (N,) in [0, 1], of the label.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    def named(index: Tensor) -> Any:  # noqa: ANN401 - pyarrow has no types
        return pa.DictionaryArray.from_arrays(pa.array(index.tolist(), pa.int16()), pa.array(list(emotions)))

    columns = {"file": pa.array(list(files)), "label": named(label), "answer": named(answer)}
    table = pa.table({**columns, "probability": pa.array(probability.tolist(), pa.float32())})
    with atomic_write(path) as temporary:
        pq.write_table(table, temporary)


def read_answers(path: Path) -> tuple[list[str], list[bool]]:
    """Return the names of the pictures and whether each answer is the label."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["file", "label", "answer"]).to_pydict()
    return rows["file"], [label == answer for label, answer in zip(rows["label"], rows["answer"], strict=True)]
