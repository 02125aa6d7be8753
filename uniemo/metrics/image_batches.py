"""Image files as batches: each file decoded once, in threads, while the networks run on the batch before."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from uniemo.data.images import read_image
from uniemo.data.transforms import central_box


def read_bytes(path: str | Path, size: int | None = None) -> Tensor:
    """Return a picture's bytes (3, H, W); see :func:`uniemo.data.images.read_image` for what it does and refuses.

    Args:
        path: file.
        size: cut out the middle square and resize it to so many pixels, as evaluation data does; None leaves it as is.
    """
    image = read_image(path)
    if size is not None and image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=central_box(*image.size), reducing_gap=3.0)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def to_unit(images: Tensor) -> Tensor:
    """Return images in [0, 1] of bytes; those in [0, 1] are returned as they are."""
    return images.float().div_(255) if images.dtype == torch.uint8 else images


def same_size_batches(images: Tensor | Sequence[Tensor], batch_size: int) -> Iterator[tuple[list[int], Tensor]]:
    """Yield the numbers of images and the images (b, 3, H, W) in [0, 1], at most ``batch_size`` of one size.

    Args:
        images: (B, 3, H, W), or B tensors (3, H, W) of any sizes; floats in [0, 1] or bytes.
        batch_size: most images in a batch.
    """
    sizes: defaultdict[torch.Size, list[int]] = defaultdict(list)
    for number, image in enumerate(images):
        sizes[image.shape].append(number)
    for same in sizes.values():
        for start in range(0, len(same), batch_size):
            part = same[start : start + batch_size]
            yield part, to_unit(torch.stack([images[number] for number in part]))


def read_batches(
    paths: Sequence[str | Path], batch_size: int = 32, threads: int = 2, size: int | None = None
) -> Iterator[list[Tensor]]:
    """Yield the pictures (3, H, W) of ``paths`` as bytes, in order, ``batch_size`` at a time.

    At most one batch is decoded ahead, and bytes become floats only in the evaluator, a batch at a time, so that memory
    does not grow with the files.

    Args:
        paths: files.
        batch_size: pictures of a batch; the last may have fewer.
        threads: that decode.
        size: see :func:`read_bytes`.
    """
    left = iter(paths)
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[Future[Tensor]] = deque(
            pool.submit(read_bytes, path, size) for path in islice(left, 2 * batch_size)
        )
        try:
            while pending:
                batch = [pending.popleft().result() for _ in range(min(batch_size, len(pending)))]
                pending.extend(pool.submit(read_bytes, path, size) for path in islice(left, batch_size))
                yield batch
        finally:
            for future in pending:
                future.cancel()
