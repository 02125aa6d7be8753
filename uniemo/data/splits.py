"""Which image is in which split: given, cut by a seed, or read from a file; and no picture on two sides.

Everything goes by the images' names, never by the order in which a disk lists them, and an image's place in the order
comes from a hash of the seed and its name: the same tree and seed give the same split in any process, and a tree that
gains or loses an image keeps the places of nearly all others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from uniemo.data.assignment import Assignment, read_split, write_split
from uniemo.data.hashes import content_hashes
from uniemo.data.listing import SPLITS, Item, Listing, Split
from uniemo.errors import UniEmoError

__all__ = [
    "FRACTIONS",
    "Assignment",
    "assign",
    "content_hashes",
    "duplicates",
    "leaks",
    "one_side",
    "placeholders",
    "read_split",
    "settle",
    "stratified_folds",
    "stratified_split",
    "write_split",
]

FRACTIONS = (0.8, 0.05, 0.15)  # EmoSet's own, and what is used for FI
_PLACEHOLDER_COPIES = 3  # so many identical files under different emotions are no photo of anything


# Cutting.


def _place(seed: int, name: str) -> bytes:
    """Return an image's place in the order that a seed makes."""
    return hashlib.blake2b(f"{seed} {name}".encode("utf-8", errors="surrogateescape"), digest_size=16).digest()


def _units(items: Iterable[Item], seed: int, groups: Mapping[str, str] | None) -> dict[str, list[list[str]]]:
    """Return for each emotion its images in the seed's order, those of one content together."""
    together: dict[str, list[Item]] = {}
    for item in items:
        content = None if groups is None else groups.get(item.image)
        together.setdefault(item.image if content is None else f"/{content}", []).append(item)
    units: dict[str, list[list[str]]] = {}
    for unit in together.values():
        first = min(unit, key=lambda item: item.image)
        units.setdefault(first.emotion, []).append(sorted(item.image for item in unit))
    return {emotion: sorted(units[emotion], key=lambda unit: _place(seed, unit[0])) for emotion in sorted(units)}


def stratified_split(
    items: Sequence[Item],
    fractions: tuple[float, float, float] = FRACTIONS,
    seed: int = 0,
    groups: Mapping[str, str] | None = None,
) -> Assignment:
    """Cut images into training, validation and test so that each emotion has its share in each.

    An emotion with at least three images has one in each split whose fraction is not zero.

    Args:
        items: images with their emotions.
        fractions: of training, validation and test images; they sum to 1.
        seed: of the choice.
        groups: content by image; images of one content are never in two splits.

    Raises:
        UniEmoError: fractions outside [0, 1] or not summing to 1.
    """
    if len(fractions) != 3 or min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise UniEmoError(f"fractions must be three numbers in [0, 1] that sum to 1; got {list(fractions)}")
    split: dict[str, Split] = {}
    for units in _units(items, seed, groups).values():
        total = sum(map(len, units))
        wanted = {
            name: max(round(fraction * total), int(fraction > 0 and len(units) >= 3))
            for name, fraction in zip(SPLITS, fractions, strict=True)
        }
        position = 0
        for name in ("test", "val"):
            taken = 0
            while position < len(units) and taken < wanted[name]:
                split.update(dict.fromkeys(units[position], name))
                taken += len(units[position])
                position += 1
        for unit in units[position:]:
            split.update(dict.fromkeys(unit, "train" if fractions[0] > 0 else "test"))
    return Assignment(split, "seed", seed, fractions)


def stratified_folds(
    items: Sequence[Item], folds: int = 5, seed: int = 0, groups: Mapping[str, str] | None = None
) -> list[frozenset[str]]:
    """Deal images into test folds of nearly equal size, each emotion spread evenly.

    Args:
        items: images with their emotions.
        folds: how many; at least 2.
        seed: of the choice.
        groups: content by image; images of one content are in one fold.

    Raises:
        UniEmoError: fewer than 2 folds, or fewer images than folds.
    """
    if folds < 2:
        raise UniEmoError(f"data.folds must be at least 2; got {folds}")
    tests: list[set[str]] = [set() for _ in range(folds)]
    position = 0
    for units in _units(items, seed, groups).values():
        for unit in units:
            tests[position % folds].update(unit)
            position += 1
    if position < folds:
        raise UniEmoError(f"data.folds must be at most the number of different images, {position}; got {folds}")
    return [frozenset(test) for test in tests]


# Assigning.


