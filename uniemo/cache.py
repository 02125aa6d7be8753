"""The cache: things that can be made again, each made once for all processes; atomic writes and hashes."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from uniemo.errors import UniEmoError

_BLOCK = 2**22  # bytes read at a time


def cache_dir() -> Path:
    """Return the folder for things that can be made again (``UNIEMO_CACHE``, else ``~/.cache/uniemo``)."""
    root = Path(os.environ.get("UNIEMO_CACHE") or Path.home() / ".cache" / "uniemo")
    root.mkdir(parents=True, exist_ok=True)
    return root


def get(kind: str, key: str, make: Callable[[Path], Any]) -> Path:
    """Return a file or folder of the cache; it is made first where it is missing or damaged.

    Of several processes that ask at once, one makes it while the others wait. A checksum beside it
    (``<key>.sum``) notices damage: of a file by its content, of a folder by the names and sizes of its files.

    Args:
        kind: subfolder of the cache.
        key: name within it; contains a :func:`digest` of everything that the content depends on.
        make: creates a file or a folder at the path that it is given.
    """
    path = cache_dir() / kind / key
    if _is_whole(path):
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if not _is_whole(path):
            _checksum_file(path).unlink(missing_ok=True)
            if path.is_dir():
                shutil.rmtree(path)
            with atomic_write(path) as temporary:
                make(temporary)
            with atomic_write(_checksum_file(path)) as temporary:
                temporary.write_text(json.dumps(_checksum(path)))
    return path


def _checksum_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sum")


def _checksum(path: Path) -> str | dict[str, int]:
    """Return the hash of a file, or the size of each file in a folder."""
    if path.is_file():
        return hash_file(path)
    return {file.relative_to(path).as_posix(): file.stat().st_size for file in sorted(path.rglob("*"))}


def _is_whole(path: Path) -> bool:
    """Whether a file or folder is there as it was made; more files in a folder do not matter."""
    try:
        expected = json.loads(_checksum_file(path).read_text())
        if isinstance(expected, str):
            return expected == hash_file(path)
        return all(os.stat(path / name).st_size == size for name, size in expected.items())
    except (OSError, ValueError, AttributeError):
        return False


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it over ``path`` when the block ends without an error.

    The block may create a file or a folder there. After an error or Ctrl-C nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)) / path.name
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            path.rmdir()  # only an empty folder may be replaced by a folder
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary.parent, ignore_errors=True)


def to_json(value: object, indent: int | None = None) -> str:
    """Return one JSON value with its line end; UniEmoError for NaN and infinity, which JSON does not have."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        shown = textwrap.shorten(repr(value), 200)
        raise UniEmoError(f"numbers in JSON must be finite; {shown} has others: look at what they come from") from error


def write_json(path: str | Path, value: object) -> None:
    """Write JSON, whole or not at all; UniEmoError for NaN and infinity."""
    with atomic_write(path) as temporary:
        temporary.write_text(to_json(value, indent=1), encoding="utf-8")


def digest(*parts: Any, length: int = 16) -> str:  # noqa: ANN401
    """Return the first hex digits of the SHA-256 of some values.

    Args:
        parts: bytes and text are taken as they are, other values as JSON.
        length: number of digits, at most 64.
    """
    sha = hashlib.sha256()
    for number, part in enumerate(parts):
        if not isinstance(part, bytes):
            text = part if isinstance(part, str) else json.dumps(part, sort_keys=True)
            part = text.encode("utf-8", errors="surrogateescape")
        sha.update((b"\0" if number else b"") + part)
    return sha.hexdigest()[:length]


def hash_file(path: str | Path, length: int = 64) -> str:
    """Return the first hex digits of the SHA-256 of a file's content."""
    sha = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            sha.update(block)
    return sha.hexdigest()[:length]
