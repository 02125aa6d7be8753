"""How several processes share the images of a pass that no optimiser follows."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import BatchSampler, DataLoader, SequentialSampler

from uniemo.data.batch import EmotionBatch, EmotionSample
from uniemo.data.skipped import collate_readable
from uniemo.distributed import get_rank, get_world_size


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
