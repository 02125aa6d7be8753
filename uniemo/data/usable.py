"""Which images of a manifest can be used, and what a data module says about those that cannot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from uniemo.cache import digest, size_and_change
from uniemo.cache import get as cached
from uniemo.data.duplicates import map_files
from uniemo.data.images import verify_image
from uniemo.data.manifest import Manifest, Split
from uniemo.data.rows import plural
from uniemo.data.splits import Assignment
from uniemo.errors import UniEmoError

_CHECKS = 3  # version of what is checked
_MANY = 2000  # files from which on a pass over them takes long enough for a progress bar


def check_lists(manifest: Manifest, splits: Sequence[Split], on_error: Literal["raise", "skip"]) -> dict[str, str]:
    """Return the images that the lists of some splits name and that cannot be used, each with the reason.

    Raises:
        UniEmoError: there are such images and ``on_error`` is ``raise``, or a list cannot be read.
    """
    info = manifest.info
    for split, message in info.broken.items():
        if split in splits:
            raise UniEmoError(message)
    problems = [problem for problem in info.problems if problem.split is None or problem.split in splits]
    if problems and on_error == "raise":
        causes = Counter(problem.reason.partition(":")[0] for problem in problems)
        counts = ", ".join(f"{count:,}: {reason}" for reason, count in causes.most_common(3))
        raise UniEmoError(
            f"{info.dataset} must be whole; {plural(len(problems))} listed and cannot be used"
            f"{f' ({counts})' if len(causes) > 1 else ''}, first {manifest.root / problems[0].image} "
            f"({problems[0].reason}): mend the lists or restore the files, or leave such images out with "
            "--data.on_error skip"
        )
    return {problem.image: problem.reason for problem in problems}


def check_images(records: Manifest, split: Split, on_error: Literal["raise", "skip"]) -> dict[str, str]:
    """Return the images that cannot be opened, each with the reason.

    Raises:
        UniEmoError: there are such images and ``on_error`` is ``raise``.
    """
    bad = find_unreadable(records.root, records.names(), records.fingerprint())
    if bad and on_error == "raise":
        name, reason = next(iter(bad.items()))
        raise UniEmoError(
            f"images must be readable; {len(bad)} of {len(records)} in {split} are not, first {records.root / name} "
            f"({reason}): restore them (uniemo data check {records.root} lists all), or leave them out with "
            "--data.on_error skip"
        )
    return bad


def check_files(root: Path, names: Sequence[str], what: str) -> list[tuple[int, int]]:
    """Raise UniEmoError where images are missing or broken, before any work is done on the others; ``what`` names them.

    Returns:
        Bytes and time of change of each.
    """
    looks = [size_and_change(root / name) for name in names]
    bad = find_unreadable(root, names, digest([str(root.resolve()), list(names), looks]))
    if bad:
        name, reason = next(iter(bad.items()))
        raise UniEmoError(
            f"{what} must name images that can be read; {len(bad)} of {len(names)} cannot, first {root / name} "
            f"({reason}): make them again, or take them out"
        )
    return looks


def find_unreadable(root: Path, names: Sequence[str], fingerprint: str) -> dict[str, str]:
    """Return the images that are missing or broken, each with the reason.

    The result is kept in the cache until one of the images changes; those that could not be opened are tried again.
    """

    def verify(names: Sequence[str]) -> dict[str, str]:
        many = len(names) >= _MANY
        reasons = map_files(lambda name: verify_image(root / name), names, "checking images", many)
        return {name: reason for name, reason in zip(names, reasons, strict=True) if reason is not None}

    def write(file: Path) -> None:
        file.write_text(json.dumps(list(verify(names))), encoding="utf-8")

    file = cached("unreadable", f"{digest(fingerprint, _CHECKS)}.json", write)
    bad = json.loads(file.read_text(encoding="utf-8"))
    return verify(bad) if bad else {}


def remarks(manifest: Manifest, made: Assignment, skipped: Mapping[str, str]) -> list[str]:
    """Return what was left out or changed, a line for each, for warnings."""
    dataset = manifest.info.dataset
    found = list(manifest.info.warnings)
    if made.duplicates:
        first, second = made.duplicates[0][:2]
        found.append(
            f"{dataset}: {sum(map(len, made.duplicates))} images are copies of one another ({len(made.duplicates)} "
            f"different), first {first} = {second}; copies stay in one split"
        )
    for images, verb in ((made.left_out, "left out"), (tuple(skipped.items()), "skipped")):
        if images:
            found.append(f"{dataset}: {plural(len(images))} {verb}, first {images[0][0]} ({images[0][1]})")
    return found


def describe(manifest: Manifest, made: Assignment, split_file: str | None = None) -> str:
    """Return the tree in one line: layout, images of each split, where the splits come from."""
    info = manifest.info
    folds = "given by the tree" if info.folds else f"stratified, seed {made.seed}"
    source = {
        "tree": "splits of the tree",
        "completed": f"validation from the training images, seed {made.seed}",
        "seed": f"stratified split, seed {made.seed}",
        "fold": f"fold {made.fold} of {made.folds}, {folds}",
        "file": f"splits of {split_file}{f', fold {made.fold} of {made.folds}' if made.fold is not None else ''}",
    }[made.source]
    counts = ", ".join(f"{count:,} {split}" for split, count in made.counts().items())
    return "; ".join([f"{info.dataset} ({info.layout}): {counts} images", source, *info.notes])
