"""Tables of P(emotion | attribute) as other projects publish them: JSON, or pickles of arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from uniemo.cache import write_json
from uniemo.convert.pickles import check_file, read_arrays
from uniemo.errors import UniEmoError
from uniemo.text_files import read_json

Rows = dict[str, list[float]]  # C numbers by attribute
_KINDS = ("scene", "object")
_WHAT = "coefficient table"


def read_coefficients(
    path: str | Path, emotions: Sequence[str], kind: Literal["scene", "object"] | None = None
) -> dict[str, Rows]:
    """Read a table of coefficients.

    Args:
        path: JSON or a pickle (``.pkl``, ``.pickle``), which may hold nothing but arrays. Either maps attributes to one
            number per emotion, or ``scene`` and ``object`` to such maps; the latter may stand under ``coefficients``,
            beside ``emotions``, the order of the numbers, without which it is that of the argument.
        emotions: the wanted order of emotions.
        kind: what a map without kinds is about; of a file with kinds only this one is returned. None keeps all.

    Returns:
        Rows by ``scene`` and ``object``, or under ``attributes`` where the file does not distinguish them.

    Raises:
        UniEmoError: no such file, a pickle that asks for anything else, rows of another length or no finite numbers
            from zero.
    """
    path = check_file(path, _WHAT)
    content = _plain(read_arrays(path, _WHAT) if path.suffix in (".pkl", ".pickle") else _read_json(path))
    order: Any = list(emotions)
    if isinstance(content, dict) and "coefficients" in content:
        order = content.get("emotions", order)
        content = content["coefficients"]
    if not isinstance(order, list) or sorted(map(str, order)) != sorted(emotions):
        raise UniEmoError(f"{_WHAT} must be about {', '.join(emotions)}; {path} is about {order}: give another")
    wrong = f"{_WHAT} must map attributes to {len(emotions)} numbers from 0"
    if not isinstance(content, dict) or not content:
        raise UniEmoError(f"{wrong}; {path} holds no such map: give another file")
    tables: dict[str, Rows] = {kind or "attributes": content}
    if set(content) <= set(_KINDS) and all(isinstance(part, dict) for part in content.values()):
        tables = {name: content[name] for name in _KINDS if name in content and kind in (None, name)}
    if not tables:
        raise UniEmoError(f"{_WHAT} must be about {kind}s; {path} is not: give another file")
    places = [order.index(emotion) for emotion in emotions]
    for rows in tables.values():
        for attribute, row in rows.items():
            if not _is_row(attribute, row, len(emotions)):
                raise UniEmoError(f"{wrong}; {attribute!r} of {path} has {str(row)[:80]}: mend the file")
            rows[attribute] = [float(row[place]) for place in places]
    return tables


def write_coefficients(path: str | Path, tables: dict[str, Rows]) -> None:
    """Write tables as the JSON that ``attributes.table`` takes."""
    content: Any = tables.get("attributes", tables)
    write_json(path, content)


def _read_json(path: Path) -> Any:  # noqa: ANN401
    try:
        return read_json(path)
    except ValueError as error:  # no JSON, no UTF-8
        raise UniEmoError(f"{_WHAT} must be JSON or a pickle named .pkl; {path} is neither ({error})") from error


def _plain(value: Any) -> Any:  # noqa: ANN401
    """Turn arrays into lists."""
    if isinstance(value, np.ndarray | np.generic | Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


def _is_row(attribute: object, row: object, length: int) -> bool:
    """Whether this is a name and its numbers."""
    return (
        isinstance(attribute, str)
        and isinstance(row, list)
        and len(row) == length
        and all(isinstance(x, int | float) and np.isfinite(x) and x >= 0 for x in row)
    )
