"""Batches out of shards: an epoch's rows dealt to ranks and workers, shuffled by a buffer, from any batch on.

Which rows are in the n-th batch of a rank follows from the shards' numbers of rows, seed, epoch, processes, workers,
batch size and buffer alone. A run that resumes opens the shard where it stopped, fills the same buffer and goes on: its
state is the number of the batch, as for images that lie in files.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset, DistributedSampler

from uniemo.data.batch import EmotionBatch, EmotionSample
from uniemo.data.dataset import EmotionDataset, SkippedFiles
from uniemo.data.images import UnreadableImageError
from uniemo.data.loader import TrainingLoader, collate_readable
from uniemo.data.shard_rows import RowDecoder, advised
from uniemo.data.shards import Shard, read_rows
from uniemo.data.webdataset import Row
from uniemo.distributed import get_rank, get_world_size
from uniemo.errors import UniEmoError

Place = tuple[int, int, Row | str]  # shard, row in it, content or why there is none


def shuffled(rows: Iterator[Place], size: int, seed: tuple[int, ...], block: int = 0) -> Iterator[Place]:
    """Shuffle rows by a buffer: blocks of ``size`` follow each other, each in an order of its own.

    While a block is handed out the next one fills its places: reading goes on evenly, and never more than ``size`` rows
    are held. A block does not depend on earlier ones, so that any can be begun with.

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


def first_ids(shards: Sequence[Shard]) -> NDArray[np.int64]:
    """Return the sample id of each shard's first row: rows are counted through all shards."""
    rows = np.array([shard.rows for shard in shards], dtype=np.int64)
    return np.cumsum(rows) - rows


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
        generated: images that are spread over the batches of an epoch, each once; batches have so many rows fewer.
        chosen: (G,) which of them; None for none.

    Raises:
        UniEmoError: fewer images than processes.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        decode: RowDecoder,
        batch_size: int,
        seed: int = 0,
        workers: int = 0,
        buffer: int | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        skipped: SkippedFiles | None = None,
        generated: EmotionDataset | None = None,
        chosen: NDArray[np.int64] | None = None,
    ) -> None:
        self.shards = shards
        self.decode = decode
        self.batch_size = batch_size
        self.seed = seed
        self.buffer = buffer
        self.on_error = on_error
        self.skipped = SkippedFiles() if skipped is None else skipped
        self.total = sum(shard.rows for shard in shards)
        self.generated, self.chosen = generated, np.zeros(0, dtype=np.int64) if chosen is None else chosen
        self.real = max(1, round(batch_size * self.total / (self.total + len(self.chosen) or 1)))  # rows of a batch
        self.first_ids = first_ids(shards)
        self.rank, self.ranks = get_rank(), get_world_size()
        self.streams = max(1, min(workers, len(self) // self.ranks))
        self.parts = self.ranks * self.streams
        if len(self) < self.parts:
            raise UniEmoError(f"a split must hold an image for each of {self.ranks} processes; shards hold {len(self)}")
        longest = len(self) // self.parts if buffer is not None else -(-len(self) // self.parts)
        self.batches = -(-longest // self.real)  # of each worker
        self._open: Iterator[Place] = iter(())
        self._next: int | None = None  # key of the batch that comes out of it next
        self._mixed: int | None = None  # epoch of the order
        self._order = self.chosen  # of the generated images

    def __len__(self) -> int:
        """Return the number of images, on all ranks together."""
        return self.total

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
        seen = batch * self.real
        if key != self._next or seen >= stop - start:
            self._open = self._rows(epoch, part, start, min(seen, stop - start - 1), stop)
        self._next = key + self.streams if batch + 1 < self.batches else None
        samples = [self._sample(*place, epoch) for place in islice(self._open, self.real)]
        return collate_readable(samples + self._generated(epoch, step))

    def _generated(self, epoch: int, step: int) -> list[EmotionSample | None]:
        """Return the generated images of a batch."""
        if self.generated is None:
            return []
        if epoch != self._mixed:
            self._mixed = epoch
            self._order = np.random.default_rng((self.seed, epoch)).permutation(self.chosen)
        order = self._order
        place, places = self.rank * self.steps + step, self.ranks * self.steps
        start, stop = (len(order) * bound // places for bound in (place, place + 1))
        return [self.generated.sample(index, epoch) for index in order[start:stop].tolist()]

    def _rows(self, epoch: int, part: int, start: int, seen: int, stop: int) -> Iterator[Place]:
        """Yield the rows of a part, those of all shards from ``start`` to ``stop``, without the ``seen`` first ones."""
        if self.buffer is None:
            return self._read(range(len(self.shards)), start + seen, stop)
        order = np.random.default_rng((self.seed, epoch)).permutation(len(self.shards)).tolist()
        block, seen = divmod(seen, self.buffer)
        rows = self._read(order, start + block * self.buffer, stop)
        return islice(shuffled(rows, self.buffer, (self.seed, epoch, part), block), seen, None)

    def _read(self, order: Sequence[int], start: int, stop: int) -> Iterator[Place]:
        """Yield the rows ``start`` … ``stop`` of the shards laid end to end in an order."""
        wanted = self.decode.read.columns.names()
        for shard in order:
            rows = self.shards[shard].rows
            if start < rows and stop > 0:
                for row, content in read_rows(self.shards[shard], max(start, 0), min(stop, rows), wanted):
                    yield shard, row, content
            start, stop = start - rows, stop - rows

    def _sample(self, shard: int, row: int, content: Row | str, epoch: int) -> EmotionSample | None:
        """Return what a row holds, None where it cannot be used and such rows are left out."""
        url, where = self.shards[shard].url, f"row {row} of {self.shards[shard].url}"
        if self.on_error == "skip" and f"{url}#{row}" in self.skipped:
            return None
        try:
            number = int(self.first_ids[shard]) + row
            return self.decode(content, where, f"{self.shards[shard].name}#{row}", number, epoch)
        except UniEmoError as error:
            if self.on_error == "raise":
                raise advised(error, where) from error
            self.skipped.add(f"{url}#{row}", error.reason if isinstance(error, UnreadableImageError) else str(error))
            return None


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
            "images": len(stream) + len(stream.chosen),
            "processes": stream.ranks,
            "workers": stream.streams,
            "buffer": stream.buffer,
        }
