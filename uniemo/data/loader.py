"""Loaders that pass over unreadable images, resume within an epoch, and share a pass among processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from uniemo.data.batch import EmotionBatch, EmotionSample, collate
from uniemo.distributed import get_rank, get_world_size
from uniemo.errors import UniEmoError


def collate_readable(samples: Sequence[EmotionSample | None]) -> EmotionBatch | None:
    """Put samples together, those left out aside; None when nothing is left."""
    readable = [sample for sample in samples if sample is not None]
    return collate(readable) if readable else None


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
            if batch is None and get_world_size() > 1:
                raise UniEmoError(
                    "a batch must hold a readable image on every rank; one holds none: remove the unreadable images "
                    "(uniemo data check lists them) or take larger batches"
                )
            if batch is not None or self.keep_empty:
                yield batch

    def _all_batches(self) -> Iterator[EmotionBatch | None]:
        """Yield what DataLoader makes."""
        yield from super().__iter__()


_SIZES = {
    "batch": "data.batch_size × processes",
    "images": "the number of training images",
    "processes": "the number of processes",
    "workers": "data.num_workers",
    "buffer": "data.shuffle_buffer",
}


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
        """Begin the epoch of a :meth:`state_dict` where that was taken; other epochs begin at their beginning.

        Raises:
            UniEmoError: it lacks a count, or has one below 0.
        """
        counts = state_dict if isinstance(state_dict, dict) else {}
        for name in ("epoch", "batches", *self._sizes()):
            if not isinstance(counts.get(name), int) or counts[name] < 0:
                raise UniEmoError(
                    f"checkpoint must hold how far its epoch was; its count {name} is {counts.get(name)!r}: it is "
                    "damaged, take another"
                )
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
        return {"batch": int(self.batch_size or 1) * get_world_size(), "images": len(self.dataset)}  # type: ignore[arg-type]


def numbered_share(loader: DataLoader[EmotionSample]) -> Iterator[tuple[int, EmotionBatch]]:
    """Yield every R-th batch of a loader, those of this rank, each with its number.

    The batches are those that one process would take, so that what a network makes of them is the same to the bit. A
    rank may get fewer than another, or none; batches of which nothing could be read are left out.

    Args:
        loader: in file order; it is asked for its dataset, its batch size and its workers, not for batches.
    """
    rank, ranks = get_rank(), get_world_size()
    dataset = loader.dataset
    rows = list(BatchSampler(SequentialSampler(dataset), loader.batch_size or 1, drop_last=False))  # type: ignore[arg-type]
    share = DataLoader(
        dataset,
        batch_sampler=rows[rank::ranks],
        num_workers=loader.num_workers,
        collate_fn=collate_readable,
    )
    for number, batch in zip(range(rank, len(rows), ranks), share, strict=True):
        if batch is not None:
            yield number, batch
