"""What is compared with what: files that can be read, emotions on both sides, and what a reader should know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uniemo.errors import UniEmoError
from uniemo.metrics.file_contents import Contents, inspect_files
from uniemo.metrics.image_sets import ImageSet
from uniemo.metrics.pairs import EvaluationPlan, plan_evaluation
from uniemo.metrics.protocols import EMOGEN, STRICT, Protocol


@dataclass(frozen=True)
class Settings:
    """How an evaluation is done.

    Attributes:
        protocols: to be measured.
        seed: of order, pairs and intervals.
        batch_size: images at a time.
        workers: threads that decode.
        real_size: cut the middle square out of real images and resize it to so many pixels first; None leaves them.
        cache: whether statistics of the real set may be read from the cache and kept there.
    """

    protocols: tuple[Protocol, ...] = (STRICT, EMOGEN)
    seed: int = 0
    batch_size: int = 32
    workers: int = 2
    real_size: int | None = None
    cache: bool = True


@dataclass(frozen=True)
class Comparison:
    """Two image sets that can be compared; all files have been read, none has been decoded.

    Attributes:
        emotions: class names in class order.
        real: images compared with, after emotions that one side lacks were left out.
        generated: images measured, likewise.
        contents: of the real and of the generated files.
        plan: order and pairs of the generated images.
        notes: what a reader of the result should know.
        warnings: what makes the result doubtful.
    """

    emotions: tuple[str, ...]
    real: ImageSet
    generated: ImageSet
    contents: tuple[Contents, Contents]
    plan: EvaluationPlan
    notes: tuple[str, ...]
    warnings: tuple[str, ...]


def prepare(
    real: ImageSet, generated: ImageSet, emotions: Sequence[str], settings: Settings | None = None
) -> Comparison:
    """Look at both sets' files and decide order and pairs; needs no network."""
    settings = settings or Settings()
    notes = [*real.notes, *generated.notes]
    real, generated, left_out = match(real, generated, emotions)
    contents = (
        inspect_files(real, settings.cache, settings.workers),
        inspect_files(generated, False, settings.workers),
    )
    plan = plan_evaluation(generated.by_emotion(), emotions, settings.protocols, settings.seed)
    notes += [*left_out, *file_notes(real, generated, contents), *pair_notes(plan, settings.protocols)]
    if settings.real_size is None:
        notes += resolution_note(contents)
    if EMOGEN.name in plan.pairs and real.dataset is not None and real.split != "all":
        notes.append(
            f"emogen: FID is against the {real.split} split, {len(real)} images; the published scripts take all images "
            "of the dataset: --protocol emogen --split all"
        )
    warnings = tuple(doubts(real, generated, contents))
    return Comparison(tuple(emotions), real, generated, contents, plan, tuple(notes), warnings)


def match(real: ImageSet, generated: ImageSet, emotions: Sequence[str]) -> tuple[ImageSet, ImageSet, list[str]]:
    """Leave out the emotions that one side lacks, so that FID compares like with like; return both sets and notes."""
    ours, theirs = generated.counts(), real.counts()
    common = [name for name in emotions if name in ours and name in theirs]
    if not common:
        raise UniEmoError(
            f"--real and --generated must have emotions in common; {real.source} has {', '.join(sorted(theirs))}, "
            f"{generated.source} has {', '.join(sorted(ours))}: give folders of the same emotions"
        )
    single = [name for name in common if ours[name] < 2]
    if single:
        raise UniEmoError(
            f"--generated must have at least 2 images of each emotion, to form a pair; {generated.source} has 1 of "
            f"{', '.join(single)}: generate more or take it out"
        )
    notes = []
    for name in emotions:
        for images, has, lacking, lacks in ((generated, ours, real, theirs), (real, theirs, generated, ours)):
            if name in has and name not in lacks:
                notes.append(f"{lacking.source} has no {name}: {has[name]} images of {images.source} are left out")
    absent = [name for name in emotions if name not in ours and name not in theirs]
    if absent:
        notes.append(f"neither side has {', '.join(absent)}: metrics are over the others")
    notes += [f"{real.source} has one image of {name}: no FID of its own" for name in common if theirs[name] < 2]
    return real.only(common), generated.only(common), notes


def file_notes(real: ImageSet, generated: ImageSet, contents: tuple[Contents, Contents]) -> list[str]:
    """Return notes on the files: sizes, transparency, copies, other files."""
    notes = []
    for images, found in zip((real, generated), contents, strict=True):
        if len(set(found.sizes)) > 1:
            notes.append(f"{images.source} has {found.size_text()}: each image is resized by itself")
        if any(found.alpha):
            notes.append(f"{sum(found.alpha)} images of {images.source} have transparency: laid over white")
    copies = len(contents[1].hashes) - len(set(contents[1].hashes))
    if copies:
        notes.append(f"{copies} generated images are byte for byte copies of others")
    return notes


def resolution_note(contents: tuple[Contents, Contents]) -> list[str]:
    """Say so where generated images are much smaller than real ones."""
    theirs, ours = (max(min(size) for size in found.sizes) for found in contents)
    if 2 * ours > theirs:
        return []
    return [
        f"generated images are much smaller than real ones (shorter side up to {ours} and {theirs}): FID counts the "
        f"missing detail too; --real_size {ours} compares at their resolution"
    ]


def doubts(real: ImageSet, generated: ImageSet, contents: tuple[Contents, Contents]) -> list[str]:
    """Return what suggests that something else was meant: the same files on both sides, sides swapped."""
    found = []
    theirs = dict(zip(contents[0].hashes, real.names, strict=True))
    ours = dict(zip(contents[1].hashes, generated.names, strict=True))
    shared = [key for key in ours if key in theirs]
    if shared and ours.keys() == theirs.keys():
        found.append(f"{real.source} and {generated.source} hold the same files: FID says nothing about a generator")
    elif shared:
        found.append(
            f"{len(shared)} generated images are byte for byte real ones, first {ours[shared[0]]} = {theirs[shared[0]]}"
        )
    if real.layout == "index":
        found.append(f"--real is an index of generated images ({real.source}): are --real and --generated swapped?")
    if generated.dataset is not None:
        found.append(
            f"--generated is the dataset {generated.dataset} ({generated.source}): are --real and --generated swapped?"
        )
    return found


def pair_notes(plan: EvaluationPlan, protocols: Sequence[Protocol]) -> list[str]:
    """Say where fewer pairs exist than were asked for."""
    notes = []
    for protocol in protocols:
        counts = plan.count(plan.pairs[protocol.name].emotion)
        few = {name: count for name, count in counts.items() if count < protocol.pairs and protocol.draw == "ring"}
        if few:
            same = len(set(few.values())) == 1 and few.keys() == plan.counts.keys()
            each = ", ".join(f"{name} {count}" for name, count in few.items())
            each = f"{next(iter(few.values()))} of each emotion" if same else each
            notes.append(f"{protocol.name}: fewer than {protocol.pairs} pairs exist, all are taken: {each}")
    return notes
