"""Does the generator repeat its training images? The nearest training image to each of a sample of generated ones.

How near is too near depends on the data; therefore real test images, which cannot have been copied, get their nearest
training images too. Nearness is the cosine of CLIP's image features. Memory does not grow with the training images.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from uniemo.cache import atomic_write
from uniemo.data.generated import balanced_choice
from uniemo.data.images import read_image
from uniemo.errors import UniEmoError
from uniemo.metrics.clip_networks import ClipNetwork
from uniemo.metrics.image_batches import read_batches, to_unit
from uniemo.metrics.image_sets import ImageSet
from uniemo.progress_bars import progress_bar

SAMPLE = 64
_SHOWN = 16  # pairs in the picture
_SHARE = 0.95  # of real test images that are below the threshold


def check_memorisation(
    generated: ImageSet,
    real: ImageSet,
    train: ImageSet,
    clip: ClipNetwork,
    sample: int = SAMPLE,
    seed: int = 0,
    batch_size: int = 32,
    workers: int = 2,
) -> dict[str, Any]:
    """Find the training image nearest to each of a sample of generated and of real images; return it as results say it.

    Args:
        generated: to sample from, evenly over emotions.
        real: likewise; images that are not in ``train``.
        train: what the generator was trained on.
        clip: whose features are compared, on its device; images are cut and resized to its size by Pillow.
        sample: images of either kind; all where fewer exist.
        seed: of the samples.
        batch_size: images at a time.
        workers: threads that decode.
    """
    chosen = [_sample(images, sample, seed) for images in (generated, real)]
    files = [images.files(names) for images, names in zip((generated, real), chosen, strict=True)]
    inside = {path.resolve() for path in train.files()} & {path.resolve() for path in files[1]}
    if inside:
        raise UniEmoError(
            f"--train must hold none of the real images that it is compared with; {min(inside)} is in both: give the "
            "training split alone"
        )
    wanted = torch.cat([part for group in files for part, _ in _features(group, clip, batch_size, workers)])
    best = torch.full((len(wanted),), -2.0, device=wanted.device)
    nearest = torch.zeros(len(wanted), dtype=torch.long, device=wanted.device)
    with progress_bar(desc="training images", unit="image", total=len(train), delay=1) as bar:
        for features, start in _features(train.files(), clip, batch_size, workers):
            value, row = (wanted @ features.T).max(dim=1)
            nearer = value > best
            best = torch.where(nearer, value, best)
            nearest = torch.where(nearer, row + start, nearest)
            bar.update(len(features))
    names, similarity = [train.names[row] for row in nearest.tolist()], best.tolist()
    cut = len(chosen[0])
    beyond = np.array(similarity[:cut]) > np.quantile(similarity[cut:], _SHARE)  # about 5 % where nothing is repeated
    return {
        "network": f"{clip.info.name} {clip.info.hash}",
        "seed": seed,
        "train": {"source": train.source, "split": train.split, "images": len(train)},
        "beyond_95_percent_of_real": round(float(beyond.mean()), 4),
        **_nearest("generated", chosen[0], names[:cut], similarity[:cut]),
        **_nearest("real", chosen[1], names[cut:], similarity[cut:]),
    }


def _nearest(prefix: str, images: list[str], training: list[str], similarity: list[float]) -> dict[str, Any]:
    """Return the training image nearest to each image and the cosine of their features, the nearest pairs first."""
    rows = sorted(zip(images, training, similarity, strict=True), key=lambda row: -row[2])
    return {
        f"{prefix}_median": round(float(np.median(similarity)), 4),
        f"{prefix}_max": round(max(similarity), 4),
        f"{prefix}_pairs": [
            {"image": image, "training": name, "similarity": round(cosine, 4)} for image, name, cosine in rows
        ],
    }


def memorisation_line(found: dict[str, Any]) -> str:
    """Say the outcome in a line."""
    return (
        f"memorisation: nearest of {found['train']['images']} training images, median cosine "
        f"{found['generated_median']:.3f} for generated, {found['real_median']:.3f} for real test images; "
        f"{found['beyond_95_percent_of_real']:.0%} of {len(found['generated_pairs'])} generated images are nearer than "
        "95 % of real ones"
    )


def _sample(images: ImageSet, count: int, seed: int) -> list[str]:
    """Return a seeded choice of names, evenly over emotions; the order of files does not matter."""
    order = sorted(zip(images.names, images.emotions, strict=True))
    labels = {name: label for label, name in enumerate(sorted(set(images.emotions)))}
    emotion = np.array([labels[one] for _, one in order], dtype=np.int64)
    return [order[row][0] for row in balanced_choice(emotion, min(count, len(order)), seed)]


@torch.no_grad()
def _features(files: Sequence[Path], clip: ClipNetwork, batch_size: int, workers: int) -> Iterator[tuple[Tensor, int]]:
    """Yield unit features (B, E) and the number of the first file."""
    start = 0
    for images in read_batches(files, batch_size, workers, clip.clip.image_size):
        features = clip(to_unit(torch.stack(images)))["features"]
        bad = (~features.isfinite().all(dim=1)).nonzero().flatten().tolist()
        if bad:
            raise UniEmoError(
                f"features of {clip.info.name} must be finite; those of {files[start + bad[0]]} are not: look at the "
                "image and at the network's weights"
            )
        yield F.normalize(features, dim=1), start
        start += len(features)


def plot_memorisation(found: dict[str, Any], generated: ImageSet, train: ImageSet, path: Path) -> None:
    """Plot the nearest pairs, generated left and training right, and both kinds' similarities below, as a PNG file."""
    from matplotlib.figure import Figure

    pairs = found["generated_pairs"][:_SHOWN]
    columns = min(4, len(pairs))
    rows = -(-len(pairs) // columns)
    picture = Figure(figsize=(2.6 * columns, 1.6 * rows + 2.6), layout="constrained")
    top, bottom = picture.subfigures(2, 1, squeeze=False, height_ratios=(1.6 * rows, 2.6))[:, 0]
    grid = top.subplots(rows, 2 * columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for number, pair in enumerate(pairs):
        row, column = divmod(number, columns)
        left, right = grid[row, 2 * column : 2 * column + 2]
        left.imshow(read_image(generated.root / pair["image"]))
        right.imshow(read_image(train.root / pair["training"]))
        left.set_title(f"{pair['similarity']:.3f}", size=8, loc="left")
    top.suptitle("nearest pairs: generated, training", size=10)
    axes = bottom.subplots()
    both = [[pair["similarity"] for pair in found[f"{side}_pairs"]] for side in ("generated", "real")]
    axes.hist(both, bins=24, label=["generated", "real test"], density=True)
    axes.axvline(np.quantile(both[1], _SHARE), color="k", linestyle=":", label="95 % of real test images are below")
    axes.set(xlabel=f"cosine to the nearest of {len(train)} training images ({found['network']})", yticks=[])
    axes.legend(fontsize=8)
    with atomic_write(path) as temporary:
        picture.savefig(temporary, dpi=120, format="png")
