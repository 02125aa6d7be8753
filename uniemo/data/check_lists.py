"""What a dataset's lists and folders say that its images do not bear out, and the reverse."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from uniemo.data.check_images import Facts
from uniemo.data.check_report import Finding
from uniemo.data.emoset import find_mask
from uniemo.data.files import is_image
from uniemo.data.lists import read_text
from uniemo.data.manifest import SPLITS, Manifest
from uniemo.vocabulary import attribute_text

_LISTS = frozenset({".json", ".csv", ".txt", ".tsv"})
# Readers' notes of what is a finding for each file here.
_OWN = re.compile(r"in no list|no map in|left out: fewer than")
_LIST_DEPTH = 3  # folders down to five_agrees/test1/train.txt


@dataclass(frozen=True)
class Item:
    """One image of a manifest, or one whose annotation alone is at fault; paths relative to the root."""

    image: str
    emotion: str
    split: str | None = None
    annotation: str | None = None
    mask: str | None = None


def items_of(manifest: Manifest) -> list[Item]:
    """Return the images of a manifest whose files can be looked at."""
    optional = (
        [None if path is None else os.fsdecode(path) for path in manifest.column(name).to_pylist()]
        for name in ("annotation", "mask")
    )
    splits = [None if code < 0 else SPLITS[code] for code in manifest.split.tolist()]
    columns = zip(manifest.names(), manifest.emotions(), splits, *optional, strict=True)
    faulty = [
        Item(
            problem.image,
            problem.emotion,
            problem.split,
            problem.annotation,
            find_mask(manifest.root, problem.image) if manifest.has_masks() else None,
        )
        for problem in manifest.info.problems
        if problem.emotion is not None
    ]
    return [*(Item(*values) for values in columns), *faulty]


def list_findings(listings: Sequence[Manifest]) -> Iterator[Finding]:
    """Yield what can be told without opening an image: what the readers found, lists beside folders.

    Args:
        listings: of one tree.
    """
    problems = {problem for listing in listings for problem in listing.info.problems}
    unknown = sorted((problem.image, problem.label) for problem in problems if problem.label is not None)
    for image, label in unknown:
        yield Finding("unknown_label", (image,), repr(label))
    for note in sorted({note for listing in listings for note in listing.info.notes if not _OWN.search(note)}):
        yield Finding("remark", (), note)
    items = {item.image: item for listing in listings for item in items_of(listing)}
    listed = {*items, *(image for image, _ in unknown)}
    absent = sorted({problem.image for problem in problems if problem.label is None and problem.emotion is None})
    tops = {image.partition("/")[0] if "/" in image else "" for image in (*listed, *absent)}
    unlisted = _unlisted(listings[0].root, tops, listed | {item.mask for item in items.values() if item.mask})
    alike: dict[str, str] = {}
    for name in unlisted:
        alike.setdefault(_folded(name), name)
    for image in absent:
        other = alike.get(_folded(image))
        yield Finding("missing_image", (image,), "" if other is None else f"{other} is there")
    for image in unlisted:
        yield Finding("unlisted", (image,))
    yield from _label_case(listings[0], list(items.values()))


def _folded(name: str) -> str:
    """Return a file's stem as it looks, whatever its case and the way its accents are encoded."""
    return unicodedata.normalize("NFC", PurePosixPath(name).stem).casefold()


def _unlisted(root: Path, tops: Iterable[str], listed: set[str]) -> list[str]:
    """Return the pictures in some folders of the root ("" for itself alone) that are not listed, sorted."""
    found = []
    for top in tops:
        for folder, inner, names in os.walk(root / top):
            inner[:] = [name for name in inner if top and not name.startswith((".", "__"))]
            base = Path(folder).relative_to(root).as_posix()
            paths = (name if base == "." else f"{base}/{name}" for name in names if is_image(name))
            found += [path for path in paths if path not in listed]
    return sorted(set(found))


