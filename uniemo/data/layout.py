"""Recognising the tree that people have of a dataset, and reading it into a manifest, once.

The table is written to the cache folder as an Arrow file, which every process maps into memory. It is made again when
the tree has changed: when any file below its root, images and annotations included, has another name, size or time of
change (:func:`tree_state`).
"""

from __future__ import annotations

import json
import os
import re
import time
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa

import uniemo.data
from uniemo.cache import digest, remove_old
from uniemo.cache import get as cached
from uniemo.data.files import DEPTH, is_hidden, subfolders
from uniemo.data.manifest import Info, Layout, Manifest, Problem, map_table
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

_FORMAT = 5  # of the table; one of another format is made again
# A file may change once more without its time of change moving on: FAT counts in steps of two seconds. A table that was
# made so soon after a change is made again at the next start.
_TICK_NS = 2_000_000_000
_WORD = re.compile(r"[a-z]+\w*")
_FILLING = frozenset(
    ("jpg", "json", "csv", "txt", "parquet", "and", "of", "with", "as", "or", "too", "not", "the", "a", "n")
)
_THREADS = 8  # hide the waiting of network disks


def layouts_of(dataset: str | None) -> tuple[Layout, ...]:
    """Return the layouts of one of the package's datasets, or of all whose trees can be told apart.

    Raises:
        UniEmoError: no such dataset.
    """
    known = uniemo.data.DATASETS
    if dataset is not None and dataset not in known:
        raise UniEmoError(f"dataset must be one of {', '.join(known)}; got {dataset!r}")
    wanted = known if dataset is None else (dataset,)
    layouts = [layout for name in wanted for layout in getattr(uniemo.data, name).layouts]
    return tuple(layout for layout in layouts if dataset is not None or not layout.any_classes)


def find_layout(root: Path, layouts: Sequence[Layout], forced: str | None = None) -> tuple[Layout, Path]:
    """Recognise the layout of a tree.

    An archive often unpacks into a folder of its own: where ``root`` itself matches nothing and holds exactly one
    folder (hidden ones and files aside), that folder is looked at too, at most two levels down.

    Args:
        root: folder that the user gave.
        layouts: the known ones, the surest first.
        forced: name of the layout to take, whatever the tree looks like.

    Returns:
        The layout and the folder that has it.

    Raises:
        UniEmoError: nothing matches (the message shows the nearest tree and what is there), or no such layout.
    """
    if forced is not None:
        layouts = [layout for layout in layouts if layout.name == forced] or _no_such_layout(forced, layouts)
    folder = root
    for _ in range(3):
        for layout in layouts:
            if layout.matches(folder):
                return layout, folder
        inner = subfolders(folder)
        if len(inner) != 1:
            break
        folder = folder / inner[0]
    if forced is not None:
        return layouts[0], root  # its reader says what is missing
    if any(layout.any_classes for layout in layouts):
        advice = "make a folder for each class, or name a table's columns with --data.label_column"
    elif (other := _recognised(root)) is not None:
        advice = f"it looks like {other.dataset} ({other.name}): take --data {other.dataset}"
    else:
        near = _nearest(root, layouts)
        advice = (
            f"the nearest known tree is {near.dataset}/{near.name}: {near.tree}; docs/datasets.md shows all: correct "
            "--data.root, force one with --data.layout, or take --data Folder for classes of your own"
        )
    raise UniEmoError(f"data.root must hold one of the known trees; {root} holds {describe_folder(root)}; {advice}")


def _recognised(root: Path) -> Layout | None:
    """Return the layout that a folder has among those of all datasets."""
    return next((layout for layout in layouts_of(None) if layout.matches(root)), None)


def _nearest(root: Path, layouts: Sequence[Layout]) -> Layout:
    """Return the layout most of whose names are like some that are there, down to the second level."""
    there = " ".join(
        str(path.relative_to(root)) for pattern in ("*", "*/*") for path in islice(root.glob(pattern), 200)
    )
    words = set(_WORD.findall(there.lower()))

    def likeness(layout: Layout) -> float:
        wanted = [word for word in _WORD.findall(layout.tree.lower()) if word not in _FILLING]
        return sum(bool(get_close_matches(word, words, 1, 0.8)) for word in wanted) / max(len(wanted), 1)

    return max(layouts, key=likeness)


def _no_such_layout(name: str, layouts: Sequence[Layout]) -> NoReturn:
    raise UniEmoError(f"data.layout must be one of {', '.join(layout.name for layout in layouts)}; got {name!r}")


