"""Generate folders of images with an index of how each was made, in one process or in several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from torch import Tensor

from uniemo.cache import atomic_write
from uniemo.data.generated import write_index
from uniemo.data.images import load_images, verify_image
from uniemo.distributed import broadcast, even_batches, gather, get_rank, get_world_size
from uniemo.generation.grids import to_pil
from uniemo.progress_bars import progress_bar

_WRITERS = 4  # threads that compress PNGs while the next batch is generated


def plan_images(weights: dict[str, float], num: int, seed: int) -> list[dict[str, Any]]:
    """Return index rows for ``num`` images of an emotion or a mixture.

    Args:
        weights: weight by emotion name; one name for a plain emotion.
        num: how many.
        seed: image i has seed ``seed + i``.

    Returns:
        Rows with ``file`` (a folder per emotion or mixture), ``emotion`` (None for a mixture), ``weights`` and
        ``seed``.
    """
    folder = "+".join(weights)
    digits = max(5, len(str(num - 1)))
    return [
        {
            "file": f"{folder}/{number:0{digits}d}.png",
            "emotion": folder if len(weights) == 1 else None,
            "weights": weights,
            "seed": seed + number,
        }
        for number in range(num)
    ]


def generate_images(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    generate: Callable[[Sequence[dict[str, Any]]], Tensor],
    batch_size: int,
    progress: bool = True,
) -> None:
    """Generate the images of index rows and write PNGs and, at the end, ``index.jsonl`` into a folder.

    Of several ranks each generates its share, into a folder that all of them see; every rank calls this with the same
    rows. Whole images that are in the folder already are kept. Batches are always those of all rows, so that what is
    missing comes out bit for bit as it would have at first: how a network rounds depends on the size of its batch. Only
    one batch of images is in memory.

    Args:
        folder: existing or new; callers make it appear at once (:func:`uniemo.generation.partial.partial_folder`,
            :func:`uniemo.cache.atomic_write`).
        rows: see :func:`plan_images`.
        generate: returns (n, 3, H, W) in [0, 1] for n rows, each image by its own row alone.
        batch_size: most rows at a time.
        progress: show a progress bar; the first rank's moves as if all were as quick.
    """
    rank, ranks = get_rank(), get_world_size()
    missing = [number for number, row in enumerate(rows) if verify_image(folder / row["file"])] if rank == 0 else []
    missing = broadcast(missing)  # before anybody writes
    for name in {str(Path(row["file"]).parent) for row in rows}:
        (folder / name).mkdir(parents=True, exist_ok=True)
    open_rows, numbers = set(missing), range(len(rows))
    shares = [even_batches(numbers[one::ranks], len(rows), batch_size) for one in range(ranks)]
    # every rank takes part in a batch of which some rank lacks an image: they may share a network's weights
    steps = [parts for parts in zip_longest(*shares, fillvalue=()) if not open_rows.isdisjoint(chain(*parts))]
    done = len(rows) - len(missing)
    bar = progress_bar(desc="generating", unit="image", total=len(rows), shown=progress, initial=done)
    with ThreadPoolExecutor(_WRITERS) as pool, bar:
        writing: list[Future[None]] = []
        for parts in steps:
            images = generate([rows[number] for number in parts[rank]]).cpu() if parts[rank] else ()
            for written in writing:
                written.result()
            writing = [
                pool.submit(_write, folder / rows[number]["file"], image)
                for number, image in zip(parts[rank], images, strict=True)
                if number in open_rows
            ]
            bar.update(len(open_rows.intersection(chain(*parts))))
        for written in writing:
            written.result()
    gather(None)  # all images are there
    if rank == 0:
        write_index(folder / "index.jsonl", rows)


def first_images(folder: Path, rows: Sequence[dict[str, Any]], count: int = 8) -> dict[str, Tensor]:
    """Read the first ``count`` images of each folder that rows name: (n, 3, H, W) in [0, 1] by its name."""
    files: dict[str, list[Path]] = {}
    for row in rows:
        path = folder / row["file"]
        shown = files.setdefault(path.parent.name, [])
        if len(shown) < count:
            shown.append(path)
    return {name: load_images(paths) for name, paths in files.items()}


def _write(path: Path, image: Tensor) -> None:
    """Write an image (3, H, W) in [0, 1] as PNG, whole or not at all."""
    with atomic_write(path) as temporary:
        to_pil(image).save(temporary, format="PNG")
