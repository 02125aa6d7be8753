"""WebDataset: tars in which files that follow each other and whose names agree to their first point are one row.

Pictures, JSON and text are read. Nothing else is opened, pickles and arrays among it, and nothing is unpacked.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import PurePosixPath
from typing import IO, Any

from uniemo.data.files import is_hidden, is_image
from uniemo.errors import first_line
from uniemo.text_files import parse_json

Row = dict[str, Any]
_Member = tuple[int, str, tarfile.TarInfo]  # row, suffix, entry

_LARGEST = 2**28  # bytes of a file: a header may claim any size
_TEXTS = ("cls", "txt")
_BLOCK = 512  # bytes of a header


def count_tar(file: IO[bytes]) -> int:
    """Return how many rows a tar has, from its headers alone.

    Raises:
        tarfile.TarError: it is damaged.
    """
    number = -1
    for number, _, _ in _members(_opened(file), file):  # noqa: B007 - the last one counts
        pass
    return number + 1


def tar_rows(file: IO[bytes], start: int, stop: int) -> Iterator[tuple[int, Row | str]]:
    """Yield number and content of the rows ``start`` … ``stop``; the reason for one that cannot be read.

    Raises:
        tarfile.TarError: the tar is damaged from here on.
    """
    archive = _opened(file)
    for number, members in groupby(_members(archive, file), lambda member: member[0]):
        if number >= stop:
            return
        if number >= start:
            try:
                yield number, _row(archive, members)
            except ValueError as error:
                yield number, first_line(error)


def _opened(file: IO[bytes]) -> tarfile.TarFile:
    return tarfile.open(fileobj=file, mode="r:")  # compressed ones are refused


def _members(archive: tarfile.TarFile, file: IO[bytes]) -> Iterator[_Member]:
    """Yield row, suffix and entry of each file of a tar."""
    number, key = -1, None
    while (member := archive.next()) is not None:
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep every entry
        folder, _, name = member.name.rpartition("/")
        stem, _, suffix = name.partition(".")
        if member.isdir() or not suffix or is_hidden(name):
            continue
        if (folder, stem) != key:
            number, key = number + 1, (folder, stem)
        yield number, suffix.lower(), member
    file.seek(archive.offset)
    if file.read(_BLOCK).strip(b"\0"):  # tarfile takes a damaged header for the end
        raise tarfile.ReadError(f"damaged header at byte {archive.offset:,}")


def _row(archive: tarfile.TarFile, members: Iterator[_Member]) -> Row:
    """Return a row's columns: those of its JSON, and its files by suffix; ``image`` is the first picture."""
    columns: Row = {}
    files: Row = {}
    for _, suffix, member in members:
        if is_image(f"x.{suffix}"):
            files[suffix] = {"bytes": _content(archive, member), "path": PurePosixPath(member.name).name}
            files.setdefault("image", files[suffix])
        elif suffix == "json":
            content = parse_json(_content(archive, member))
            columns = content if isinstance(content, dict) else {}
        elif suffix in _TEXTS:
            text = _content(archive, member).decode().strip()
            files[suffix] = int(text) if text.isdecimal() else text
    return {**columns, **files}


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """Return a file's bytes.

    Raises:
        ValueError: it is a link or a device, too large, or its name leads out of the tar.
    """
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        raise ValueError(f"{member.name} leads out of the shard")
    content = archive.extractfile(member) if member.isreg() else None
    if content is None:
        raise ValueError(f"{member.name} is no file but a link or a device")
    if member.size > _LARGEST:
        raise ValueError(f"{member.name} has more than {_LARGEST // 2**20} MiB")
    return content.read()
