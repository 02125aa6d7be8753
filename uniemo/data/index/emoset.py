"""EmoSet's index: 118,000 annotations read once, and only those that changed from then on.

In the cache folder every tree has a folder of its own, named by a digest of its resolved path:

``tree.ledger``
    what lies on disk and what the annotations say (:mod:`uniemo.data.index.ledger`);
``<split>-<digest>.records``
    a split's files and labels for one vocabulary, mapped by every process that works with them. The name carries a
    digest of all that went in: such a file never changes.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from filelock import FileLock
from tqdm import tqdm

from uniemo.cache import cache_dir
from uniemo.data.array_file import read_arrays
from uniemo.data.dataset import Records
from uniemo.data.emoset_files import Attributes, distinct_names, parse_attributes, read_entries
from uniemo.data.index.folders import THREADS, Folder
from uniemo.data.index.labels import map_labels, write_labels
from uniemo.data.index.ledger import FRESH, UNREAD, Ledger, Positions, SplitTable
from uniemo.data.index.survey import survey
from uniemo.data.listing import SPLITS, Split
from uniemo.data.packed import PackedStrings, dense
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

_CHUNK = 128  # annotations that a thread reads before it reports
_DAY_S = 86_400.0
_KEEP_DAYS = 7.0  # how long the index of a tree that is gone stays


def emoset_records(root: Path, split: Split, vocabulary: Vocabulary, progress: bool = True) -> Records:
    """Return a split's files and labels from the index of the tree at ``root``; see :class:`EmoSetIndex`."""
    return EmoSetIndex(root, progress).records(split, vocabulary)


