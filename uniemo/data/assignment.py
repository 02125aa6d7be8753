"""The split of each image, and the JSON file that keeps it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniemo.cache import atomic_write
from uniemo.data.listing import SPLITS, Split
from uniemo.errors import UniEmoError


@dataclass(frozen=True)
class Assignment:
    """The split of each image, and how it came about.

    Attributes:
        split: split by image; images in none of them are left out.
        source: ``tree`` (given), ``completed`` (a part of the given training images became validation), ``seed``,
            ``fold`` or ``file``.
        seed: of the choice.
        fractions: of training, validation and test images, where they were cut by them.
        fold: which fold is the test split, from 1; None without cross-validation.
        folds: how many there are.
        layout: of the tree.
        duplicates: groups of images with the same content, sorted.
        left_out: images taken out of their split, each with the reason.
    """

    split: dict[str, Split]
    source: str = "tree"
    seed: int = 0
    fractions: tuple[float, float, float] | None = None
    fold: int | None = None
    folds: int | None = None
    layout: str | None = None
    duplicates: tuple[tuple[str, ...], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    def images(self, split: Split) -> list[str]:
        """Return the images of a split, sorted."""
        return sorted(image for image, given in self.split.items() if given == split)

    def counts(self) -> dict[Split, int]:
        """Return the number of images in each split."""
        values = list(self.split.values())
        return {split: values.count(split) for split in SPLITS}


def write_split(path: str | Path, assignment: Assignment) -> None:
    """Write an assignment as JSON, for :func:`read_split`."""
    content: dict[str, Any] = {
        "layout": assignment.layout,
        "source": assignment.source,
        "seed": assignment.seed,
        "fractions": assignment.fractions,
        "fold": assignment.fold,
        "folds": assignment.folds,
        "counts": assignment.counts(),
        "splits": {split: assignment.images(split) for split in SPLITS},
        "duplicates": assignment.duplicates,
        "left_out": dict(assignment.left_out),
    }
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_split(path: str | Path, files: Iterable[str]) -> Assignment:
    """Read what :func:`write_split` wrote, or any JSON with ``{"splits": {"train": [...], "val": ..., "test": ...}}``.

    Args:
        path: the file.
        files: the tree's images; those that the file does not list are left out.

    Raises:
        UniEmoError: the file is missing or has another form; it lists an image that the tree lacks, or one in two
            splits.
    """
    path = Path(path).expanduser()
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise UniEmoError(f"data.split_file must be an existing file; got {path}: correct --data.split_file") from error
    except (OSError, ValueError) as error:
        raise UniEmoError(f"data.split_file must be JSON; {path} is not ({error}): make it again") from error
    lists = content.get("splits") if isinstance(content, dict) else None
    if not isinstance(lists, dict) or not set(lists) <= set(SPLITS) or not all(map(_is_list, lists.values())):
        raise UniEmoError(
            f'data.split_file must hold {{"splits": {{"train": [...], "val": [...], "test": [...]}}}}; {path} does '
            "not: make it with uniemo data split"
        )
    there = set(files)
    split: dict[str, Split] = {}
    for name in SPLITS:
        for image in lists.get(name, ()):
            if split.setdefault(image, name) != name:
                raise UniEmoError(f"an image must be in one split; {path} has {image} in {split[image]} and {name}")
    missing = sorted(split.keys() - there)
    if missing:
        raise UniEmoError(
            f"data.split_file must fit the tree; {len(missing)} of the {len(split)} images in {path} are not in it, "
            f"first {missing[0]}: correct --data.root, or make the file again"
        )
    left_out = content.get("left_out")
    left_out = left_out if isinstance(left_out, dict) else {}
    others = {image: "not in the split file" for image in sorted(there - split.keys())}
    return Assignment(
        split=split,
        source="file",
        seed=_get(content, "seed", int, 0),
        fractions=_three(content.get("fractions")),
        fold=_get(content, "fold", int, None),
        folds=_get(content, "folds", int, None),
        layout=_get(content, "layout", str, None),
        duplicates=tuple(tuple(group) for group in content.get("duplicates") or () if _is_list(group)),
        left_out=tuple({**others, **{image: why for image, why in left_out.items() if image in others}}.items()),
    )


def _is_list(value: object) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _three(value: object) -> tuple[float, float, float] | None:
    """Return three numbers of a JSON list, None where it holds anything else."""
    if not isinstance(value, list) or len(value) != 3 or not all(isinstance(part, int | float) for part in value):
        return None
    return (float(value[0]), float(value[1]), float(value[2]))


def _get(content: dict[str, Any], key: str, kind: type, default: Any) -> Any:  # noqa: ANN401
    """Return an entry of a JSON object where it has the right type."""
    value = content.get(key)
    return value if isinstance(value, kind) else default