def assign(
    listing: Listing,
    seed: int = 0,
    fractions: tuple[float, float, float] = FRACTIONS,
    val_fraction: float | None = None,
    fold: int | None = None,
    folds: int = 5,
    groups: Mapping[str, str] | None = None,
) -> Assignment:
    """Decide the split of each image of a tree.

    Given splits are taken. Validation images that the tree lacks come from the training images, never from the test
    ones; a tree without test images is cut whole. With ``fold``, its images are the test split (given folds where the
    tree has them) and validation images come from the rest.

    Pictures with the same content end on one side: where the split is made here they are kept together; where it is
    given the copy in training gives way to that in validation or test, and that in validation to that in test. The same
    picture three times or more under several emotions is what a site shows in place of a photo that is gone: left out.

    Args:
        listing: the tree's images.
        seed: of every choice.
        fractions: of training, validation and test images for a tree without splits.
        val_fraction: share of the images outside the test split that become validation images where the tree gives
            none; None takes that of ``fractions``.
        fold: which fold is the test split, from 1.
        folds: how many folds to make where the tree gives none.
        groups: content by image; None looks for no duplicates.

    Raises:
        UniEmoError: a fold that does not exist; fractions out of their range.
    """
    share = fractions[1] / (fractions[0] + fractions[1]) if val_fraction is None else val_fraction
    if not 0 < share < 1:
        raise UniEmoError(f"data.val_fraction must lie in (0, 1); got {share}")
    copies = duplicates(groups)
    gone = placeholders({item.image: item.emotion for item in listing.items}, copies)
    items = [item for item in listing.items if item.image not in gone]
    given = {item.split for item in items} - {None}
    made = Assignment({}, seed=seed, layout=listing.layout, duplicates=copies)
    if fold is not None:
        tests = listing.folds or stratified_folds(items, folds, seed, groups)
        if listing.folds and folds != len(tests):
            raise UniEmoError(f"data.folds must be {len(tests)}, as the tree gives them; got {folds}")
        if not 1 <= fold <= len(tests):
            raise UniEmoError(f"data.fold must lie in 1 … {len(tests)}; got {fold}")
        split: dict[str, Split] = {item.image: "test" if item.image in tests[fold - 1] else "train" for item in items}
        made = replace(made, source="fold", fold=fold, folds=len(tests))
    elif "test" in given:
        split = {item.image: item.split for item in items if item.split is not None}
    else:
        rest = fractions[0] + fractions[1]
        parts = (rest * (1 - share), rest * share, fractions[2])
        if "val" in given:
            parts = (rest, 0.0, fractions[2])
        cut = stratified_split([item for item in items if item.split != "val"], parts, seed, groups)
        split = {**cut.split, **{item.image: "val" for item in items if item.split == "val"}}
        made = replace(made, source="seed", fractions=parts)
    left_out = {**gone, **one_side(split, copies)}
    if "val" not in split.values():
        training = [item for item in items if split.get(item.image) == "train"]
        split.update(stratified_split(training, (1 - share, share, 0.0), seed, groups).split)
        made = replace(made, source="completed" if made.source == "tree" else made.source)
    return replace(made, split=split, left_out=tuple(sorted(left_out.items())))


def settle(made: Assignment, listing: Listing, groups: Mapping[str, str]) -> Assignment:
    """Return an assignment that was read, with every picture on one side."""
    copies = duplicates(groups)
    split = dict(made.split)
    gone = placeholders({item.image: item.emotion for item in listing.items}, copies)
    left_out = {image: reason for image, reason in gone.items() if split.pop(image, None) is not None}
    left_out |= one_side(split, copies)
    reasons = {**dict(made.left_out), **left_out}
    return replace(made, split=split, duplicates=copies, left_out=tuple(sorted(reasons.items())))


def duplicates(groups: Mapping[str, str] | None) -> tuple[tuple[str, ...], ...]:
    """Return the groups of images with the same content, sorted."""
    by_content: dict[str, list[str]] = {}
    for image, content in (groups or {}).items():
        by_content.setdefault(content, []).append(image)
    return tuple(sorted(tuple(sorted(images)) for images in by_content.values() if len(images) > 1))


def placeholders(emotion: Mapping[str, str], copies: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Return images whose picture stands three times or more under several emotions, each with the reason.

    Args:
        emotion: by image.
        copies: groups of images with the same content.
    """
    gone = {}
    for group in copies:
        emotions = sorted({emotion[image] for image in group if image in emotion})
        if len(group) >= _PLACEHOLDER_COPIES and len(emotions) > 1:
            gone.update(dict.fromkeys(group, f"the same picture as {group[0]} stands for {', '.join(emotions)}"))
    return gone


def one_side(split: dict[str, Split], copies: Iterable[tuple[str, ...]]) -> dict[str, str]:
    """Take copies of a picture out of ``split`` that lie in an earlier split than another; return each with the reason.

    Args:
        split: split by image; changed in place.
        copies: groups of images with the same content.
    """
    left_out = {}
    for group in copies:
        there = [image for image in group if image in split]
        last = max((SPLITS.index(split[image]) for image in there), default=0)
        kept = next((image for image in there if SPLITS.index(split[image]) == last), "")
        for image in there:
            if SPLITS.index(split[image]) < last:
                left_out[image] = f"the same picture as {kept} in {SPLITS[last]}"
                del split[image]
    return left_out


def leaks(split: Mapping[str, str], hashes: Mapping[str, str]) -> list[tuple[str, ...]]:
    """Return the groups of images with the same content that lie in more than one split.

    Args:
        split: split by image.
        hashes: content by image.
    """
    inside = {image: content for image, content in hashes.items() if image in split}
    return [group for group in duplicates(inside) if len({split[image] for image in group}) > 1]
