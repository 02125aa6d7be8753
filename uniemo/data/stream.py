"""Batches out of shards: an epoch's rows dealt to ranks and workers, shuffled by a buffer, from any batch on.

Which rows are in the n-th batch of a rank follows from the shards' numbers of rows, seed, epoch, processes, workers,
batch size and buffer alone. A run that resumes opens the shard where it stopped, fills the same buffer and goes on: its
state is the number of the batch, as for images that lie in files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
from torch.utils.data import Dataset, DistributedSampler

from uniemo.data.batch import EmotionBatch, EmotionSample
from uniemo.data.dataset import SkippedFiles
from uniemo.data.images import UnreadableImageError
from uniemo.data.loader import TrainingLoader, collate_readable
from uniemo.data.shards import Row, Shard, read_rows
from uniemo.distributed import get_rank, get_world_size
from uniemo.errors import UniEmoError

Place = tuple[int, int, Row | str]  # shard, row in it, content or why there is none
Decode = Callable[[Row, str, str, int, int], EmotionSample]  # row, what errors call it, name, sample id, epoch


def shuffled(rows: Iterator[Place], size: int, seed: tuple[int, ...], block: int = 0) -> Iterator[Place]:
    """Shuffle rows by a buffer: blocks of ``size`` follow each other, each in an order of its own.

    While a block is handed out the next one fills its places, so that never more than ``size`` rows are held and none is
    waited for twice. A block's content does not depend on earlier ones: any can be begun with.

    Args:
        rows: from the first of a block on.
        size: of a block.
        seed: of the orders.
        block: number of the first block.
    """
    waiting: list[Any] = list(islice(rows, size))
    while waiting:
        following: list[Any] = []
        for place in np.random.default_rng((*seed, block)).permutation(len(waiting)).tolist():
            following += islice(rows, 1)
            row, waiting[place] = waiting[place], None
            yield row
        waiting, block = following, block + 1


class Stream(Dataset[EmotionBatch]):
    """The images of a split in shards, as batches.

    The rows of all shards, in training in an order of shards that (seed, epoch) decides, are cut into equal parts: one
    for each worker of each rank, which differ by a row at most. All ranks have equally many batches. In training the
    part of a row that would make one rank take a batch more is left out, fewer rows than there are workers; in
    evaluation no row is, and a worker that has none for the last batch repeats its last one, which metrics count once.

    Args:
        shards: of the split.
        decode: makes a sample of a row.
        batch_size: B.
        seed: of the order of shards and of the buffer.
        workers: of the loader; each reads a part of its own.
        buffer: rows among which each worker shuffles; None keeps the order of the shards (evaluation).
        on_error: ``raise`` stops at a row that cannot be used, ``skip`` leaves it out and puts it on the list.
        skipped: that list.

    Raises:
        UniEmoError: fewer images than processes.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        decode: Decode,
        batch_size: int,
        seed: int = 0,
        workers: int = 0,
        buffer: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        skipped: SkippedFiles | None = None,
    ) -> None:
        self.shards = shards
        self.decode = decode
        self.batch_size = batch_size
        self.seed = seed
        self.buffer = buffer
        self.on_error = on_error
        self.skipped = SkippedFiles() if skipped is None else skipped
        self.rows = np.array([shard.rows for shard in shards], dtype=np.int64)
        self.first_ids = np.cumsum(self.rows) - self.rows  # sample id of each shard's first row
        self.rank, self.ranks = get_rank(), get_world_size()
        self.streams = max(1, min(workers, len(self) // self.ranks))
        self.parts = self.ranks * self.streams
        if len(self) < self.parts:
            raise UniEmoError(f"a split must hold an image for each of {self.ranks} processes; shards hold {len(self)}")
        longest = len(self) // self.parts if buffer is not None else -(-len(self) // self.parts)
        self.batches = -(-longest // batch_size)  # of each worker
        self._open: Iterator[Place] = iter(())
        self._next: int | None = None  # key of the batch that comes out of it next

    def __len__(self) -> int:
        """Return the number of images, on all ranks together."""
        return int(self.rows.sum())

    @property
    def steps(self) -> int:
        """Batches of an epoch on each rank."""
        return self.streams * self.batches

    def __getitem__(self, key: int) -> EmotionBatch | None:  # type: ignore[override]  # None never leaves a loader
        """Return the batch of ``key = epoch * steps + step``; quick where it follows on the last one of its worker.

        Returns:
            None where none of its rows could be read.

        Raises:
            UniEmoError: a row that cannot be used, where ``on_error`` is ``raise``.
        """
        epoch, step = divmod(int(key), self.steps)
        batch, stream = divmod(step, self.streams)  # workers take turns, as the loader's do
        part = self.rank * self.streams + stream
        start, stop = (len(self) * bound // self.parts for bound in (part, part + 1))
        seen = batch * self.batch_size
        if key != self._next or seen >= stop - start:
            self._open = self._rows(epoch, part, start, min(seen, stop - start - 1), stop)
        self._next = key + self.streams if batch + 1 < self.batches else None
        return collate_readable([self._sample(*place, epoch) for place in islice(self._open, self.batch_size)])

    def _rows(self, epoch: int, part: int, start: int, seen: int, stop: int) -> Iterator[Place]:
        """Yield the rows of a part, which are those of all shards from ``start`` to ``stop``, without the first ones."""
        if self.buffer is None:
            return self._read(range(len(self.shards)), start + seen, stop)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards)).tolist()
        block, seen = divmod(seen, self.buffer)
        rows = self._read(order, start + block * self.buffer, stop)
        return islice(shuffled(rows, self.buffer, (self.seed, epoch, part), block), seen, None)

    def _read(self, order: Sequence[int], start: int, stop: int) -> Iterator[Place]:
        """Yield the rows ``start`` … ``stop`` of the shards laid end to end in an order."""
        for shard in order:
            rows = self.shards[shard].rows
            if start < rows and stop > 0:
                for row, content in read_rows(self.shards[shard], max(start, 0), min(stop, rows)):
                    yield shard, row, content
            start, stop = start - rows, stop - rows

    def _sample(self, shard: int, row: int, content: Row | str, epoch: int) -> EmotionSample | None:
        """Return what a row holds, None where it cannot be used and such rows are left out."""
        url, where = self.shards[shard].url, f"row {row} of {self.shards[shard].url}"
        if self.on_error == "skip" and f"{url}#{row}" in self.skipped:
            return None
        try:
            if isinstance(content, str):
                raise UnreadableImageError(where, content)
            number = int(self.first_ids[shard]) + row
            return self.decode(content, where, f"{self.shards[shard].name}#{row}", number, epoch)
        except UniEmoError as error:
            unreadable = isinstance(error, UnreadableImageError)
            if self.on_error == "raise":
                text = f"images must be readable; {where} is not ({error.reason}): mend the shard" if unreadable else error
                raise UniEmoError(f"{text}, or leave such images out with --data.on_error skip") from error
            self.skipped.add(f"{url}#{row}", error.reason if unreadable else str(error))
            return None

    def names(self, sample_ids: Sequence[int]) -> list[str]:
        """Return ``<shard>#<row>`` of images by their ids."""
        places = np.searchsorted(self.first_ids, sample_ids, side="right") - 1
        return [
            f"{self.shards[place].name}#{number - self.first_ids[place]}"
            for place, number in zip(places.tolist(), sample_ids, strict=True)
        ]


class StepSampler(DistributedSampler[int]):
    """The keys of an epoch's batches, in order; the same on all ranks, whose streams differ.

    Args:
        steps: batches of an epoch.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(range(steps), num_replicas=1, rank=0, shuffle=False)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[int]:
        """Yield ``epoch * steps + step``."""
        steps = len(self)
        return iter(range(self.epoch * steps, (self.epoch + 1) * steps))


def take_batch(batches: Sequence[EmotionBatch | None]) -> EmotionBatch | None:
    """Return the one batch that a stream gives at a time."""
    (batch,) = batches
    return batch


class StreamLoader(TrainingLoader):
    """A training loader of a :class:`Stream`."""

    def _sizes(self) -> dict[str, int]:
        """Return what decides which images are in an epoch's n-th batch of a rank."""
        stream: Any = self.dataset
        return {
            "batch": stream.batch_size * stream.ranks,
            "images": len(stream),
            "processes": stream.ranks,
            "workers": stream.streams,
            "buffer": stream.buffer,
        }