def _label_case(listing: Manifest, items: Sequence[Item]) -> Iterator[Finding]:
    """Yield folders and lists that spell an emotion otherwise than in lower case."""
    folders: Counter[str] = Counter()
    for item in items:
        for part in PurePosixPath(item.image).parts[:-1]:
            if part != part.lower() and part.lower() == item.emotion:
                folders[part] += 1
    for folder, count in sorted(folders.items()):
        yield Finding("label_case", (folder,), f"folder of {count:,} images", {"label": folder, "times": count})
    # A whole cell, a whole JSON string or a whole part of a path.
    names = "|".join(map(re.escape, listing.vocabulary.emotions))
    pattern = re.compile(rf"""(?<![^\s,;"'/\\])(?:{names})(?![^\s,;"'/\\])""", re.IGNORECASE)
    for path in _list_files(listing.root, items):
        lines: dict[str, list[int]] = {}
        for number, line in enumerate(read_text(path).splitlines(), 1):
            for found in pattern.finditer(line):
                if found.group() != found.group().lower() and not _is_folder(line, found):
                    lines.setdefault(found.group(), []).append(number)
        name = path.relative_to(listing.root).as_posix()
        for spelling, numbers in sorted(lines.items()):
            detail = f"{spelling!r} {len(numbers):,} times, first in line {numbers[0]}"
            yield Finding("label_case", (name,), detail, {"label": spelling, "times": len(numbers)})


def _is_folder(line: str, found: re.Match[str]) -> bool:
    """Whether a match is a part of a path that goes on; folders are findings of their own."""
    return line[found.end() : found.end() + 1] in ("/", "\\")


def _list_files(root: Path, items: Sequence[Item]) -> Iterator[Path]:
    """Yield the lists of a tree: text files outside the folders that hold images, masks and annotations themselves."""
    files = [name for item in items for name in (item.image, item.mask, item.annotation) if name]
    skip = {os.path.dirname(name) for name in files}
    for folder, inner, names in os.walk(root):
        base = Path(folder).relative_to(root)
        inner[:] = [
            name
            for name in sorted(inner)
            if not name.startswith((".", "__"))
            and (base / name).as_posix() not in skip
            and len(base.parts) + 1 < _LIST_DEPTH
        ]
        for name in sorted(names):
            if PurePosixPath(name).suffix.lower() in _LISTS and not name.startswith("."):
                yield Path(folder, name)


def attribute_names(info: Path) -> dict[str, frozenset[str]]:
    """Return the names of each attribute in EmoSet's full index, the emotion aside, as training compares them."""
    try:
        tables: Any = json.loads(info.read_bytes())
    except (OSError, ValueError):
        return {}
    return {
        kind: frozenset(map(attribute_text, table["label2idx"]))
        for kind, table in (tables.items() if isinstance(tables, dict) else ())
        if kind != "emotion" and isinstance(table, dict) and isinstance(table.get("label2idx"), dict)
    }


def odd_names_only(facts: Facts, item: Item, known: Mapping[str, frozenset[str]]) -> Facts:
    """Forget the names in an annotation that are as they should be: there are a million of them in EmoSet."""
    odd = tuple(
        (kind, name)
        for kind, name in facts.attributes
        if (name != item.emotion if kind == "emotion" else kind in known and attribute_text(name) not in known[kind])
    )
    return replace(facts, attributes=odd) if facts.attributes else facts


def unknown_attributes(items: Sequence[Item], facts: Sequence[Facts]) -> Iterator[Finding]:
    """Yield names in annotations that ``info.json`` lacks, each with its images."""
    images: dict[tuple[str, str], list[str]] = {}
    for item, found in zip(items, facts, strict=True):
        for kind, name in found.attributes:
            if kind != "emotion":
                images.setdefault((kind, name), []).append(item.image)
    for (kind, name), files in sorted(images.items()):
        yield Finding("unknown_attribute", tuple(files), f"{kind} {name!r}", {"attribute": kind, "name": name})
