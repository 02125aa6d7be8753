"""``uniemo classify``: the emotions of photos."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from uniemo.cli import collecting_later
from uniemo.cli.parsing import Parser, check_new_file, number, pick_device
from uniemo.errors import Batch, UniEmoError
from uniemo.vocabulary import Vocabulary, output_row

if TYPE_CHECKING:
    from torch import Tensor

    Classify = Callable[[Tensor], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class Emotions:
    """What a model says of a photo.

    Attributes:
        probabilities: of each emotion.
        affect: valence and arousal, on the scale of the model's vocabulary; None of a model without a head for them.
    """

    probabilities: list[float]
    affect: list[float] | None = None


Result = Emotions | str  # or why a photo cannot be read

_DESCRIPTION = """Classify which emotion each photo evokes.

A table on screen shows the two likeliest emotions of each photo, and valence and arousal where the model was trained on
them; --output writes the probability of every emotion as JSON Lines, which gather in OUTPUT.partial until all are
there. Folders are searched with those inside them. A photo that cannot be read gets a row with its error. A checkpoint
of any stage will do, or of a baseline that classifies emotions."""

_EXAMPLES = """exit code:
  0  every photo is classified
  1  some cannot be read; all others are classified
  2  nothing can be classified; the last line says why

example:
  uniemo classify --ckpt runs/understanding/best.ckpt photo.jpg holidays/ --output emotions.jsonl
