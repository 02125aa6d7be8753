"""A dataset on disk, ready for training: which images in which split, nothing wrong among them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from uniemo.data.catalog import read_listing
from uniemo.data.dataset import Records
from uniemo.data.hashes import FileNotes, content_hashes, stamps
from uniemo.data.images import verify_images
from uniemo.data.layouts.collector import plural
from uniemo.data.listing import Listing, Split
from uniemo.data.skipped import SkippedFiles
from uniemo.data.splits import FRACTIONS, Assignment, assign, read_split, settle, write_split
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

SPLIT_FILE = "split.json"  # in a run's folder
_MANY = 2000  # files from which on a pass over them takes long enough for a progress bar


@dataclass(frozen=True)
class Choices:
    """What may be said about a tree; see :class:`uniemo.data.base.EmotionDataModule`.

    Attributes:
        fractions: of training, validation and test images where the tree has no splits.
        options: the dataset's own arguments, for its layouts.
    """

    layout: str | None = None
    split_file: str | None = None
    val_fraction: float | None = None
    fold: int | None = None
    folds: int = 5
    seed: int = 0
    check: bool = True
    on_error: Literal["raise", "skip"] = "raise"
    fractions: tuple[float, float, float] = FRACTIONS
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise UniEmoError for a value out of its range."""
        if self.val_fraction is not None and not 0 < self.val_fraction < 1:
            raise UniEmoError(f"data.val_fraction must lie in (0, 1); got {self.val_fraction}")
        if self.folds < 2:
            raise UniEmoError(f"data.folds must be at least 2; got {self.folds}")
        if self.fold is not None and not 1 <= self.fold <= self.folds:
            raise UniEmoError(f"data.fold must lie in 1 … {self.folds} (data.folds); got {self.fold}")
        if self.on_error not in ("raise", "skip"):
            raise UniEmoError(f"data.on_error must be raise or skip; got {self.on_error!r}")


