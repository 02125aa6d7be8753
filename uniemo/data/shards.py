"""Shards of labelled images, here or at ``hf://``: parquet files and WebDataset's tars, read row by row.

A row that cannot be read has the reason in its place, so that rows keep their numbers whatever is damaged.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Literal

from uniemo.cache import digest
from uniemo.cache import get as cached
from uniemo.data.duplicates import map_files
from uniemo.data.files import is_hidden
from uniemo.data.webdataset import Row, count_tar, tar_rows
from uniemo.errors import UniEmoError, first_line
from uniemo.text_files import parse_json

SUFFIXES = (".parquet", ".tar")
_HUB = "hf://"
_SIZES = "sizes.json"  # beside tars, as open_clip has it: {"train-0000.tar": 1000, …}
_READ = 2**23  # bytes of a column that parquet reads at a time, whatever the size of its row groups
_ROWS = 16  # that are decoded at a time
_LARGEST = 2**24  # bytes of sizes.json


@dataclass(frozen=True)
class Shard:
    """One file with many images.

    Attributes:
        url: of the file, as it is opened.
        name: of it in names of images, relative to what the user gave.
        rows: how many it has.
        stamp: changes when it does.
    """

    url: str
    name: str
    rows: int
    stamp: str


def list_shards(root: str, option: str) -> list[tuple[str, str]]:
    """Return address and name of the shards that a folder, a pattern or ``hf://datasets/…`` stands for, sorted.

    Args:
        root: the folder, pattern or file.
        option: that gave it, for errors.

    Raises:
        UniEmoError: there is none, they are of two kinds, or the place cannot be reached.
    """
    if "://" in root and not root.startswith(_HUB):
        raise UniEmoError(f"{option} must be a folder, a pattern such as 'shards/*.tar' or hf://datasets/…; got {root}")
    system = _system(root)
    path = system._strip_protocol(os.path.expanduser(root))
    try:
        paths = system.glob(path) if any(mark in path for mark in "*?[") else system.find(path)
    except Exception as error:  # the hub's client raises what its own client raises
        reason = first_line(error)
        raise UniEmoError(f"{option} must be in reach; {root} is not ({reason}): look at its name") from error
    found = sorted(one for one in paths if one.endswith(SUFFIXES))
    base = os.path.commonpath([os.path.dirname(one) for one in found]) if found else ""
    names = {one: os.path.relpath(one, base) for one in found}
    names = {one: name for one, name in names.items() if not any(map(is_hidden, PurePosixPath(name).parts))}
    kinds = {suffix: count for suffix in SUFFIXES if (count := sum(one.endswith(suffix) for one in names))}
    if len(kinds) != 1:
        there = " and ".join(f"{count:,} {suffix}" for suffix, count in kinds.items()) or "none"
        raise UniEmoError(
            f"{option} must stand for shards of one kind, {' or '.join(SUFFIXES)}; {root} has {there}: give a folder, "
            "a pattern such as 'shards/*.parquet' or hf://datasets/owner/name"
        )
    return [((_HUB if root.startswith(_HUB) else "") + one, name) for one, name in names.items()]


def _system(url: str) -> Any:  # noqa: ANN401 - an fsspec file system
    import fsspec

    return fsspec.filesystem("hf" if url.startswith(_HUB) else "file")


def _open(url: str) -> IO[bytes]:
    file: IO[bytes] = _system(url).open(url, "rb")
    return file


def count_rows(
    shards: Sequence[tuple[str, str]], needed: Mapping[str, Sequence[str]], on_error: Literal["raise", "skip"]
) -> tuple[list[Shard], dict[str, str]]:
    """Return the shards with the number of their rows, and those that cannot be read, each with the reason.

    Parquet says how many rows it has. A tar's are counted by its headers, once until it changes; of one at the hub,
    which would have to be fetched for that, ``sizes.json`` beside it must say it.

    Args:
        shards: address and name of each.
        needed: columns of which parquet must have one, by the argument that names them.
        on_error: what to do about a shard that cannot be read.

    Raises:
        UniEmoError: a shard cannot be read and ``on_error`` is ``raise``; the hub cannot be reached, or has tars
            without ``sizes.json``.
    """
    told = _told_sizes(shards)
    stamps = [_system(url).ukey(url) for url, _ in shards]

    def write(file: Path) -> None:
        counts = map_files(lambda shard: _try_count(shard[0], told, needed), shards, "counting images")
        file.write_text(json.dumps(counts), encoding="utf-8")

    key = digest([list(shards), stamps, told, needed])
    counts = json.loads(cached("shards", f"{key}.json", write).read_text(encoding="utf-8"))
    whole = [(*shard, count, stamp) for shard, count, stamp in zip(shards, counts, stamps, strict=True)]
    bad = {url: count for url, _, count, _ in whole if isinstance(count, str)}
    if bad and on_error == "raise":
        url, reason = next(iter(bad.items()))
        raise UniEmoError(
            f"shards must be readable; {len(bad)} of {len(shards)} are not, first {url} ({reason}): mend or remove "
            "them, or leave them out with --data.on_error skip"
        )
    return [Shard(*values) for values in whole if values[0] not in bad], bad


def _told_sizes(shards: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the rows of shards by address, as ``sizes.json`` beside them has it."""
    told: dict[str, int] = {}
    for folder in sorted({os.path.dirname(url) for url, _ in shards if url.endswith(".tar")}):
        place = f"{folder}/{_SIZES}"
        if not _system(place).exists(place):
            continue
        with _open(place) as file:
            sizes = file.read(_LARGEST)
        try:
            content = parse_json(sizes)
            told |= {f"{folder}/{name}": int(count) for name, count in content.items()}
        except (ValueError, TypeError, AttributeError) as error:
            reason = first_line(error)
            raise UniEmoError(
                f'{place} must be like {{"train-0000.tar": 1000}}; it is not ({reason}): mend it'
            ) from error
    missing = [url for url, _ in shards if url.startswith(_HUB) and url.endswith(".tar") and url not in told]
    if missing:
        raise UniEmoError(
            f"tars at the hub must have their numbers of images in {_SIZES} beside them, as counting would fetch all; "
            f"{missing[0]} has none: fetch the tars, or take a dataset in parquet"
        )
    return told