"""


def run(args: list[str]) -> int:
    """Classify; ``args`` begin with the command."""
    parser = Parser("uniemo classify", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO", help="image files and folders of them")
    parser.add_argument("--ckpt", required=True, type=Path, help="checkpoint of any stage or baseline")
    parser.add_argument("--output", type=Path, help="JSON Lines file to write")
    parser.add_argument("--batch_size", type=number(Batch), default=32, help="photos at a time (32)")
    parser.add_shared("device", "follow_links", "trust")
    options = parser.parse_args(args[1:])
    if options.output is not None:
        check_new_file(options.output, "--output")
    with collecting_later():
        files = find_photos(options.photos, options.follow_links)
        classify, size, vocabulary = _load(options)
    bad = _report(files, _classify(files, classify, size, options), vocabulary, options.output)
    if bad:
        file, reason = next(iter(bad.items()))
        print(f"{len(bad)} of {len(files)} photos cannot be read, first {file} ({reason})", file=sys.stderr)
    return 1 if bad else 0


def _load(options: argparse.Namespace) -> tuple[Classify, int, Vocabulary]:
    """Return the classifier of a checkpoint, the image size that it takes, and its vocabulary."""
    from uniemo.checkpoint import BASELINE, build_model, read_checkpoint

    device = pick_device(options.device)
    content, info = read_checkpoint(options.ckpt)
    if info.stage == BASELINE:
        from uniemo.baselines.restore import build_classifier

        baseline, size = build_classifier(content, info, options.trust)
        return baseline.to(device).outputs, size, replace(info.vocabulary, affect=None)
    model = build_model(content, info, trust=options.trust)
    return model.to(device).outputs, model.encoder.image_size, info.vocabulary


def _classify(files: list[Path], classify: Classify, size: int, options: argparse.Namespace) -> Iterator[Result]:
    """Yield what the model says of each photo, or why it cannot be read."""
    import numpy as np
    import torch

    from uniemo.data.images import UnreadableImageError, read_image
    from uniemo.data.transforms import PairedTransform

    device = pick_device(options.device)
    transform, rng = PairedTransform(size), np.random.default_rng()  # evaluation is not random
    for start in range(0, len(files), options.batch_size):
        found: list[Tensor | str] = []
        for file in files[start : start + options.batch_size]:
            try:
                found.append(transform(read_image(file), rng)[0])
            except UnreadableImageError as error:
                found.append(error.reason)
        images = [one for one in found if not isinstance(one, str)]
        rows = iter(_outputs(classify, torch.stack(images).to(device)) if images else ())
        yield from (one if isinstance(one, str) else next(rows) for one in found)


def _outputs(classify: Classify, images: Tensor) -> list[Emotions]:
    """Return what the model says of (B, 3, R, R) CLIP-normalised images."""
    import torch

    from uniemo.models.state import check_scores

    with torch.no_grad():
        logits, affect = classify(images)
    probabilities = logits.softmax(dim=-1)
    check_scores(probabilities.isfinite().all(dim=1), "emotion probabilities")
    if affect is None:
        return [Emotions(row) for row in probabilities.tolist()]
    check_scores(affect.isfinite().all(dim=1), "valence and arousal")
    return [Emotions(*row) for row in zip(probabilities.tolist(), affect.tolist(), strict=True)]


def _report(
    files: list[Path], results: Iterable[Result], vocabulary: Vocabulary, output: Path | None
) -> dict[Path, str]:
    """Print and write results as they come; return the photos that cannot be read, each with the reason."""
    from uniemo.cache import to_json

    bad: dict[Path, str] = {}
    head, lines = table([str(file) for file in files], results, vocabulary)
    print(head, flush=True)
    with nullcontext() if output is None else _growing(output) as stream:
        for file, (result, line) in zip(files, lines, strict=True):
            print(line, flush=True)
            if isinstance(result, str):
                bad[file] = result
            if stream is not None:
                stream.write(to_json(_row(file, result, vocabulary)))
    return bad


@contextmanager
def _growing(path: Path) -> Iterator[TextIO]:
    """Yield a file ``<path>.partial`` that is ``path`` when the block ends, and stays with what it has otherwise."""
    partial = path.with_name(f"{path.name}.partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with partial.open("w", encoding="utf-8", buffering=1) as stream:  # a line at a time
            yield stream
    except BaseException:
        if partial.is_file() and partial.stat().st_size:
            print(f"what is classified so far is in {partial}", file=sys.stderr)
        else:
            partial.unlink(missing_ok=True)
        raise
    partial.replace(path)


def _row(file: Path, result: Result, vocabulary: Vocabulary) -> dict[str, Any]:
    """Return what is written about a photo."""
    if isinstance(result, str):
        return {"file": str(file), "error": result}
    return {"file": str(file), **output_row(vocabulary, result.probabilities, result.affect)}


def find_photos(given: list[Path], follow_links: bool = False) -> list[Path]:
    """Return the image files that paths name, folders searched in order of names."""
    from uniemo.data.files import images_below, passed_over
    from uniemo.data.inside import check_inside

    files: list[Path] = []
    passed: Counter[str] = Counter()
    for path in given:
        if path.is_dir():
            inside = images_below(path, "", passed=passed)
            if not inside:
                raise UniEmoError(f"photos must be images or folders of them; {path} holds none: give another folder")
            if not follow_links:
                check_inside(path, inside, "photos")
            files += [path / name for name in inside]
        elif path.is_file():
            files.append(path)
        else:
            raise UniEmoError(f"photos must exist; {path} does not: correct the path")
    for line in passed_over(passed):
        print(line, file=sys.stderr)
    return files


def table(
    names: list[str], results: Iterable[Result], vocabulary: Vocabulary
) -> tuple[str, Iterator[tuple[Result, str]]]:
    """Lay out the two likeliest emotions of each photo, its valence and arousal.

    Returns:
        The head, and each result with its line as it comes.
    """
    emotions, scale = vocabulary.emotions, vocabulary.affect
    axes = [] if scale is None else [f"{axis} [{scale[0]:g}, {scale[1]:g}]" for axis in ("valence", "arousal")]
    width = min(60, max(len("photo"), *(len(name) for name in names)))
    column = max(len("emotion"), *(len(name) for name in emotions))

    def line(name: str, result: Result) -> str:
        shown = name if len(name) <= width else "…" + name[-(width - 1) :]
        if isinstance(result, str):
            return f"{shown:<{width}}  cannot be read: {result}"
        shares = result.probabilities
        first, second = sorted(range(len(shares)), key=shares.__getitem__, reverse=True)[:2]
        affect = zip(axes, result.affect or (), strict=True)
        return (
            f"{shown:<{width}}  {emotions[first]:<{column}}  {100 * shares[first]:5.1f}"
            f"  {emotions[second]:<{column}}  {100 * shares[second]:5.1f}"
            + "".join(f"  {value:{len(axis)}.2f}" for axis, value in affect)
        )

    head = f"{'photo':<{width}}  {'emotion':<{column}}  {'%':>5}  {'then':<{column}}  {'%':>5}"
    head += "".join(f"  {axis}" for axis in axes)
    return head, ((result, line(name, result)) for name, result in zip(names, results, strict=True))