class Tree:
    """The images of a dataset that has no attributes.

    Args:
        root: folder that the user gave.
        dataset: name of the data module's class.
        choices: what the user said about it.

    Attributes:
        skipped: images that cannot be used and are left out, each with the reason (``on_error: skip``).
    """

    def __init__(self, root: Path, dataset: str, choices: Choices) -> None:
        self.root = root
        self.dataset = dataset
        self.choices = choices
        self.skipped: dict[str, str] = {}
        self._records: dict[Split, Records] = {}

    # What the tree says.

    @cached_property
    def listing(self) -> Listing:
        """What the dataset's files say."""
        return read_listing(self.root, self.choices.layout, self.dataset, **self.choices.options)

    @property
    def folder(self) -> Path:
        """What the names of images are relative to."""
        return self.listing.root

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The dataset's names."""
        return Vocabulary(self.listing.emotions)

    @cached_property
    def assignment(self) -> Assignment:
        """The split of each image.

        Raises:
            UniEmoError: a split file that does not fit, a fold that does not exist.
        """
        listing, choices = self.listing, self.choices
        images = [item.image for item in listing.items]
        progress = len(images) >= _MANY
        groups = dict(zip(images, content_hashes(listing.root, images, progress), strict=True))
        if choices.split_file is None:
            return assign(
                listing,
                choices.seed,
                choices.fractions,
                choices.val_fraction,
                choices.fold,
                choices.folds,
                groups,
            )
        made = read_split(choices.split_file, images)
        if choices.fold is not None and made.fold != choices.fold:
            raise UniEmoError(
                f"data.split_file and data.fold must agree; {choices.split_file} is of fold {made.fold}, data.fold is "
                f"{choices.fold}: leave one out"
            )
        return settle(made, listing, groups)

    def select(self, split: Split) -> Records:
        """Return the images of a split, whether or not they can be read."""
        images = self.assignment.split
        items = [item for item in self.listing.items if images.get(item.image) == split]
        emotions = [self.vocabulary.emotion_index(item.emotion) for item in items]
        has_masks = any(item.mask is not None for item in self.listing.items)
        return Records(
            root=self.listing.root,
            files=[item.image for item in items],
            emotion=np.array(emotions, dtype=np.int64),
            scene=np.full(len(items), -1, dtype=np.int64),
            objects=[()] * len(items),
            num_objects=0,
            sample_id=np.arange(len(items), dtype=np.int64),
            masks=[item.mask for item in items] if has_masks else None,
            stamp=stamps(self.listing.root, [item.image for item in items]),
        )

    # What can be used.

    def check(self, splits: Sequence[Split]) -> None:
        """Find out whether splits can be used.

        Raises:
            UniEmoError: no known layout; images that are missing, have no known label or cannot be read; an empty
                split.
        """
        if not splits:
            return
        self._refuse(
            dict.fromkeys(self.listing.absent, "it does not exist"), ("is listed but missing", "are listed but missing")
        )
        strange = {image: f"label {label!r}" for image, label in self.listing.unknown}
        known = f"a label that is none of {', '.join(self.listing.emotions)}"
        self._refuse(strange, (f"has {known}", f"have {known}"))
        for split in splits:
            self.records(split)

    def _refuse(self, reasons: dict[str, str], verbs: tuple[str, str]) -> None:
        """Raise for images that the lists name and that cannot be used, or note them as skipped."""
        if reasons and self.choices.on_error == "raise":
            image, reason = next(iter(reasons.items()))
            raise UniEmoError(
                f"{self.dataset} must be whole; {plural(len(reasons), verbs)}, first {self.folder / image} ({reason}): "
                "mend the lists, or leave such images out with --data.on_error skip"
            )
        self.skipped.update(reasons)

    def records(self, split: Split) -> Records:
        """Return the images of a split that can be used.

        Raises:
            UniEmoError: see :meth:`check`.
        """
        if split not in self._records:
            records = self.select(split)
            if not len(records):
                raise UniEmoError(
                    f"{self.dataset} split must list at least one image; {split} of {self.root} has none: correct "
                    "--data.root, --data.layout or --data.split_file"
                )
            self._records[split] = self._readable(records, split) if self.choices.check else records
        return self._records[split]

    def _readable(self, records: Records, split: Split) -> Records:
        """Return the records without images whose header or end is broken."""
        bad = unreadable(records.root, records.files, records.stamp)
        if not bad:
            return records
        if self.choices.on_error == "raise":
            name, reason = bad[0]
            raise UniEmoError(
                f"images must be readable; {len(bad)} of {len(records)} in {split} are not, first "
                f"{records.root / name} ({reason}): restore them (uniemo data check {self.root} lists all), or leave "
                "them out with --data.on_error skip"
            )
        self.skipped.update(bad)
        broken = {name for name, _ in bad}
        return records.subset([i for i, name in enumerate(records.files) if name not in broken])

    # What to tell.

    def write_lists(self, folder: Path, skipped: SkippedFiles, splits: bool) -> None:
        """Write what belongs to a run: ``split.json`` where splits are not simply the tree's own, and skipped images.

        Args:
            folder: of the run.
            skipped: list that this adds to.
            splits: whether to write the splits.
        """
        if splits and self.worth_writing():
            self.write_split(folder / SPLIT_FILE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # their number was told
            for image, reason in self.skipped.items():
                if self.folder / image not in skipped:
                    skipped.add(self.folder / image, reason)

    def remarks(self) -> list[str]:
        """Return what was left out or changed, a line for each, for warnings."""
        found = []
        made = self.assignment
        if made.duplicates:
            first, second = made.duplicates[0][:2]
            count, kinds = sum(map(len, made.duplicates)), len(made.duplicates)
            found.append(
                f"{self.dataset}: {count} images are copies of one another ({kinds} different), first {first} = "
                f"{second}; copies stay in one split, {len(made.left_out)} left out"
            )
        elif made.left_out:
            image, reason = made.left_out[0]
            found.append(f"{self.dataset}: {plural(len(made.left_out))} left out, first {image} ({reason})")
        if self.skipped:
            image, reason = next(iter(self.skipped.items()))
            found.append(f"{self.dataset}: {plural(len(self.skipped))} skipped, first {image} ({reason})")
        return found

    def describe(self) -> str:
        """Return what was found in one line: layout, images of each split and where the splits come from."""
        made = self.assignment
        source = {
            "tree": "splits of the tree",
            "completed": f"validation from the training images, seed {made.seed}",
            "seed": f"stratified split, seed {made.seed}",
            "fold": f"fold {made.fold} of {made.folds}{'' if self.listing.folds else f', seed {made.seed}'}",
            "file": f"splits of {self.choices.split_file}",
        }[made.source]
        counts = ", ".join(f"{count:,} {split}" for split, count in made.counts().items())
        notes = "".join(f"; {note}" for note in self.listing.notes)
        return f"{self.dataset} ({self.listing.layout}): {counts} images; {source}{notes}"

    def worth_writing(self) -> bool:
        """Whether the splits in use are not simply those of the tree."""
        return self.assignment.source != "tree" or bool(self.assignment.left_out)

    def write_split(self, path: str | Path) -> None:
        """Write the splits for ``--data.split_file``."""
        write_split(path, self.assignment)


def unreadable(root: Path, files: Sequence[str], stamp: NDArray[np.int64] | None = None) -> list[tuple[str, str]]:
    """Return (file, reason) of images whose header or end is broken; what was found whole is not looked at again.

    Args:
        root: the tree.
        files: names relative to it.
        stamp: (N, 2) size and time of change, where it is known already.
    """
    stamp = stamps(root, files) if stamp is None else stamp
    with FileLock(f"{FileNotes('headers', root, (), stamp[:0], 1).path}.lock"):
        notes = FileNotes("headers", root, files, stamp, 1)
        todo = np.flatnonzero(notes.rows[:, 0] == 0)
        bad = verify_images(root, [files[i] for i in todo.tolist()], progress=len(todo) >= _MANY) if len(todo) else []
        broken = {name for name, _ in bad}
        notes.rows[[i for i in todo.tolist() if files[i] not in broken]] = 1
        if len(todo) > len(bad):
            notes.save()
    return bad
