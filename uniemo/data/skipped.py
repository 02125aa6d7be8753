"""Leaving unreadable images out, for good and with a list: what ``on_error: skip`` means."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from uniemo.data.batch import EmotionBatch, EmotionSample, collate
from uniemo.errors import UniEmoError


class SkippedFiles:
    """The images that were met and could not be read, known to all processes of a run.

    Each is a line in a JSON Lines file (``file``, ``reason``, ``bytes`` and ``changed``) that every loader worker and
    every rank appends to and reads again when it has grown. A file that was mended since (another size or time of
    change) is no longer on the list, so that a list may be taken along when training goes on.

    Args:
        path: the JSON Lines file, made when the first image fails; None takes one in the folder for temporary files.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        temporary = Path(tempfile.gettempdir()) / f"uniemo-skipped-{uuid.uuid4().hex}.jsonl"
        self.path = temporary if path is None else Path(path)
        self._found: dict[str, tuple[str, tuple[int, int]]] = {}
        self._read = 0  # bytes of the file that _found knows

    def __contains__(self, file: Path) -> bool:
        """Return whether the file as it lies there has failed before."""
        self._refresh()
        known = self._found.get(str(file))
        return known is not None and known[1] == _look(file)

    def __len__(self) -> int:
        """Return how many images failed."""
        self._refresh()
        return len(self._found)

    def files(self) -> list[tuple[str, str]]:
        """Return (file, reason) of each image that failed, in the order in which they were met."""
        self._refresh()
        return [(file, reason) for file, (reason, _) in self._found.items()]

    def add(self, file: Path, reason: str) -> None:
        """Put a file on the list and say so."""
        size, changed = _look(file)
        row = {"file": str(file), "reason": reason, "bytes": size, "changed": changed}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        line = json.dumps(row).encode() + b"\n"
        with open(self.path, "ab", buffering=0) as store:  # one write, so that lines of several processes do not mix
            store.write(line)
        warnings.warn(f"left out {file} ({reason}); the list is {self.path}", stacklevel=2)

    def summary(self) -> str:
        """Return the count and the place of the list in a line; empty when nothing failed."""
        count = len(self)
        noun = "image was" if count == 1 else "images were"
        return f"{count} unreadable {noun} left out: {self.path}" if count else ""

    def _refresh(self) -> None:
        """Read what was appended since the last look."""
        try:
            size = os.stat(self.path).st_size
        except FileNotFoundError:
            return
        if size <= self._read:
            return
        with open(self.path, "rb") as file:
            file.seek(self._read)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # the last line may still be on its way
        self._read += len(whole)
        for line in whole.splitlines():
            row = json.loads(line)
            self._found[row["file"]] = (row["reason"], (row["bytes"], row["changed"]))


def _look(file: Path) -> tuple[int, int]:
    """Return size and time of change, (-1, -1) where nothing is."""
    try:
        found = os.stat(file)
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def collate_readable(samples: Sequence[EmotionSample | None]) -> EmotionBatch | None:
    """Put samples together, those left out aside; None when nothing is left."""
    readable = [sample for sample in samples if sample is not None]
    return collate(readable) if readable else None


def _ranks() -> int:
    """Return how many processes train together."""
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    return torch.distributed.get_world_size() if distributed else 1


class EmotionLoader(DataLoader[EmotionSample]):
    """A DataLoader that hands out no batch where none of a batch's images could be read.

    Raises:
        UniEmoError: such a batch with several ranks, which would wait for this one for ever.
    """

    keep_empty = False

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yield batches.

        A generator: samplers are asked, and workers started, at the first batch, when the epoch's number is set.
        """
        for batch in self._all_batches():
            if batch is None and _ranks() > 1:
                raise UniEmoError(
                    "a batch must hold a readable image on every rank; one holds none: remove the unreadable images "
                    "(uniemo data check lists them) or take larger batches"
                )
            if batch is not None or self.keep_empty:
                yield batch

    def _all_batches(self) -> Iterator[EmotionBatch | None]:
        """Yield what DataLoader makes."""
        yield from super().__iter__()


_SIZES = {"batch": "data.batch_size × processes", "images": "the number of training images"}


class TrainingLoader(EmotionLoader):
    """A loader that knows how far it is in its epoch and can go on from there.

    It hands out None for a batch of which nothing could be read: Lightning passes over it and keeps count of steps.

    Lightning keeps :meth:`state_dict` in its checkpoints and hands it back when a run goes on within an epoch. The
    first epoch then begins behind the batches that were handed out before; their images are not opened again.
    """

    keep_empty = True
    _handed_out = 0  # batches of the present epoch
    _resumed: dict[str, int] | None = None  # where the next epoch begins, once

    def state_dict(self) -> dict[str, int]:
        """Return the present epoch and how many of its batches were handed out, and what must be the same to go on."""
        return {"epoch": self._epoch(), "batches": self._handed_out, **self._sizes()}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Begin the epoch of a :meth:`state_dict` where that was taken; other epochs begin at their beginning."""
        self._resumed = dict(state_dict)

    def _all_batches(self) -> Iterator[EmotionBatch | None]:
        """Yield what DataLoader makes, those batches left out that a resumed run has seen."""
        seen = self._seen()
        self._handed_out = seen
        for batch in super()._all_batches() if seen == 0 else self._rest(seen):
            self._handed_out += 1
            yield batch

    def _seen(self) -> int:
        """Return how many batches of this epoch a resumed run had before.

        Raises:
            UniEmoError: batches have another size than before, or the training set has.
        """
        state, self._resumed = self._resumed, None
        if state is None or state["epoch"] != self._epoch():
            return 0
        for name, value in self._sizes().items():
            if state[name] != value:
                raise UniEmoError(
                    f"{_SIZES[name]} must be as before to resume within an epoch, {state[name]}; got {value}: set it "
                    "back, or start another run with --model.init_from"
                )
        return state["batches"]

    def _rest(self, seen: int) -> Iterator[EmotionBatch | None]:
        """Yield the epoch's batches behind the first ``seen``."""
        assert self.batch_sampler is not None  # DataLoader makes one wherever batches have a size
        return iter(
            DataLoader(
                self.dataset,
                batch_sampler=list(self.batch_sampler)[seen:],
                num_workers=self.num_workers,
                collate_fn=self.collate_fn,
                pin_memory=self.pin_memory,
                timeout=self.timeout,
                worker_init_fn=self.worker_init_fn,
                multiprocessing_context=self.multiprocessing_context,
                prefetch_factor=self.prefetch_factor,
            )
        )

    def _epoch(self) -> int:
        """Return the epoch that the sampler was set to."""
        return int(getattr(self.sampler, "epoch", 0))

    def _sizes(self) -> dict[str, int]:
        """Return what decides which images are in an epoch's n-th batch on all ranks together."""
        return {"batch": int(self.batch_size or 1) * _ranks(), "images": len(self.dataset)}  # type: ignore[arg-type]