def describe_folder(folder: Path) -> str:
    """Return what a folder holds in a line: its first names, folders with a slash, and how many there are."""
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    more = f" and {len(names) - 12} more" if len(names) > 12 else ""
    return ", ".join(names[:12]) + more if names else "nothing"


def read_manifest(
    root: Path,
    layouts: Sequence[Layout],
    forced: str | None = None,
    follow_links: bool = False,
    **options: Any,  # noqa: ANN401 - plain values
) -> Manifest:
    """Recognise a tree and return its images, from the cache where it has not changed.

    Args:
        root: folder that the user gave.
        layouts: the known ones, see :func:`layouts_of`.
        forced: name of the layout to take without looking.
        follow_links: allow lists and links that lead out of the folder.
        options: the dataset's own, for example ``agreement`` of Twitter I; None takes its default.

    Raises:
        UniEmoError: no such layout, its files cannot be used, or they lie elsewhere.
    """
    layout, folder = find_layout(root, layouts, forced)
    wanted = {**options, "follow_links": follow_links}
    given = {name: value for name, value in wanted.items() if value is not None and name in layout.options}
    settings = sorted({**given, "follow_links": follow_links}.items())
    key = " ".join([layout.name, *(f"{name}={value}" for name, value in settings)])
    return _cached(folder, key, lambda: layout.read(folder, **given).manifest(layout, folder, follow_links))


# The cache.


def _cached(root: Path, key: str, make: Callable[[], tuple[Info, pa.Table]]) -> Manifest:
    """Return a tree's manifest from the cache folder; made where it is missing or the tree has changed."""
    home = digest(os.fsencode(root.resolve()), key, _FORMAT)

    def write(file: Path) -> None:
        info, table = make()
        metadata = {"uniemo": json.dumps(asdict(info))}
        with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_file(sink, table.schema.with_metadata(metadata)) as writer:
            writer.write_table(table.combine_chunks())
        remove_old("manifests", f"{home}-")

    file = cached("manifests", f"{home}-{tree_state(root)}.arrow", write)
    manifest = _read(file, root)
    if not manifest.root.is_dir():  # images that were unpacked to the cache are gone
        file.unlink(missing_ok=True)
        manifest = _read(cached("manifests", file.name, write), root)
    return manifest


def _read(file: Path, root: Path) -> Manifest:
    """Return the manifest in a file, mapped into memory."""
    table = map_table(file)
    content = json.loads(table.schema.metadata[b"uniemo"])
    content["vocabulary"] = Vocabulary.from_dict(content["vocabulary"])
    content["problems"] = tuple(Problem(**problem) for problem in content["problems"])
    content |= {name: tuple(content[name]) for name in ("notes", "warnings")}
    return Manifest(table, root / content["folder"], Info(**content), file=file)


def tree_state(root: Path) -> str:
    """Return 16 hex digits that change when any file below a folder gets another name, size or time of change.

    Hidden files and folders are passed over. No file is opened: this takes a second for 250,000 files on a local disk.
    """
    parts: list[bytes] = []
    newest = 0
    level = [os.fsencode(root)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in range(DEPTH):
            inner = []
            for folder, (folders, listing, latest) in zip(level, pool.map(_look, level), strict=True):
                parts.append(os.path.relpath(folder, os.fsencode(root)) + b"\0" + listing)
                inner += folders
                newest = max(newest, latest)
            level = inner
    now = time.time_ns()
    return digest(*parts, now if abs(now - newest) < _TICK_NS else 0)


def _look(folder: bytes) -> tuple[list[bytes], bytes, int]:
    """Return a folder's folders, its files' names, sizes and times and its links in one buffer, and the latest time."""
    found: dict[bytes, tuple[int, int]] = {}
    folders, links = [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if is_hidden(os.fsdecode(entry.name)):
                    continue
                if entry.is_symlink():
                    links.append(entry.name)
                try:
                    if entry.is_dir():
                        folders.append(entry.path)
                        continue
                    status = entry.stat()
                except FileNotFoundError:  # a link to nowhere
                    continue
                found[entry.name] = status.st_size, status.st_mtime_ns
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return [], b"", 0
    names = sorted(found)
    numbers = array("q", [number for name in names for number in found[name]])
    listing = b"\0".join((*names, numbers.tobytes(), *sorted(links)))
    return sorted(folders), listing, max(numbers[1::2], default=0)
