"""What EmoSet's own files say: split files, annotations, names in any spelling."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniemo.data.listing import Split
from uniemo.errors import UniEmoError
from uniemo.vocabulary import attribute_text


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a split file: emotion name and two paths relative to the root."""

    emotion: str
    image: str
    annotation: str


@dataclass(frozen=True, slots=True)
class Attributes:
    """Names that an annotation gives, as spelled there; None or empty where it gives none."""

    scene: str | None
    objects: tuple[str, ...]


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Return a JSON file's content.

    Raises:
        UniEmoError: the file is missing or no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise UniEmoError(
            f"EmoSet needs {path.name}; {path} does not exist: data.root must be the folder with info.json, "
            "train.json, val.json, test.json, image/ and annotation/"
        ) from error
    except (OSError, ValueError) as error:
        raise UniEmoError(f"EmoSet file {path} must be JSON; it is not ({error}): download it again") from error


def read_entries(root: Path, split: Split) -> list[Entry]:
    """Read one split file.

    Raises:
        UniEmoError: the file is missing, empty, or has an entry that is neither a 3- nor a 4-tuple.
    """
    path = root / f"{split}.json"
    lines = read_json(path)
    if not isinstance(lines, list) or not lines:
        raise UniEmoError(f"EmoSet split must list at least one image; {path} lists none: restore the file")
    entries = []
    for number, line in enumerate(lines):
        if not isinstance(line, list) or len(line) not in (3, 4) or not all(isinstance(part, str) for part in line):
            raise UniEmoError(
                "EmoSet entry must be [emotion, image, annotation] or [emotion, id, image, annotation]; "
                f"entry {number} of {path} is {json.dumps(line)[:80]}: restore the file"
            )
        entries.append(Entry(line[0].strip().lower(), line[-2], line[-1]))
    return entries


def parse_attributes(content: bytes) -> Attributes:
    """Return the names in an annotation file's content.

    Raises:
        ValueError: it is no JSON object, or scene or object is neither a name nor a list of names.
    """
    note = json.loads(content)
    if not isinstance(note, dict):
        raise ValueError("no JSON object")
    scene, objects = note.get("scene"), note.get("object") or ()
    if isinstance(objects, str):
        objects = (objects,)
    if not isinstance(scene, str | None):
        raise ValueError(f"scene must be one name; it is {json.dumps(scene)[:40]}")
    if not isinstance(objects, list | tuple) or not all(isinstance(name, str) for name in objects):
        raise ValueError(f"object must be a list of names; it is {json.dumps(objects)[:40]}")
    return Attributes(scene or None, tuple(objects))


def read_attributes(root: Path, entries: Iterable[Entry]) -> list[Attributes]:
    """Read the annotations of some entries, one after the other.

    Raises:
        UniEmoError: an annotation is missing or cannot be used.
    """
    result = []
    for entry in entries:
        path = root / entry.annotation
        try:
            result.append(parse_attributes(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise UniEmoError(
                f"EmoSet annotation must be a JSON object; {path} is not ({error}): restore it"
            ) from error
    return result


def distinct_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return sorted names, one spelling each of those that differ in case, blanks or underscores only."""
    kept: dict[str, str] = {}
    for name in sorted(names):
        kept.setdefault(attribute_text(name), name.strip())
    return tuple(kept[key] for key in sorted(kept))


class NameTable:
    """Class index by name, whatever its case, blanks and underscores; counts the names it does not know."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self._index: dict[str, int] = {}
        for index, name in enumerate(names):
            self._index.setdefault(attribute_text(name), index)
        self.unknown: Counter[str] = Counter()

    def find(self, name: str) -> int:
        """Return the class index, -1 for an unknown name."""
        index = self._index.get(attribute_text(name), -1)
        if index < 0:
            self.unknown[name] += 1
        return index
