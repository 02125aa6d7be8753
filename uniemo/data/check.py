"""Everything that can be wrong with a dataset on disk, found in one pass over its files (``uniemo data check``).

The lists are read as training reads them; then every image is read once, by all cores: hashed and decoded to the last
pixel. A few hundred bytes are kept for each image, never its pixels.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import uniemo.data
from uniemo.data.check_files import Facts, Item, attribute_names, inspect_all
from uniemo.data.check_lists import list_findings
from uniemo.data.check_report import ALL, Finding, Report, number_of, sort_findings
from uniemo.data.emoset import find_mask
from uniemo.data.layout import find_layout, layouts_of, read_manifest
from uniemo.data.manifest import SPLITS, Layout, Manifest
from uniemo.data.splits import read_split
from uniemo.errors import UniEmoError
from uniemo.miniature.paths import existing_folder
from uniemo.progress_bars import progress_bar

# Two files of one picture are an accident; more are what a host answers in the place of pictures that are gone.
_PLACEHOLDER_COPIES = 3


def check_tree(
    root: str | Path,
    *,
    layout: str | None = None,
    dataset: str | None = None,
    agreement: str | None = None,
    split_file: str | Path | None = None,
    workers: int | None = None,
    follow_links: bool = False,
) -> Report:
    """Read every file of a dataset and report what is wrong.

    Args:
        root: its folder.
        layout: name of the layout; None recognises it.
        dataset: name of the dataset, to recognise among its layouts only.
        agreement: Twitter I: check this list only; None checks all of them, or that of a split file.
        split_file: JSON file of ``uniemo data split`` or of a run, whose splits are checked instead of the tree's.
        workers: processes; None takes one for each core. The report does not depend on it.
        follow_links: allow lists and links that lead out of the folder.

    Raises:
        UniEmoError: no folder, no known layout, lists that cannot be read, a split file that does not fit.
    """
    found, place = find_layout(existing_folder(str(root), "ROOT"), layouts_of(dataset), layout)
    manifests = _read(found, place, agreement, split_file is not None, follow_links)
    first = next(iter(manifests.values()))
    base = first.root  # of an export the folder that it was unpacked to
    by_list = {name: _items(manifest) for name, manifest in manifests.items()}
    items = sorted({item.image: item for part in by_list.values() for item in part}.values(), key=lambda i: i.image)
    if not items and not any(manifest.info.problems for manifest in manifests.values()):
        raise UniEmoError(f"ROOT must hold images; the lists in {base} name none: correct the path")
    split_of = {item.image: item.split for item in next(iter(by_list.values())) if item.split is not None}
    source = "tree" if split_of else "folds" if first.info.folds else "none"
    if split_file is not None:
        codes = read_split(split_file, first, with_copies=True).split.tolist()
        split_of = {name: SPLITS[code] for name, code in zip(first.names(), codes, strict=True) if code >= 0}
        source = "split file"

    passes = inspect_all(base, items, attribute_names(base / "info.json"), workers)
    facts = list(progress_bar(passes, desc="checking", unit="image", total=len(items)))
    decoded = [each for each in facts if each.pixels]
    folds = {name: _folds(manifest) for name, manifest in manifests.items() if manifest.info.folds}
    counts, published = _counts(found.dataset, first.vocabulary.emotions, by_list, split_of)
    findings = [
        *list_findings(list(manifests.values()), items),
        *_file_findings(items, facts),
        *_same_pictures(items, facts, split_of, {name: (fold, by_list[name]) for name, fold in folds.items()}),
        *_count_findings(counts, published),
    ]
    return Report(
        root=base,
        dataset=found.dataset,
        layout=found.name,
        emotions=first.vocabulary.emotions,
        splits=source,
        counts=counts,
        folds={name: tuple(map(len, tests)) for name, tests in folds.items()},
        published=published,
        images=len(items),
        bytes=sum(each.bytes for each in facts),
        formats=dict(sorted(Counter(each.format for each in decoded).items())),
        sizes={
            f"{word}_{side}": extreme(each.size[axis] for each in decoded)
            for axis, side in enumerate(("width", "height"))
            for word, extreme in (("min", min), ("max", max))
            if decoded
        },
        findings=sort_findings(findings),
    )


# Lists.


def _read(layout: Layout, root: Path, agreement: str | None, single: bool, follow_links: bool) -> dict[str, Manifest]:
    """Return the manifests of a tree by name: "" for the only one, else the agreements of Twitter I, widest first."""

    def read(**options: str) -> Manifest:
        manifest = read_manifest(root, [layout], layout.name, follow_links, **options)
        for split, message in manifest.info.broken.items():
            if (manifest.root / f"{split}.json").is_file():
                raise UniEmoError(message)
        return manifest

    if "agreement" not in layout.options:
        if agreement is not None:
            raise UniEmoError(f"--agreement is of Twitter I; {root} holds {layout.dataset}: leave it out")
        return {"": read()}
    if agreement is not None or single:
        return {agreement or "five": read(agreement=agreement or "five")}
    manifests, errors = {}, []
    for name in uniemo.data.TwitterI.published:
        try:
            manifests[name] = read(agreement=name)
        except UniEmoError as error:  # a tree may have some of the lists only
            errors.append(error)
    if not manifests:
        raise errors[-1]
    return manifests


def _items(manifest: Manifest) -> list[Item]:
    """Return the images of a manifest, and those whose annotation alone is at fault."""
    annotations, masks = (
        [None if path is None else os.fsdecode(path) for path in manifest.column(name).to_pylist()]
        for name in ("annotation", "mask")
    )
    splits = [None if code < 0 else SPLITS[code] for code in manifest.split.tolist()]
    items = list(map(Item, manifest.names(), manifest.emotions(), splits, annotations, masks))
    for problem in manifest.info.problems:
        if problem.emotion is not None:
            mask = find_mask(manifest.root, problem.image) if manifest.has_masks() else None
            items.append(Item(problem.image, problem.emotion, problem.split, problem.annotation, mask))
    return items


def _folds(manifest: Manifest) -> list[set[str]]:
    """Return the images that each given fold tests on."""
    tests: list[set[str]] = [set() for _ in range(manifest.info.folds)]
    for name, folds in zip(manifest.names(), manifest.column("folds").to_pylist(), strict=True):
        for fold in folds:
            tests[fold - 1].add(name)
    return tests


# Counts.


def _counts(
    dataset: str, emotions: Sequence[str], by_list: Mapping[str, Sequence[Item]], split_of: Mapping[str, str]
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """Return images by split, or agreement, and emotion; and the published ones likewise."""
    published = {split: dict(numbers) for split, numbers in getattr(uniemo.data, dataset).published.items()}
    parts: dict[str, list[Item]] = {}
    if "" in by_list:
        for item in by_list[""]:
            parts.setdefault(split_of.get(item.image, ALL), []).append(item)
        parts = {split: parts[split] for split in (*SPLITS, ALL) if split in parts}
    else:
        parts = {name: list(items) for name, items in by_list.items()}
        published = {name: published[name] for name in by_list}
    numbers = {name: Counter(item.emotion for item in items) for name, items in parts.items()}
    return {name: {emotion: number[emotion] for emotion in emotions} for name, number in numbers.items()}, published


def _count_findings(
    counts: Mapping[str, Mapping[str, int]], published: Mapping[str, Mapping[str, int]]
) -> Iterator[Finding]:
    """Yield emotions without images, and how the numbers differ from the published ones."""
    for split, by_emotion in counts.items():
        for emotion, number in by_emotion.items():
            if number == 0:
                yield Finding("empty_class", (), f"no {emotion} in {split}")
    for split, known in published.items():
        for emotion, wanted in known.items():
            there = number_of(counts, split, emotion)
            if there is None and set(counts) != {ALL}:
                there = 0  # a split is missing as a whole
            if there is not None and there != wanted:
                facts = {"split": split, "emotion": emotion, "images": there, "published": wanted}
                yield Finding("counts", (), f"{split}, {emotion}: {there:,} images, published {wanted:,}", facts)


# Images.


def _file_findings(items: Sequence[Item], facts: Sequence[Facts]) -> Iterator[Finding]:
    """Yield the faults of single files, and the attribute names that ``info.json`` lacks, each with its images."""
    with_masks = any(item.mask is not None for item in items)
    unknown: dict[tuple[str, str], list[str]] = {}
    for item, found in zip(items, facts, strict=True):
        for kind, detail in found.faults:
            yield Finding(kind, (item.image,), detail)
        if with_masks and item.mask is None:
            yield Finding("missing_mask", (item.image,))
        for pair in found.unknown:
            unknown.setdefault(pair, []).append(item.image)
    for (kind, name), files in unknown.items():
        yield Finding("unknown_attribute", tuple(files), f"{kind} {name!r}", {"attribute": kind, "name": name})


def _same_pictures(
    items: Sequence[Item],
    facts: Sequence[Facts],
    split_of: Mapping[str, str],
    folds: Mapping[str, tuple[list[set[str]], Sequence[Item]]],
) -> Iterator[Finding]:
    """Yield groups of images with the same pixels, by what that does to training.

    Args:
        items: all images.
        facts: of each.
        split_of: their splits.
        folds: by list, the images that each given fold tests on, and all that the list names.
    """
    groups: dict[str, list[int]] = {}
    for position, found in enumerate(facts):
        if found.pixels:
            groups.setdefault(found.pixels, []).append(position)
    for positions in (group for group in groups.values() if len(group) > 1):
        files = tuple(items[position].image for position in positions)
        emotions = sorted({items[position].emotion for position in positions})
        splits = sorted({split_of[file] for file in files if file in split_of}, key=SPLITS.index)
        crossed = _crossed_folds(folds, set(files))
        identical = len({facts[position].content for position in positions}) == 1
        same = "identical files" if identical else "same pixels, other bytes"
        about = {"identical": identical, "emotions": emotions, "splits": splits, "folds": crossed}
        kinds = []
        if len(splits) > 1:
            kinds.append(("leak", f"{same} in {', '.join(splits)}"))
        elif crossed:
            kinds.append(("leak", f"{same} in test and train of fold {', '.join(crossed)}"))
        if len(files) >= _PLACEHOLDER_COPIES:
            kinds.append(("placeholder", f"{len(files)} {same} in {', '.join(emotions)}"))
        elif len(emotions) > 1:
            kinds.append(("contradiction", f"{same} in {', '.join(emotions)}"))
        for kind, detail in kinds or [("duplicate", same)]:
            yield Finding(kind, files, detail, about)


def _crossed_folds(folds: Mapping[str, tuple[list[set[str]], Sequence[Item]]], files: set[str]) -> list[str]:
    """Return the given folds that test on some of the files and train on others."""
    crossed = []
    for name, (tests, listed) in folds.items():
        used = {item.image for item in listed} & files
        for number, fold in enumerate(tests, 1):
            if 0 < len(fold & used) < len(used):
                crossed.append(f"{number} ({name} agree)" if name else str(number))
    return crossed
