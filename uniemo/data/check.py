"""Everything that can be wrong with a dataset on disk, found in one pass over its files.

The lists are read as training reads them; then every image is read once, by all cores: hashed and decoded to the last
pixel. What is kept of an image is a few hundred bytes, never its pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

import uniemo.data
from uniemo.data.check_images import Facts, Task, look_at_all
from uniemo.data.check_lists import (
    Item,
    attribute_names,
    items_of,
    list_findings,
    odd_names_only,
    unknown_attributes,
)
from uniemo.data.check_report import ALL, Finding, Report, count_by, number_of, sort_findings
from uniemo.data.layout import find_layout, layouts_of, read_manifest
from uniemo.data.manifest import SPLITS, Layout, Manifest
from uniemo.data.splits import read_split
from uniemo.errors import UniEmoError
from uniemo.miniature.paths import resolve

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
    progress: bool = True,
) -> Report:
    """Look at every file of a dataset.

    Args:
        root: its folder.
        layout: name of the layout; None recognises it.
        dataset: name of the dataset, to recognise among its layouts only.
        agreement: Twitter I: look at this list only; None looks at all of them, or at that of a split file.
        split_file: JSON file of ``uniemo data split`` or of a run, whose splits are looked at instead of the tree's.
        workers: processes; None takes one for each core. The report does not depend on it.
        progress: show a bar.

    Raises:
        UniEmoError: no folder, no known layout, lists that cannot be read, a split file that does not fit.
    """
    folder = resolve(str(root))
    if not folder.is_dir():
        raise UniEmoError(f"ROOT must be an existing folder; got {root}: correct the path")
    found, place = find_layout(folder, layouts_of(dataset), layout)
    listings = _read(found, place, agreement, split_file is not None)
    first = next(iter(listings.values()))
    base = first.root  # of an export the folder that it was unpacked to
    split_of: dict[str, str] = {item.image: item.split for item in items_of(first) if item.split is not None}
    source = "tree" if split_of else "folds" if first.info.folds else "none"
    if split_file is not None:
        codes = read_split(split_file, first, with_copies=True).split.tolist()
        split_of = {name: SPLITS[code] for name, code in zip(first.names(), codes, strict=True) if code >= 0}
        source = "split file"
    items = sorted({item.image: item for part in listings.values() for item in items_of(part)}.values(), key=_by_image)
    if not items and not any(part.info.problems for part in listings.values()):
        raise UniEmoError(f"ROOT must hold images; the lists in {base} name none: correct the path")
    tasks = [Task(item.image, item.mask, item.annotation) for item in items]
    bar = tqdm(look_at_all(base, tasks, workers), total=len(tasks), desc="checking", unit="image", disable=not progress)
    known = attribute_names(base / "info.json")
    facts = [odd_names_only(each, item, known) for item, each in zip(items, bar, strict=True)]

    counts, published = _counts(found.dataset, listings, split_of)
    findings = [
        *list_findings(tuple(listings.values())),
        *_file_findings(items, facts),
        *unknown_attributes(items, facts),
        *_same_pictures(listings, items, facts, split_of),
        *_count_findings(counts, published),
    ]
    return Report(
        root=base,
        dataset=found.dataset,
        layout=found.name,
        emotions=first.vocabulary.emotions,
        splits=source,
        counts=counts,
        folds={name: tuple(map(len, _folds(part))) for name, part in listings.items() if part.info.folds},
        published=published,
        images=len(items),
        bytes=sum(each.bytes for each in facts),
        formats=count_by([each.format for each in facts if each.pixels]),
        sizes=_extremes([each.size for each in facts if each.pixels]),
        findings=sort_findings(findings),
    )


def _by_image(item: Item) -> str:
    return item.image


def _folds(manifest: Manifest) -> list[set[str]]:
    """Return the images that each given fold tests on."""
    tests: list[set[str]] = [set() for _ in range(manifest.info.folds)]
    for name, folds in zip(manifest.names(), manifest.column("folds").to_pylist(), strict=True):
        for fold in folds:
            tests[fold - 1].add(name)
    return tests


def _read(layout: Layout, root: Path, agreement: str | None, single: bool) -> dict[str, Manifest]:
    """Return the manifests of a tree by name: "" for the only one, else the agreements of Twitter I, widest first."""

    def read(**options: str) -> Manifest:
        manifest = read_manifest(root, [layout], layout.name, **options)
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
    listings, errors = {}, []
    for name in uniemo.data.TwitterI.published:
        try:
            listings[name] = read(agreement=name)
        except UniEmoError as error:  # a tree may have some of the lists only
            errors.append(error)
    if not listings:
        raise errors[-1]
    return listings


def _extremes(sizes: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Return smallest and largest width and height."""
    if not sizes:
        return {}
    widths, heights = zip(*sizes, strict=True)
    return {
        "min_width": min(widths),
        "max_width": max(widths),
        "min_height": min(heights),
        "max_height": max(heights),
    }


