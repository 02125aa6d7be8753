"""``uniemo classify``: the emotions of photos."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from uniemo.cli import collecting_later
from uniemo.cli.parsing import Parser, check_new_file, number, pick_device
from uniemo.errors import Batch, UniEmoError

if TYPE_CHECKING:
    from torch import Tensor

_DESCRIPTION = """Classify which emotion each photo evokes.

A table on screen shows the two likeliest emotions of each photo; --output writes the probability of every emotion as
JSON Lines. Folders are searched with everything below them. A checkpoint of any stage will do, or of a baseline that
classifies emotions."""

_EXAMPLES = """example:
  uniemo classify --ckpt runs/understanding/best.ckpt photo.jpg holidays/ --output emotions.jsonl
"""


def run(args: list[str]) -> int:
    """Classify; ``args`` begin with the command."""
    parser = Parser("uniemo classify", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="image files and folders of them")
    parser.add_argument("--ckpt", required=True, type=Path, help="checkpoint of any stage or baseline")
    parser.add_argument("--output", type=Path, help="JSON Lines file to write")
    parser.add_argument("--batch_size", type=number(Batch), default=32, help="photos at a time (32)")
    parser.add_shared("device", "trust")
    options = parser.parse_args(args[1:])
    if options.output is not None:
        check_new_file(options.output, "--output")
    with collecting_later():
        files = find_photos(options.photos)
        classify, size, emotions = _load(options)
    rows = _classify(files, classify, size, options)
    print(table([str(file) for file in files], rows, emotions))
    if options.output is not None:
        _write(options.output, files, rows, emotions)
    return 0


def _load(options: argparse.Namespace) -> tuple[Callable[[Tensor], Tensor], int, tuple[str, ...]]:
    """Return the classifier of a checkpoint, the image size that it takes, and its emotions."""
    from uniemo.checkpoint import BASELINE, load_model, read_checkpoint

    device = pick_device(options.device)
    _, info = read_checkpoint(options.ckpt)
    if info.stage == BASELINE:
        from uniemo.baselines.restore import load_classifier

        baseline, size = load_classifier(options.ckpt, options.trust)
        return baseline.to(device).classify, size, info.vocabulary.emotions
    model, _ = load_model(options.ckpt)
    return model.to(device).classify, model.encoder.image_size, info.vocabulary.emotions


def _classify(
    files: list[Path], classify: Callable[[Tensor], Tensor], size: int, options: argparse.Namespace
) -> list[list[float]]:
    """Return the probabilities of each photo."""
    import numpy as np
    import torch

    from uniemo.data.images import read_image
    from uniemo.data.transforms import PairedTransform

    device = pick_device(options.device)
    transform, rng = PairedTransform(size), np.random.default_rng()  # evaluation is not random
    rows: list[list[float]] = []
    for start in range(0, len(files), options.batch_size):
        part = files[start : start + options.batch_size]
        images = torch.stack([transform(read_image(file), rng)[0] for file in part])
        rows += classify(images.to(device)).cpu().tolist()
    return rows


def _write(path: Path, files: list[Path], rows: list[list[float]], emotions: tuple[str, ...]) -> None:
    """Write the probabilities as JSON Lines."""
    from uniemo.cache import atomic_write

    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as stream:
        for file, row in zip(files, rows, strict=True):
            probabilities = dict(zip(emotions, (round(value, 6) for value in row), strict=True))
            best = emotions[row.index(max(row))]
            line = {"file": str(file), "emotion": best, "probabilities": probabilities}
            stream.write(json.dumps(line, ensure_ascii=False) + "\n")


def find_photos(given: list[Path]) -> list[Path]:
    """Return the image files that paths name, folders searched in order of names."""
    from uniemo.data.images import IMAGE_SUFFIXES

    files: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)
            if not inside:
                raise UniEmoError(f"photos must be images or folders of them; {path} holds none: give another folder")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise UniEmoError(f"photos must exist; {path} does not: correct the path")
    return files


def table(names: list[str], rows: list[list[float]], emotions: tuple[str, ...]) -> str:
    """Lay out the two likeliest emotions of each photo."""
    width = min(60, max(len("photo"), *(len(name) for name in names)))
    column = max(len("emotion"), *(len(name) for name in emotions))
    lines = [f"{'photo':<{width}}  {'emotion':<{column}}  {'%':>5}  {'then':<{column}}  {'%':>5}"]
    for name, row in zip(names, rows, strict=True):
        first, second = sorted(range(len(row)), key=row.__getitem__, reverse=True)[:2]
        shown = name if len(name) <= width else "…" + name[-(width - 1) :]
        lines.append(
            f"{shown:<{width}}  {emotions[first]:<{column}}  {100 * row[first]:5.1f}"
            f"  {emotions[second]:<{column}}  {100 * row[second]:5.1f}"
        )
    return "\n".join(lines)
