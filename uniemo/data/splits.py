"""Which image is in which split: given, made with a seed, or read from a file; and no picture on two sides.

Everything goes by the images' names, never by the order in which a disk lists them, and an image's place in the order
comes from a hash of the seed and its name: the same tree and seed give the same split in any process, and a tree that
gains or loses an image keeps the places of nearly all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from uniemo.cache import write_json
from uniemo.data.duplicates import drop_copies, find_copies, find_placeholders
from uniemo.data.manifest import SPLITS, Manifest, Split
from uniemo.errors import UniEmoError
from uniemo.text_files import read_json

FRACTIONS = (0.8, 0.05, 0.15)  # EmoSet's own, and what is used for FI
FOLD_FRACTIONS = (0.72, 0.08, 0.2)  # one fold of five is the test split, a tenth of the rest is held out
TRAIN, VAL, TEST = range(3)

Codes = NDArray[np.int8]


@dataclass(frozen=True)
class Assignment:
    """The split of each image of a manifest, and where it comes from.

    Attributes:
        split: (N,) positions in ``SPLITS``, -1 for images that are left out.
        source: ``tree`` (given), ``completed`` (a part of the given training images became validation), ``seed``,
            ``fold`` or ``file``.
        seed: of the choice.
        fractions: of training, validation and test images, where they were made by them.
        fold: which fold is the test split, from 1; None without cross-validation.
        folds: how many there are.
        duplicates: names of images with the same content, in sorted groups.
        left_out: names of images taken out of their split, each with the reason; sorted.
    """

    split: Codes
    source: str = "tree"
    seed: int = 0
    fractions: tuple[float, float, float] | None = None
    fold: int | None = None
    folds: int | None = None
    duplicates: tuple[tuple[str, ...], ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return which images are in a split."""
        return np.flatnonzero(self.split == SPLITS.index(split))

    def counts(self) -> dict[Split, int]:
        """Return the number of images in each split."""
        return {split: len(self.rows(split)) for split in SPLITS}


# Making splits.


class _Images:
    """Names, emotions and copies of a manifest's images.

    Args:
        manifest: the images.
        seed: of their order.
    """

    def __init__(self, manifest: Manifest, seed: int) -> None:
        self.names = manifest.names()
        self.emotions = manifest.emotions()
        self.seed = seed
        self.copies = find_copies(manifest, self.names)
        self.gone = find_placeholders(self.copies, self.names, self.emotions)

    def duplicates(self) -> tuple[tuple[str, ...], ...]:
        """Return the names of images with the same content, in groups."""
        return tuple(tuple(self.names[row] for row in group) for group in self.copies)

    def named(self, left_out: Mapping[int, str]) -> tuple[tuple[str, str], ...]:
        """Return names and reasons, sorted."""
        return tuple(sorted((self.names[row], reason) for row, reason in left_out.items()))

    def units(self, rows: NDArray[np.int64]) -> list[list[list[int]]]:
        """Return for each emotion, sorted, its images in the seed's order, copies together."""
        group = {row: number for number, copies in enumerate(self.copies) for row in copies}
        together: dict[int, list[int]] = {}
        for row in rows.tolist():
            together.setdefault(group.get(row, -1 - row), []).append(row)
        units: dict[str, list[list[int]]] = {}
        for unit in together.values():
            unit.sort(key=self.names.__getitem__)
            units.setdefault(self.emotions[unit[0]], []).append(unit)
        return [sorted(units[emotion], key=lambda unit: self._place(unit[0])) for emotion in sorted(units)]

    def _place(self, row: int) -> bytes:
        """Return an image's place in the order that the seed makes."""
        text = f"{self.seed} {self.names[row]}"
        return hashlib.blake2b(text.encode("utf-8", errors="surrogateescape"), digest_size=16).digest()

    def cut(self, rows: NDArray[np.int64], fractions: Sequence[float], split: Codes) -> None:
        """Cut images into training, validation and test so that each emotion has its share in each, copies together.

        An emotion with at least three images has one in each split whose fraction is not zero.
        """
        for units in self.units(rows):
            total = sum(map(len, units))
            wanted = [max(round(part * total), int(part > 0 and len(units) >= 3)) for part in fractions]
            position = 0
            for code in (TEST, VAL):
                taken = 0
                while position < len(units) and taken < wanted[code]:
                    split[units[position]] = code
                    taken += len(units[position])
                    position += 1
            for unit in units[position:]:
                split[unit] = TRAIN if fractions[0] > 0 else TEST

    def deal(self, rows: NDArray[np.int64], folds: int) -> NDArray[np.int64]:
        """Return (N,) the fold, from 1, that tests on each image: sizes and emotions nearly even, copies together."""
        tests = np.zeros(len(self.names), dtype=np.int64)
        units = [unit for units in self.units(rows) for unit in units]
        if len(units) < folds:
            raise UniEmoError(f"data.folds must be at most the number of different images, {len(units)}; got {folds}")
        for position, unit in enumerate(units):
            tests[unit] = position % folds + 1
        return tests


