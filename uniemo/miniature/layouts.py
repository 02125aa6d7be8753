"""Painted trees in every layout that people have of the five datasets, with the faults of real disks on request."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from uniemo.cache import atomic_write, check_new_folder
from uniemo.errors import Range, Seed, Share, UniEmoError, check_ranges
from uniemo.miniature import painted_emoset, painted_emotionroi, painted_fi, painted_twitter
from uniemo.miniature.faults import FAULTS
from uniemo.miniature.painter import DIFFICULTY, Side
from uniemo.miniature.samples import Sample, Tree, assign_faults, plan
from uniemo.miniature.styles import DATASET_STYLES
from uniemo.progress_bars import progress_bar
from uniemo.taxonomy import EIGHT_TO_SIX, EIGHT_TO_TWO, EMOTION_ROI_6, MIKELS_8

Write = Callable[[Tree, Sequence[Sample]], None]


@dataclass(frozen=True)
class _Dataset:
    """What the layouts of one dataset share.

    Attributes:
        mapping: from the table's emotions to the classes.
        fractions: of validation and test images.
        stem: file name of the k-th image of a class.
        styles: its entry in ``DATASET_STYLES``.
        classes: that take turns; empty for positive and negative.
        positive: share of positive images.
    """

    mapping: Mapping[str, str]
    fractions: tuple[float, float]
    stem: Callable[[str, int, np.random.Generator], str]
    styles: str
    classes: Sequence[str] = ()
    positive: float = 0.0

    def names(self, count: int) -> list[str]:
        """Return the class of each of ``count`` images."""
        if self.classes:
            return [self.classes[i % len(self.classes)] for i in range(count)]
        shares = [int((i + 1) * self.positive) > int(i * self.positive) for i in range(count)]
        return ["positive" if is_positive else "negative" for is_positive in shares]


_EIGHT = {name: name for name in MIKELS_8}
_EMOSET = _Dataset(_EIGHT, (0.05, 0.15), lambda name, k, _: f"{name}_{k:05d}", "emoset", MIKELS_8)
_FI = _Dataset(_EIGHT, (0.05, 0.15), lambda name, k, _: f"{name}_{k:04d}", "fi", sorted(MIKELS_8))
_ROI = _Dataset(EIGHT_TO_SIX, (0.0, 0.3), lambda _, k, __: str(k + 1), "emotionroi", EMOTION_ROI_6)
_TWITTER1 = _Dataset(EIGHT_TO_TWO, (0.0, 0.0), lambda _, __, rng: rng.bytes(6).hex(), "twitter", positive=769 / 1269)
_TWITTER2 = _Dataset(EIGHT_TO_TWO, (0.0, 0.0), lambda _, __, rng: rng.bytes(6).hex(), "twitter", positive=470 / 603)
_WITHOUT_SPLITS = ("fi-zip", "fi-csv", *(f"twitter1-{form}" for form in ("amt", "agrees", "folds", "csv")))
_WITHOUT_SPLITS += ("twitter2-topics", "twitter2-csv")
_NO_LIST = ("missing_annotation", "missing_image")
_NUMBERS = ("missing_annotation", "label_case")  # labels are numbers

_LAYOUTS: dict[str, tuple[_Dataset, Write, tuple[str, ...]]] = {  # dataset, writer, faults that it cannot have
    "emoset": (_EMOSET, painted_emoset.write_emoset, ()),
    "emoset-4tuple": (_EMOSET, painted_emoset.write_tuples_of_four, ()),
    "emoset-old-info": (_EMOSET, painted_emoset.write_old_info, ()),
    "fi-zip": (_FI, painted_fi.write_zip, _NO_LIST),
    "fi-splits": (_FI, painted_fi.write_splits, _NO_LIST),
    "fi-splits-noval": (_FI, painted_fi.write_splits_without_val, _NO_LIST),
    "fi-json": (_FI, painted_fi.write_json, ("missing_annotation",)),
    "fi-csv": (_FI, painted_fi.write_csv, ("missing_annotation",)),
    "emotionroi": (_ROI, painted_emotionroi.write_lists, ()),
    "emotionroi-root-lists": (_ROI, painted_emotionroi.write_root_lists, ()),
    "emotionroi-csv": (_ROI, painted_emotionroi.write_csv, ()),
    "twitter1-amt": (_TWITTER1, painted_twitter.write_amt, (*_NUMBERS, "unknown_label")),
    "twitter1-agrees": (_TWITTER1, painted_twitter.write_agrees, _NUMBERS),
    "twitter1-folds": (_TWITTER1, painted_twitter.write_folds, _NUMBERS),
    "twitter1-csv": (_TWITTER1, painted_twitter.write_csv, _NUMBERS),
    "twitter2-topics": (_TWITTER2, painted_twitter.write_topics, _NO_LIST),  # rows without an image are no fault
    "twitter2-csv": (_TWITTER2, painted_twitter.write_second_csv, _NUMBERS),
    "emoset-parquet": (_EMOSET, painted_emoset.write_parquet, _NO_LIST),
    "emoset-hf": (_EMOSET, painted_emoset.write_saved, _NO_LIST),
    "emoset-webdataset": (_EMOSET, painted_emoset.write_webdataset, _NO_LIST),
}
LAYOUT_NAMES: tuple[str, ...] = tuple(_LAYOUTS)


def possible_faults(layout: str) -> tuple[str, ...]:
    """Return the faults that a layout can have; a folder without lists, for one, cannot lack a listed image."""
    if layout not in _LAYOUTS:
        raise UniEmoError(f"layout must be one of {', '.join(_LAYOUTS)}; got {layout!r}")
    _, _, without = _LAYOUTS[layout]
    return tuple(fault for fault in FAULTS if fault not in without)


def synthesize(
    layout: str,
    root: Path | str,
    images: Annotated[int, Range(24, 2**31 - 1)] = 200,  # three of each of eight emotions, for no split to lack a class
    seed: Seed = 0,
    size: Side = 64,
    faults: Sequence[str] = (),
    difficulty: Share = DIFFICULTY,
) -> dict[str, list[str]]:
    """Paint a dataset in a layout that people have on disk.

    The tree is complete or absent: it is painted in a temporary folder beside ``root`` and renamed. The same arguments
    give the same bytes. CSV files of trees with an odd seed have no header line.

    Args:
        layout: one of ``LAYOUT_NAMES``.
        root: folder to create; it may exist if it is empty.
        images: how many.
        seed: another one, other paintings.
        size: side of the images in pixels.
        faults: of ``possible_faults(layout)``; each has one image (two for a duplicate, three for a placeholder).
        difficulty: of :func:`~uniemo.miniature.painter.paint`.

    Returns:
        For each fault its image files, relative to ``root``, ``/`` between folders; for a duplicate first the one in
        train, then the one in test.

    Raises:
        UniEmoError: an argument is outside its range, or ``root`` is a file or a folder with anything in it.
    """
    root = Path(root).expanduser().resolve()
    known = possible_faults(layout)
    check_ranges(synthesize, locals())
    check_new_folder(root, "root")
    for fault in faults:
        if fault not in FAULTS:
            raise UniEmoError(f"faults must be of {', '.join(FAULTS)}; got {fault!r}")
        if fault not in known:
            raise UniEmoError(f"faults of layout {layout} must be of {', '.join(known)}; got {fault!r}: leave it out")
    dataset, write, _ = _LAYOUTS[layout]
    rng = np.random.default_rng([seed, 2])
    samples = plan(dataset.names(images), dataset.mapping, dataset.fractions, rng)
    counts: dict[str, int] = {}
    for sample in samples:
        sample.stem = dataset.stem(sample.name, counts.get(sample.name, 0), rng)
        counts[sample.name] = counts.get(sample.name, 0) + 1
    faulty = assign_faults(samples, faults, rng, by_split=layout not in _WITHOUT_SPLITS)
    bar = progress_bar(desc="painting", unit="image", total=images)
    with bar, atomic_write(root) as partial:
        partial.mkdir()
        write(Tree(partial, seed, size, difficulty, DATASET_STYLES[dataset.styles], bar), samples)
    return {fault: [sample.file for sample in faulty[fault]] for fault in FAULTS if fault in faulty}
