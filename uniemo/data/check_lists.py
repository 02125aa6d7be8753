"""What a dataset's lists and folders say that its images do not bear out, and the reverse."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from uniemo.data.check_files import Item
from uniemo.data.check_report import Finding
from uniemo.data.files import fold, images_below, is_hidden, is_image, visible
from uniemo.data.lists import read_text
from uniemo.data.manifest import Manifest

_LISTS = frozenset({".json", ".csv", ".txt", ".tsv"})
# Notes of the layouts' readers on what is a finding for each file here.
_OWN = re.compile(r"in no list|no map in|left out: fewer than|in no class folder")
_LIST_DEPTH = 3  # folders down to five_agrees/test1/train.txt


def list_findings(manifests: Sequence[Manifest], items: Sequence[Item]) -> Iterator[Finding]:
    """Yield what can be found without opening an image."""
    problems = {problem for manifest in manifests for problem in manifest.info.problems}
    unknown = {(problem.image, problem.label) for problem in problems if problem.label is not None}
    absent = {problem.image for problem in problems if problem.label is None and problem.emotion is None}
    for image, label in unknown:
        yield Finding("unknown_label", (image,), repr(label))
    for note in {note for manifest in manifests for note in manifest.info.notes if not _OWN.search(note)}:
        yield Finding("remark", (), note)
    listed = {item.image for item in items} | {image for image, _ in unknown}
    masks = {item.mask for item in items if item.mask is not None}
    unlisted = _images_beside(manifests[0].root, listed | absent) - listed - masks
    alike = {_folded_stem(name): name for name in sorted(unlisted, reverse=True)}
    for image in absent:
        other = alike.get(_folded_stem(image))
        yield Finding("missing_image", (image,), "" if other is None else f"{other} is there")
    for image in unlisted:
        yield Finding("unlisted", (image,))
    yield from _label_case(manifests[0].root, manifests[0].vocabulary.emotions, items)


def _folded_stem(name: str) -> str:
    return fold(PurePosixPath(name).stem)


def _images_beside(root: Path, listed: set[str]) -> set[str]:
    """Return the images in the top folders that the listed ones are in; at the root, those of the root alone."""
    found: set[str] = set()
    for top in {image.partition("/")[0] if "/" in image else "" for image in listed}:
        if not top:
            found.update(filter(is_image, visible(root)))
        elif (root / top).is_dir():
            found.update(images_below(root, top))
    return found


def _label_case(root: Path, emotions: Sequence[str], items: Sequence[Item]) -> Iterator[Finding]:
    """Yield folders and lists that spell an emotion otherwise than in lower case."""
    folders = Counter(
        part
        for item in items
        for part in PurePosixPath(item.image).parts[:-1]
        if part != part.lower() and part.lower() == item.emotion
    )
    for folder, count in folders.items():
        yield Finding("label_case", (folder,), f"folder of {count:,} images", {"label": folder, "times": count})
    # A whole cell, a whole JSON string or the last part of a path; folders are findings of their own.
    names = "|".join(map(re.escape, emotions))
    pattern = re.compile(rf"""(?<![^\s,;"'/\\])(?:{names})(?![^\s,;"'])""", re.IGNORECASE)
    for path in _list_files(root, items):
        lines: dict[str, list[int]] = {}
        for number, line in enumerate(read_text(path).splitlines(), 1):
            for label in pattern.findall(line):
                if label != label.lower():
                    lines.setdefault(label, []).append(number)
        name = path.relative_to(root).as_posix()
        for label, numbers in lines.items():
            detail = f"{label!r} {len(numbers):,} times, first in line {numbers[0]}"
            yield Finding("label_case", (name,), detail, {"label": label, "times": len(numbers)})


def _list_files(root: Path, items: Sequence[Item]) -> Iterator[Path]:
    """Yield the lists of a tree: text files outside the folders that hold images, masks and annotations."""
    files = (name for item in items for name in (item.image, item.mask, item.annotation) if name)
    skip = {os.path.dirname(name) for name in files}
    for folder, inner, names in os.walk(root):
        base = Path(folder).relative_to(root)
        deep = len(base.parts) + 1 >= _LIST_DEPTH
        hidden = {name for name in inner if is_hidden(name) or (base / name).as_posix() in skip}
        inner[:] = [] if deep else sorted(set(inner) - hidden)
        yield from (
            Path(folder, name)
            for name in sorted(names)
            if PurePosixPath(name).suffix.lower() in _LISTS and not is_hidden(name)
        )
