"""Writing generated images with an index that says how each was made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from uniemo.data.generated import write_index


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


def draw_images(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    draw: Callable[[list[dict[str, Any]]], Tensor],
    batch_size: int,
    progress: bool = True,
    keep: int = 8,
) -> dict[str, Tensor]:
    """Draw the images of index rows and write PNGs and ``index.jsonl`` into a folder.

    Args:
        folder: existing or new; callers make it appear at once (``resources.atomic_write``).
        rows: see :func:`plan_images`; rows of the same weights stand together.
        draw: returns (n, 3, H, W) in [0, 1] for n rows of the same weights.
        batch_size: most rows at a time.
        progress: show a progress bar.
        keep: first images of each folder to return, for a grid.

    Returns:
        Images (n, 3, H, W) by folder name.
    """
    kept: dict[str, list[Tensor]] = {}
    start = 0
    with tqdm(total=len(rows), desc="drawing", unit="image", disable=not progress) as bar:
        while start < len(rows):
            weights = rows[start]["weights"]
            part = [row for row in rows[start : start + batch_size] if row["weights"] == weights]
            for row, image in zip(part, draw(part), strict=True):
                path = folder / row["file"]
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = image.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0)  # (H, W, 3)
                Image.fromarray(pixels.cpu().numpy()).save(path)
                shown = kept.setdefault(path.parent.name, [])
                if len(shown) < keep:
                    shown.append(image)
            start += len(part)
            bar.update(len(part))
    write_index(folder / "index.jsonl", rows)
    return {name: torch.stack(images) for name, images in kept.items()}