class EmoSetIndex:
    """The index of one EmoSet tree.

    The tree is looked at once, at first use: every file's size and time of change. Keep one index for as long as the
    tree should count as it was then.

    Args:
        root: folder with the split files.
        progress: show a bar while annotations are read, where that takes more than a second.
        on_error: ``raise`` refuses a split that lists what is missing or cannot be used, ``skip`` leaves it out.

    Attributes:
        skipped: images left out so far, each with the reason.
    """

    def __init__(self, root: str | Path, progress: bool = True, on_error: Literal["raise", "skip"] = "raise") -> None:
        self.root = Path(root)
        self.progress = progress
        self.on_error = on_error
        self.skipped: dict[str, str] = {}
        self._failed: dict[int, str] = {}  # annotations that could not be used, by position
        home = hashlib.sha256(str(self.root.resolve()).encode(errors="surrogateescape")).hexdigest()[:16]
        self.folder = cache_dir() / "index" / home

    def check(self, splits: Iterable[Split]) -> None:
        """Find out whether splits can be used, without reading annotations.

        Raises:
            UniEmoError: a split file cannot be used, or an image or annotation that it lists does not exist.
        """
        for split in splits:
            self._refuse_missing(split, self._table(split).image, "images")
            self._refuse_missing(split, self._table(split).annotation, "annotations")

    def attribute_names(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the scene and object names that the annotations of all usable splits give, sorted.

        Raises:
            UniEmoError: an annotation cannot be used.
        """
        there: list[Split] = [split for split in SPLITS if split in self._ledger.splits]
        self.read(there)
        ledger = self._ledger
        used = np.concatenate([ledger.splits[split].annotation for split in there] or [np.zeros(0, np.int32)])
        used = used[(used >= 0) & ~np.isin(used, self._failed_positions)]
        scenes = np.unique(ledger.scene[used])
        objects = np.unique(dense(ledger.objects.take(used.astype(np.int64))).values)
        return (
            distinct_names(ledger.scene_names[code] for code in scenes.tolist() if code >= 0),
            distinct_names(ledger.object_names[code] for code in objects.tolist()),
        )

    def read(self, splits: Sequence[Split]) -> None:
        """Read the annotations that are new or changed; the first time those of every split, whichever is asked for.

        Raises:
            UniEmoError: an annotation of one of ``splits`` is missing or cannot be used.
        """
        for split in splits:
            self._refuse_missing(split, self._table(split).annotation, "annotations")
        if len(self._unread(splits)):
            with self._lock():
                found = Ledger.read(self._path)
                if found is not None and found.written != self._ledger.written and found.same_tree(self._ledger):
                    self._ledger = found  # another process has read meanwhile
                self._failed |= self._read_annotations(self._unread(SPLITS))
        self._refuse_failed(splits)

    def records(self, split: Split, vocabulary: Vocabulary) -> Records:
        """Return a split's files and labels, mapped from the index.

        Names outside the vocabulary count as absent; a warning says how many there were.

        Raises:
            UniEmoError: see :meth:`check` and :meth:`read`; an emotion outside the vocabulary.
        """
        self.check((split,))
        self.read((split,))
        rows = self._usable(split, vocabulary) if self.on_error == "skip" else None
        names = json.dumps(vocabulary.to_dict()) + ("" if rows is None else rows.tobytes().hex())
        digest = hashlib.sha256(f"{self._ledger.generation} {names}".encode()).hexdigest()[:16]
        path = self.folder / f"{split}-{digest}.records"
        records = map_labels(path, self.root, split, len(vocabulary.objects))
        if records is None:
            write_labels(path, self._ledger, split, vocabulary, (self.root / "mask").is_dir(), rows)
            records = map_labels(path, self.root, split, len(vocabulary.objects))
        if records is None:
            raise UniEmoError(f"the cache folder must keep what is written to it; {path} is gone: set UNIEMO_CACHE")
        return records

    # The ledger.

    @property
    def _path(self) -> Path:
        return self.folder / "tree.ledger"

    def _lock(self) -> FileLock:
        """Return the lock that the tree's ranks and runs share."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return FileLock(self.folder / "lock")
        except OSError as error:
            raise UniEmoError(f"the cache folder must be writable; {self.folder} is not: set UNIEMO_CACHE") from error

    @cached_property
    def _ledger(self) -> Ledger:
        """What is on disk, looked at now."""
        ledger, seen = self._look()
        if ledger is None or seen is None or not _agree(ledger, seen):
            with self._lock():
                found = Ledger.read(self._path)
                if found is not None and (ledger is None or found.written != ledger.written):
                    ledger, seen = self._look()  # another process has been quicker
                if ledger is None:
                    self._remove_orphans()
                if ledger is None or seen is None or not _agree(ledger, seen):
                    if ledger is None or seen is None or not ledger.same_names(seen):
                        ledger = survey(self.root.resolve(), ledger)
                    else:
                        ledger.restamp(seen)
                    ledger.write(self._path)
                    self._remove_old_records()
        # What was read just after a change is read once more.
        ledger.state = np.where(ledger.state == FRESH, UNREAD, ledger.state).astype(np.uint8)
        return ledger

    def _look(self) -> tuple[Ledger | None, list[Folder] | None]:
        """Return the ledger and the folders as they are now; None for what is missing or out of date."""
        ledger = Ledger.read(self._path)
        return ledger, None if ledger is None else ledger.look()

    def _table(self, split: Split) -> SplitTable:
        """Return a split's entries; UniEmoError where its file cannot be used."""
        if split not in self._ledger.splits:
            read_entries(self.root, split)  # says why
            raise UniEmoError(f"EmoSet tree must not change while a run starts; {split}.json did: start again")
        return self._ledger.splits[split]

    def _unread(self, splits: Iterable[Split]) -> Positions:
        """Return the annotations that have to be read, in the order of the disk."""
        ledger = self._ledger
        columns = [ledger.splits[split].annotation for split in splits if split in ledger.splits]
        wanted = np.unique(np.concatenate(columns or [np.zeros(0, np.int32)]))
        wanted = wanted[wanted >= 0]
        return wanted[ledger.state[wanted] == UNREAD]

    def _read_annotations(self, positions: Positions) -> dict[int, str]:
        """Read annotations and write the ledger, also after Ctrl-C; return the reason for each that cannot be used."""
        ledger = self._ledger
        scene_codes = {name: code for code, name in enumerate(ledger.scene_names)}
        object_codes = {name: code for code, name in enumerate(ledger.object_names)}
        done: list[int] = []
        scenes: list[int] = []
        objects: list[tuple[int, ...]] = []
        failed: dict[int, str] = {}
        paths = ledger.paths(positions)
        pool = ThreadPoolExecutor(THREADS)
        bar = tqdm(total=len(positions), desc="indexing annotations", unit="file", disable=not self.progress, delay=1)
        try:
            chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
            order = iter(positions.tolist())
            for notes in pool.map(self._read_chunk, chunks):
                for note, position in zip(notes, order, strict=False):
                    if isinstance(note, str):
                        failed[position] = note
                        continue
                    done.append(position)
                    scenes.append(-1 if note.scene is None else scene_codes.setdefault(note.scene, len(scene_codes)))
                    objects.append(tuple(object_codes.setdefault(name, len(object_codes)) for name in note.objects))
                bar.update(len(notes))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            bar.close()
            ledger.scene_names, ledger.object_names = list(scene_codes), list(object_codes)
            ledger.note(np.array(done, dtype=np.int32), scenes, objects)
            ledger.write(self._path)
            self._remove_old_records()
        return failed

    def _read_chunk(self, paths: PackedStrings) -> list[Attributes | str]:
        """Read some annotations; in place of one that cannot be used the reason stands."""
        notes: list[Attributes | str] = []
        for name in paths:
            try:
                notes.append(parse_attributes((self.root / name).read_bytes()))
            except (OSError, ValueError) as error:
                notes.append(str(error).splitlines()[0])
        return notes

    # What cannot be used.

    @property
    def _failed_positions(self) -> Positions:
        return np.array(list(self._failed), dtype=np.int32)

    def _usable(self, split: Split, vocabulary: Vocabulary) -> Positions | None:
        """Return the rows of a split that can be used, None for all, and note the others in ``skipped``."""
        table = self._table(split)
        known = np.array([name in vocabulary.emotions for name in table.emotions] or [True])
        failed = np.isin(table.annotation, self._failed_positions)
        bad = (table.image < 0) | (table.annotation < 0) | failed | ~known[table.emotion]
        if not bad.any():
            return None
        entries = read_entries(self.root, split)
        for row in np.flatnonzero(bad).tolist():
            reason = "it does not exist"
            if failed[row]:
                reason = f"its annotation cannot be used: {self._failed[int(table.annotation[row])]}"
            elif table.image[row] >= 0:
                missing = table.annotation[row] < 0
                reason = "its annotation does not exist" if missing else f"label {entries[row].emotion!r}"
            self.skipped[entries[row].image] = reason
        return np.flatnonzero(~bad).astype(np.int32)

    def _refuse_missing(self, split: Split, column: Positions, what: str) -> None:
        """Raise UniEmoError where files that a split lists do not exist, unless such entries are to be left out."""
        missing = np.flatnonzero(column < 0)
        if len(missing) and self.on_error == "raise":
            entry = read_entries(self.root, split)[int(missing[0])]
            first = self.root / (entry.image if what == "images" else entry.annotation)
            raise UniEmoError(
                f"EmoSet {what} listed in {split}.json must exist; {len(missing)} of {len(column)} are missing, "
                f"first {first}: restore them or take them off the list"
            )

    def _refuse_failed(self, splits: Iterable[Split]) -> None:
        """Raise UniEmoError where annotations that splits list cannot be used, unless they are to be left out."""
        for split in splits if self.on_error == "raise" else ():
            column = self._ledger.splits[split].annotation
            bad = column[np.isin(column, self._failed_positions)]
            if len(bad):
                first = self.root / self._ledger.paths(bad[:1])[0]
                raise UniEmoError(
                    f"EmoSet annotations must be JSON objects with names; {len(bad)} of {split} are not, "
                    f"first {first} ({self._failed[int(bad[0])]}): restore them or take them off the list"
                )

    # Tidying.

    def _remove_old_records(self) -> None:
        """Remove records of a tree that is no more; a run that just started may still want those of today."""
        for path in self.folder.glob("*.records"):
            if time.time() - path.stat().st_mtime > _DAY_S:
                path.unlink(missing_ok=True)

    def _remove_orphans(self) -> None:
        """Remove the indices of trees that have been gone for a while."""
        for ledger in self.folder.parent.glob(f"*/{self._path.name}"):
            if time.time() - ledger.stat().st_mtime > _KEEP_DAYS * _DAY_S:
                content = read_arrays(ledger)
                if content is None or not Path(content[0].get("root", "")).is_dir():
                    shutil.rmtree(ledger.parent, ignore_errors=True)


def _agree(ledger: Ledger, seen: list[Folder]) -> bool:
    """Tell whether folders are as the ledger has them."""
    return ledger.same_names(seen) and not ledger.changed(seen).any()