def assign(
    manifest: Manifest,
    seed: int = 0,
    fractions: tuple[float, float, float] = FRACTIONS,
    val_fraction: float | None = None,
    fold: int | None = None,
    folds: int = 5,
    fresh: bool = False,
) -> Assignment:
    """Decide the split of each image of a tree.

    Given splits are taken. Validation images that the tree lacks come from the training images, never from the test
    ones; a tree without test images is cut whole. With ``fold``, its images are the test split (given folds where the
    tree has them) and validation images come from the rest.

    Images with the same content end on one side: where the split is made here they are kept together; where it is
    given the copy in training gives way to that in validation or test, and that in validation to that in test.
    Placeholders (:func:`~uniemo.data.duplicates.find_placeholders`) are left out.

    Args:
        manifest: the tree's images.
        seed: of every choice.
        fractions: of training, validation and test images for a tree without splits.
        val_fraction: share of the images outside the test split that become validation images where the tree gives
            none; None takes that of ``fractions``.
        fold: which fold is the test split, from 1.
        folds: how many folds to make where the tree gives none.
        fresh: pass over the splits and folds that the tree gives.

    Raises:
        UniEmoError: a fold that does not exist; fractions out of their range.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UniEmoError(f"fractions must be three numbers in [0, 1] that sum to 1; got {list(fractions)}")
    share = fractions[1] / (fractions[0] + fractions[1]) if val_fraction is None else val_fraction
    if not 0 < share < 1:
        raise UniEmoError(f"data.val_fraction must lie in (0, 1); got {share}")
    images = _Images(manifest, seed)
    usable = np.ones(len(manifest), dtype=bool)
    usable[list(images.gone)] = False
    given = np.where(usable & (not fresh), manifest.split, -1).astype(np.int8)
    codes = {*np.unique(given).tolist(), *(SPLITS.index(split) for split in manifest.info.broken)}
    split = given.copy()
    made = Assignment(split, seed=seed, duplicates=images.duplicates())
    if fold is not None:
        tests, folds = _tests(
            manifest, images, np.flatnonzero(usable), 0 if fresh else manifest.info.folds, folds, fold
        )
        split[:] = np.where(usable, np.where(tests, TEST, TRAIN), -1)
        made = replace(made, source="fold", fold=fold, folds=folds)
    elif TEST not in codes:
        rest = fractions[0] + fractions[1]
        parts = (rest, 0.0, fractions[2]) if VAL in codes else (rest * (1 - share), rest * share, fractions[2])
        images.cut(np.flatnonzero(usable & (given != VAL)), parts, split)
        made = replace(made, source="seed", fractions=parts)
    left_out = {**images.gone, **drop_copies(split, images.copies, images.names)}
    if not (split == VAL).any() and "val" not in manifest.info.broken:
        images.cut(np.flatnonzero(split == TRAIN), (1 - share, share, 0.0), split)
        made = replace(made, source="completed" if made.source == "tree" else made.source)
    return replace(made, left_out=images.named(left_out))


def _tests(
    manifest: Manifest, images: _Images, rows: NDArray[np.int64], given: int, folds: int, fold: int
) -> tuple[NDArray[np.bool_], int]:
    """Return (N,) which images a fold tests on, given ones where there are any, and how many folds there are."""
    if given and folds != given:
        raise UniEmoError(
            f"data.folds must be {given}, as the tree gives them; got {folds}: leave it out, or cut the tree anew with "
            f"uniemo data split --fresh --folds {folds}"
        )
    if not 1 <= fold <= folds:
        raise UniEmoError(f"data.fold must lie in 1 … {folds}; got {fold}")
    if given:
        return np.array([fold in tests for tests in manifest.column("folds").to_pylist()], dtype=bool), given
    return images.deal(rows, folds) == fold, folds


# Files.


def write_split(path: str | Path, manifest: Manifest, made: Assignment) -> None:
    """Write an assignment as JSON, for :func:`read_split`."""
    names = np.array(manifest.names(), dtype=object)
    content: dict[str, Any] = {
        "layout": manifest.info.layout,
        "source": made.source,
        "seed": made.seed,
        "fractions": made.fractions,
        "fold": made.fold,
        "folds": made.folds,
        "counts": made.counts(),
        "splits": {split: sorted(names[made.rows(split)]) for split in SPLITS},
        "duplicates": made.duplicates,
        "left_out": dict(made.left_out),
    }
    write_json(path, content)


def read_split(path: str | Path, manifest: Manifest, with_copies: bool = False) -> Assignment:
    """Read what :func:`write_split` wrote, or any JSON with ``{"splits": {"train": [...], "val": ..., "test": ...}}``.

    Images that the file does not list are left out.

    Args:
        path: the file.
        manifest: the tree's images.
        with_copies: take the splits as they are; else copies are kept on one side, and placeholders left out.

    Raises:
        UniEmoError: the file is missing or has another form; it lists an image that the tree lacks, or one in two
            splits.
    """
    path = Path(path).expanduser()
    try:
        content = read_json(path)
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
    wanted: dict[str, Split] = {}
    for name in SPLITS:
        for image in lists.get(name, ()):
            if wanted.setdefault(image, name) != name:
                raise UniEmoError(f"an image must be in one split; {path} has {image} in {wanted[image]} and {name}")
    images = _Images(manifest, 0)
    missing = sorted(wanted.keys() - set(images.names))
    if missing:
        raise UniEmoError(
            f"data.split_file must fit the tree; {len(missing)} of the {len(wanted)} images in {path} are not in it, "
            f"first {missing[0]}: correct --data.root, or make the file again"
        )
    split = np.array([SPLITS.index(wanted[name]) if name in wanted else -1 for name in images.names], dtype=np.int8)
    noted = content.get("left_out")
    noted = noted if isinstance(noted, dict) else {}
    left_out = {
        row: str(noted.get(images.names[row], "not in the split file")) for row in np.flatnonzero(split < 0).tolist()
    }
    if not with_copies:
        left_out |= {row: reason for row, reason in images.gone.items() if split[row] >= 0}
        split[list(images.gone)] = -1
        left_out |= drop_copies(split, images.copies, images.names)
    return Assignment(
        split=split,
        source="file",
        seed=_get(content, "seed", int, 0),
        fractions=_three(content.get("fractions")),
        fold=_get(content, "fold", int, None),
        folds=_get(content, "folds", int, None),
        duplicates=images.duplicates(),
        left_out=images.named(left_out),
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