def _try_count(url: str, told: dict[str, int], needed: Mapping[str, Sequence[str]]) -> int | str:
    """Return how many rows a shard has, or why that cannot be known."""
    if url in told:
        return told[url]
    try:
        with _open(url) as file:
            return _count_parquet(file, needed) if url.endswith(".parquet") else count_tar(file)
    except _damage() as error:
        _check_reach(url, error)
        return first_line(error)


def _count_parquet(file: IO[bytes], needed: Mapping[str, Sequence[str]]) -> int | str:
    from pyarrow import parquet

    shard = parquet.ParquetFile(file)
    there = shard.schema_arrow.names
    for argument, names in needed.items():
        if not set(names) & set(there):
            return f"it has columns {', '.join(there)}, but not {' or '.join(names)}, see --data.{argument}"
    return int(shard.metadata.num_rows)


def _damage() -> tuple[type[Exception], ...]:
    """Return what is raised for a damaged shard."""
    import pyarrow as pa

    return pa.ArrowException, tarfile.TarError, OSError, ValueError, EOFError


def _check_reach(url: str, error: Exception) -> None:
    """Raise UniEmoError where it is the hub, not the shard, that is at fault."""
    if url.startswith(_HUB) and isinstance(error, OSError):
        raise UniEmoError(
            f"the hub must stay in reach; {url} cannot be fetched ({first_line(error)}): try again later"
        ) from error


def read_rows(
    shard: Shard, start: int, stop: int, columns: Sequence[str] | None = None
) -> Iterator[tuple[int, Row | str]]:
    """Yield number and content of the rows ``start`` … ``stop`` of a shard; the reason for one that cannot be read.

    Args:
        shard: to read.
        start: first row, from 0.
        stop: row behind the last one.
        columns: of parquet, those that are read where they are there; None reads all.

    Raises:
        UniEmoError: the hub cannot be reached.
    """
    following, reason = start, f"the shard ends before it, though {shard.rows:,} rows were counted"
    try:
        with _open(shard.url) as file:
            tar = shard.url.endswith(".tar")
            for number, row in tar_rows(file, start, stop) if tar else _parquet_rows(file, start, stop, columns):
                yield number, row
                following = number + 1
    except _damage() as error:
        _check_reach(shard.url, error)
        reason = first_line(error)
    for number in range(following, stop):
        yield number, reason


def _parquet_rows(
    file: IO[bytes], start: int, stop: int, columns: Sequence[str] | None
) -> Iterator[tuple[int, Row | str]]:
    from pyarrow import parquet

    shard = parquet.ParquetFile(file, buffer_size=_READ, page_checksum_verification=True)
    wanted = None if columns is None else [name for name in shard.schema_arrow.names if name in columns]
    row = 0
    for group in range(shard.num_row_groups):
        size = shard.metadata.row_group(group).num_rows
        if row + size <= start:
            row += size
            continue
        for batch in shard.iter_batches(_ROWS, [group], wanted, use_threads=False):  # loaders have processes
            skipped = max(start - row, 0)
            if skipped < len(batch):
                yield from enumerate(batch.slice(skipped, max(stop - row - skipped, 0)).to_pylist(), row + skipped)
            row += len(batch)
            if row >= stop:
                return


def column_features(url: str) -> dict[str, Any]:
    """Return what Hugging Face datasets knows of a parquet file's columns, class names among it; nothing for a tar."""
    if url.endswith(".tar"):
        return {}
    from datasets import Features
    from pyarrow import parquet

    with _open(url) as file:
        schema = parquet.read_schema(file)
    try:
        return dict(Features.from_arrow_schema(schema))
    except Exception as error:  # what a stranger wrote may fail anywhere
        raise UniEmoError(
            f"parquet must describe its columns as Hugging Face datasets does, or not at all; {url} does not "
            f"({first_line(error)}): write it again"
        ) from error