def _counts(
    dataset: str, listings: Mapping[str, Manifest], split_of: Mapping[str, str]
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """Return images by split, or agreement, and emotion; and the published ones likewise."""
    published = {split: dict(numbers) for split, numbers in getattr(uniemo.data, dataset).published.items()}
    if "" not in listings:
        counts = {name: _by_emotion(listing, items_of(listing)) for name, listing in listings.items()}
        return counts, {name: published[name] for name in listings}
    listing = listings[""]
    items = items_of(listing)
    parts = {split: [item for item in items if split_of.get(item.image, ALL) == split] for split in (*SPLITS, ALL)}
    return {split: _by_emotion(listing, part) for split, part in parts.items() if part}, published


def _by_emotion(listing: Manifest, items: Sequence[Item]) -> dict[str, int]:
    """Return the number of images of each emotion."""
    number = Counter(item.emotion for item in items)
    return {emotion: number[emotion] for emotion in listing.vocabulary.emotions}


def _file_findings(items: Sequence[Item], facts: Sequence[Facts]) -> Iterator[Finding]:
    """Yield what single files have."""
    with_masks = any(item.mask is not None for item in items)
    for item, found in zip(items, facts, strict=True):
        for kind, detail in found.faults:
            yield Finding(kind, (item.image,), detail)
        for kind in found.traits:
            yield Finding(kind, (item.image,))
        if with_masks and item.mask is None:
            yield Finding("missing_mask", (item.image,))
        for kind, name in found.attributes:
            if kind != "emotion":
                continue
            same = name.strip().lower() == item.emotion
            detail = f"{item.annotation}: {name!r}" + ("" if same else f", the list says {item.emotion!r}")
            yield Finding("label_case" if same else "other_label", (item.image,), detail)


def _same_pictures(
    listings: Mapping[str, Manifest], items: Sequence[Item], facts: Sequence[Facts], split_of: Mapping[str, str]
) -> Iterator[Finding]:
    """Yield groups of images with the same pixels, by what that does."""
    groups: dict[str, list[int]] = {}
    for position, found in enumerate(facts):
        if found.pixels:
            groups.setdefault(found.pixels, []).append(position)
    for positions in groups.values():
        if len(positions) == 1:
            continue
        files = tuple(items[position].image for position in positions)
        emotions = sorted({items[position].emotion for position in positions})
        splits = sorted({split_of[file] for file in files if file in split_of}, key=SPLITS.index)
        folds = _crossed_folds(listings, files)
        identical = len({facts[position].content for position in positions}) == 1
        same = "identical files" if identical else "same pixels, other bytes"
        about = {"identical": identical, "emotions": emotions, "splits": splits, "folds": folds}
        kinds = []
        if len(splits) > 1:
            kinds.append(("leak", f"{same} in {', '.join(splits)}"))
        elif folds:
            kinds.append(("leak", f"{same} in test and train of fold {', '.join(folds)}"))
        if len(files) >= _PLACEHOLDER_COPIES:
            kinds.append(("placeholder", f"{len(files)} {same} in {', '.join(emotions)}"))
        elif len(emotions) > 1:
            kinds.append(("contradiction", f"{same} in {', '.join(emotions)}"))
        for kind, detail in kinds or [("duplicate", same)]:
            yield Finding(kind, files, detail, about)


def _crossed_folds(listings: Mapping[str, Manifest], files: Sequence[str]) -> list[str]:
    """Return the given folds that test on some of the files and train on others."""
    crossed = []
    for name, listing in listings.items():
        if listing.info.folds:
            used = set(listing.names()).intersection(files)
            for number, fold in enumerate(_folds(listing), 1):
                if 0 < len(fold & used) < len(used):
                    crossed.append(f"{number} ({name} agree)" if name else str(number))
    return crossed


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
