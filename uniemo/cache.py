"""The cache: things that can be made again, each made once for all processes; atomic writes and hashes."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import tempfile
import textwrap
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from uniemo.errors import UniEmoError, cache_root, naming

_LOCK = ".lock"
_DAY_S = 86_400.0
_BLOCK = 2**22  # bytes read at a time


def cache_dir() -> Path:
    """Return the folder for things that can be made again; it is made first."""
    root = cache_root()
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
            write_text(_checksum_file(path), json.dumps(_checksum(path)))
    return path


def remove_old(kind: str, prefix: str) -> None:
    """Remove what :func:`get` made under keys with a prefix more than a day ago; a run may still use younger ones."""
    for path in (cache_dir() / kind).glob(f"{prefix}*"):
        if time.time() - path.stat().st_mtime > _DAY_S:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


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

    Raises:
        OSError: a full disk, a lost permission: with the name ``path``, whichever library has met it.
    """
    path = Path(path)
    prefix = f".{path.name}."
    with naming(path, str(path.parent / prefix)):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent)) / path.name
        try:
            yield temporary
            if temporary.is_dir() and path.is_dir():
                path.rmdir()  # only an empty folder may be replaced by a folder
            os.replace(temporary, path)
        finally:
            shutil.rmtree(temporary.parent, ignore_errors=True)


def save_tensors(path: str | Path, content: object) -> None:
    """Write what ``torch.save`` takes, whole or not at all."""
    import torch

    with atomic_write(path) as temporary, temporary.open("wb") as file:  # through Python, which knows why a write fails
        torch.save(content, file)


def check_new_folder(path: Path, option: str) -> None:
    """Raise UniEmoError unless ``path`` is absent or an empty folder, so that nothing is ever mixed or overwritten."""
    empty = path.is_dir() and not any(path.iterdir())
    if not empty and (path.exists() or path.is_symlink()):
        raise UniEmoError(f"{option} must be a new or an empty folder; {path} is not: choose another or remove it")


def check_unlocked(folder: Path, option: str) -> None:
    """Raise as :func:`lock_folder` does, and make nothing."""
    if (folder / _LOCK).exists():
        with lock_folder(folder, option):
            pass


@contextmanager
def lock_folder(folder: Path, option: str) -> Iterator[None]:
    """Keep other processes, here or on another machine, from locking a folder until the block ends.

    The lock goes with the process, however that ends; what is left of its file, ``.lock``, does not matter. Where a
    file system has no locks (some of NFS and Lustre are mounted so) there is a warning instead.

    Args:
        folder: is made where it is missing.
        option: that names the folder, for errors.

    Raises:
        UniEmoError: another process has locked it.
    """
    path = folder / _LOCK
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        with naming(path):
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock, which forked loaders would inherit
                if not path.exists() or not os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                    raise BlockingIOError  # removed by the run that held it, which has just ended
            except (BlockingIOError, PermissionError) as error:
                file.seek(0)
                holder = file.read() or "another process"
                raise UniEmoError(
                    f"{option} must be a folder that no other run writes to; {holder} is at work in {folder}: wait "
                    "until it ends, or give another folder"
                ) from error
            except OSError as error:
                warnings.warn(f"{folder} cannot be locked ({error.strerror}): start no second run in it", stacklevel=2)
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def to_json(value: object, indent: int | None = None) -> str:
    """Return one JSON value with its line end; UniEmoError for NaN and infinity, which JSON does not have."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False) + "\n"
    except ValueError as error:
        shown = textwrap.shorten(repr(value), 200)
        raise UniEmoError(f"numbers in JSON must be finite; {shown} has others: look at what they come from") from error


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, whole or not at all; bytes of file names that are no text as escapes."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | Path, value: object) -> None:
    """Write JSON, whole or not at all; UniEmoError for NaN and infinity."""
    write_text(path, to_json(value, indent=1))


def size_and_change(path: str | Path) -> tuple[int, int]:
    """Return a file's size in bytes and time of change in ns, (-1, -1) where nothing is."""
    try:
        found = os.stat(path)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


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
