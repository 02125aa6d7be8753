"""Paint a tree in a named layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from uniemo.cache import atomic_write
from uniemo.data.emotions import EIGHT_TO_SIX, EIGHT_TO_TWO, EMOTION_ROI_6, MIKELS_8
from uniemo.errors import UniEmoError

from . import emoset, emoset_export, emotionroi, fi, twitter
from .faults import FAULTS, assign
from .shots import Shot, Studio, plan

MIN_IMAGES = 24  # three of each of eight emotions, so that no class lacks in a split


@dataclass(frozen=True)
class _Form:
    """How a layout is painted.

    Attributes:
        classes: class of each of ``n`` images.
        mapping: from the table's emotions to the classes.
        fractions: of validation and test images.
        write: writes the tree.
        stem: file name of the k-th image of a class.
        splits: whether the tree itself says train and test.
        without: faults that this layout cannot have.
    """

    classes: Callable[[int], list[str]]
    mapping: Mapping[str, str]
    fractions: tuple[float, float]
    write: Callable[[Studio, Sequence[Shot]], None]
    stem: Callable[[str, int, np.random.Generator], str]
    splits: bool = True
    without: tuple[str, ...] = ()


def _in_turn(names: Sequence[str]) -> Callable[[int], list[str]]:
    return lambda n: [names[i % len(names)] for i in range(n)]


def _polar(share: float) -> Callable[[int], list[str]]:
    """Classes of a dataset of which ``share`` is positive, spread evenly."""
    return lambda n: ["positive" if int((i + 1) * share) > int(i * share) else "negative" for i in range(n)]


def _random_name(_: str, __: int, rng: np.random.Generator) -> str:
    return rng.bytes(6).hex()


_EIGHT = {name: name for name in MIKELS_8}
_NO_LIST = ("missing_annotation", "missing_image")


def _emoset(write: Callable[[Studio, Sequence[Shot]], None], without: tuple[str, ...] = ()) -> _Form:
    return _Form(_in_turn(MIKELS_8), _EIGHT, (0.05, 0.15), write, lambda name, k, _: f"{name}_{k:05d}", True, without)


def _fi(
    write: Callable[[Studio, Sequence[Shot]], None], splits: bool, without: tuple[str, ...] = ("missing_annotation",)
) -> _Form:
    names = sorted(MIKELS_8)
    return _Form(_in_turn(names), _EIGHT, (0.05, 0.15), write, lambda name, k, _: f"{name}_{k:04d}", splits, without)


def _roi(write: Callable[[Studio, Sequence[Shot]], None]) -> _Form:
    return _Form(_in_turn(EMOTION_ROI_6), EIGHT_TO_SIX, (0.0, 0.3), write, lambda _, k, __: str(k + 1))


def _twitter(
    write: Callable[[Studio, Sequence[Shot]], None],
    share: float,
    without: tuple[str, ...] = ("missing_annotation", "label_case"),
) -> _Form:
    return _Form(_polar(share), EIGHT_TO_TWO, (0.0, 0.0), write, _random_name, False, without)


_FIRST, _SECOND = 769 / 1269, 470 / 603  # share of positive images in Twitter I and II

_FORMS: dict[str, _Form] = {
    "emoset": _emoset(emoset.write_emoset),
    "emoset-4tuple": _emoset(emoset.write_tuples_of_four),
    "emoset-old-info": _emoset(emoset.write_old_info),
    "fi-zip": _fi(fi.write_zip, False, _NO_LIST),
    "fi-splits": _fi(fi.write_splits, True, _NO_LIST),
    "fi-splits-noval": _fi(fi.write_splits_without_val, True, _NO_LIST),
    "fi-json": _fi(fi.write_json, True),
    "fi-csv": _fi(fi.write_csv, False),
    "emotionroi": _roi(emotionroi.write_lists),
    "emotionroi-root-lists": _roi(emotionroi.write_root_lists),
    "emotionroi-csv": _roi(emotionroi.write_csv),
    "twitter1-amt": _twitter(twitter.write_amt, _FIRST, ("missing_annotation", "label_case", "unknown_label")),
    "twitter1-agrees": _twitter(twitter.write_agrees, _FIRST),
    "twitter1-folds": _twitter(twitter.write_folds, _FIRST),
    "twitter1-csv": _twitter(twitter.write_csv, _FIRST),
    "twitter2-topics": _twitter(twitter.write_topics, _SECOND, ("missing_annotation",)),
    "twitter2-csv": _twitter(twitter.write_second_csv, _SECOND),
    "emoset-parquet": _emoset(emoset_export.write_parquet, _NO_LIST),
    "emoset-hf": _emoset(emoset_export.write_saved, _NO_LIST),
}
LAYOUT_NAMES: tuple[str, ...] = tuple(_FORMS)


def possible_faults(layout: str) -> tuple[str, ...]:
    """Return the faults that a layout can have; a folder without lists, for one, cannot lack a listed image."""
    return tuple(fault for fault in FAULTS if fault not in _form(layout).without)


def synthesize(
    layout: str,
    root: Path | str,
    images: int = 200,
    seed: int = 0,
    size: int = 64,
    faults: Sequence[str] = (),
    progress: bool = True,
) -> Path:
    """Paint a dataset in a layout that people have on disk.

    The tree is complete or absent: it is painted in a temporary folder beside ``root`` and renamed. The same arguments
    give the same bytes. CSV files of trees with an odd seed have no header line.

    Args:
        layout: one of ``LAYOUT_NAMES``.
        root: folder to create; it may exist if it is empty.
        images: how many, at least 24.
        seed: at least 0.
        size: side of the images in pixels, at least 16.
        faults: of ``possible_faults(layout)``; each strikes one image (two for a duplicate, three for a placeholder).
        progress: show a progress bar.

    Returns:
        The absolute path of ``root``.

    Raises:
        UniEmoError: an argument is outside its range, or ``root`` is a file or a folder with anything in it.
    """
    root = Path(root).expanduser().resolve()
    synthesize_with_faults(layout, root, images, seed, size, faults, progress)
    return root


def synthesize_with_faults(
    layout: str,
    root: Path | str,
    images: int = 200,
    seed: int = 0,
    size: int = 64,
    faults: Sequence[str] = (),
    progress: bool = True,
) -> dict[str, list[str]]:
    """Paint as :func:`synthesize` does and tell which images got which fault.

    Returns:
        For each fault its image files, relative to ``root``, ``/`` between folders; for a duplicate first the one in
        train, then the one in test.
    """
    form = _form(layout)
    if layout in ("emoset-parquet", "emoset-hf"):
        emoset_export.require_pyarrow()
    root = Path(root).expanduser().resolve()
    _check(layout, root, images, seed, size, faults)
    rng = np.random.default_rng([seed, 2])
    shots = plan(form.classes(images), form.mapping, form.fractions, rng)
    counts: dict[str, int] = {}
    for shot in shots:
        shot.stem = form.stem(shot.name, counts.get(shot.name, 0), rng)
        counts[shot.name] = counts.get(shot.name, 0) + 1
    struck = assign(shots, faults, rng, form.splits)
    with (
        atomic_write(root) as partial,
        tqdm(total=images, desc="painting", unit="image", disable=not progress) as bar,
    ):
        partial.mkdir()
        form.write(Studio(partial, seed, size, bar), shots)
    return {fault: [shot.file for shot in struck[fault]] for fault in FAULTS if fault in struck}


def _form(layout: str) -> _Form:
    if layout not in _FORMS:
        raise UniEmoError(f"layout must be one of {', '.join(_FORMS)}; got {layout!r}")
    return _FORMS[layout]


def _check(layout: str, root: Path, images: int, seed: int, size: int, faults: Sequence[str]) -> None:
    """Raise UniEmoError for an argument outside its range."""
    for name, value, least in (("images", images, MIN_IMAGES), ("seed", seed, 0), ("size", size, 16)):
        if value < least:
            raise UniEmoError(f"{name} must be at least {least}; got {value}")
    if root.exists() and not (root.is_dir() and not any(root.iterdir())):
        raise UniEmoError(f"root must be a new or an empty folder; {root} is not: choose another or remove it")
    known = possible_faults(layout)
    for fault in faults:
        if fault not in FAULTS:
            raise UniEmoError(f"faults must be of {', '.join(FAULTS)}; got {fault!r}")
        if fault not in known:
            raise UniEmoError(f"faults of layout {layout} must be of {', '.join(known)}; got {fault!r}: leave it out")
