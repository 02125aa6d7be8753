"""Image features of a dataset: computed once, in batches, and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from uniemo import cache
from uniemo.data.batch import EmotionBatch, EmotionSample
from uniemo.data.loader import collate_readable
from uniemo.data.transforms import denormalise
from uniemo.errors import UniEmoError
from uniemo.progress_bars import progress_bar

if TYPE_CHECKING:
    from uniemo.data.datamodule import EmotionDataModule
    from uniemo.data.dataset import EmotionDataset
    from uniemo.metrics.classifier import Backbone

View = Literal["image", "target"]

SHARD = 4096  # images in one file: at most so many are computed again after an interruption


def views_of(data: EmotionDataModule) -> tuple[View, ...]:
    """Return the views that a classifier learns: the encoder's, and the generator's where that is no finer.

    Pictures with twice as many pixels a side are scaled down to what the network takes, and look like the first view.
    """
    size = data.diffusion_size
    return ("image",) if size is None or size >= 2 * data.image_size else ("image", "target")


def view_of(batch: EmotionBatch, view: View) -> Tensor:
    """Return one view of a batch as images (B, 3, H, W) in [0, 1].

    Args:
        batch: from a loader.
        view: ``image`` is the encoder's, ``target`` the VAE's at the resolution that generated images have.
    """
    if view == "image":
        return denormalise(batch.images)
    if batch.targets is None:
        raise UniEmoError("the target view needs data.diffusion_size; it is null: set it to the generator's size")
    return (batch.targets + 1) / 2


def cached_features(
    network: Backbone,
    loader: DataLoader[EmotionSample],
    views: tuple[View, ...] = ("image",),
    folder: Path | None = None,
    progress: bool = False,
    shard: int = SHARD,
) -> tuple[Tensor, Tensor]:
    """Return a loader's features, from disk where they are there.

    The key is made of files (names, sizes, times of change), labels, view, its size and the network's weights, so that
    a changed image or network never meets old features, and whoever asks for the same ones shares them. They lie in
    files of ``shard`` images, each written whole or not at all: what was interrupted goes on behind the last one.

    Args:
        network: on its device.
        loader: images of an :class:`uniemo.data.dataset.EmotionDataset`; its dataset, batch size and workers are used,
            not its batches.
        views: which views; with several, each image comes once per view, one view after the other. Each image is
            decoded once for all that are missing.
        folder: where features are kept; None takes one in the cache.
        progress: show a bar.
        shard: images in a file.

    Returns:
        Features (V·N, E), not normalised, and labels (V·N,), both on the CPU. Images that the dataset skips since they
        cannot be read have no row.
    """
    dataset: EmotionDataset = loader.dataset  # type: ignore[assignment]
    if "target" in views and dataset.transform.diffusion_size is None:
        raise UniEmoError("the target view needs data.diffusion_size; it is null: set it to the generator's size")
    kind = str(folder or "clip_features")  # a path of its own replaces the cache's
    keys = {view: f"{network.name}-{_key(network, dataset, view, shard)}" for view in views}
    features = {view: torch.empty(len(dataset), network.embed_dim) for view in views}
    emotion = torch.empty(len(dataset), dtype=torch.long)
    count = 0
    desc = f"features of {network.name}"
    with progress_bar(desc=desc, unit="image", total=len(dataset), shown=progress) as bar:
        for number, start in enumerate(range(0, len(dataset), shard)):
            rows = range(start, min(start + shard, len(dataset)))
            compute = lru_cache(partial(_compute, network, loader, rows, views))  # for all views that are missing
            for view in views:
                name = f"{keys[view]}/{number:05d}.safetensors"
                part = load_file(cache.get(kind, name, partial(_write, compute, view)))
                stop = count + len(part["emotion"])
                features[view][count:stop], emotion[count:stop] = part["features"], part["emotion"]
            count = stop
            bar.update(len(rows))
    return torch.cat([part[:count] for part in features.values()]), emotion[:count].repeat(len(views))


def _key(network: Backbone, dataset: EmotionDataset, view: View, shard: int) -> str:
    """Return what a folder of features is named by."""
    pixels = dataset.transform.image_size if view == "image" else dataset.transform.diffusion_size
    normalisation = [torch.as_tensor(value).flatten().tolist() for value in (network.mean, network.std)]
    content = dataset.records.fingerprint()
    return cache.digest(
        [content, dataset.on_error, view, pixels, network.hash, network.image_size, normalisation, shard]
    )


def _write(compute: Callable[[], dict[View, dict[str, Tensor]]], view: View, path: Path) -> None:
    """Write a view's features and labels."""
    path.write_bytes(save(compute()[view]))  # save_file's files are the writer's alone


def _compute(
    network: Backbone, loader: DataLoader[EmotionSample], rows: range, views: tuple[View, ...]
) -> dict[View, dict[str, Tensor]]:
    """Run some rows of a dataset through the network, all missing views of a batch at a time."""
    features: dict[View, list[Tensor]] = {view: [torch.empty(0, network.embed_dim)] for view in views}
    emotion = [torch.empty(0, dtype=torch.long)]
    for batch in _batches(loader, rows):
        emotion.append(batch.emotion)
        for view, parts in features.items():
            part = network.features(view_of(batch, view).to(network.mean.device)).cpu()
            if not part.isfinite().all():
                name = batch.names[int((~part.isfinite()).any(dim=1).nonzero()[0])]
                raise UniEmoError(
                    f"features of {network.name} must be finite; those of {name} are not: look at the network's weights"
                )
            parts.append(part)
    return {view: {"features": torch.cat(parts), "emotion": torch.cat(emotion)} for view, parts in features.items()}


def _batches(loader: DataLoader[EmotionSample], rows: range) -> Iterator[EmotionBatch]:
    """Yield some rows of a loader's dataset in its batch size, without the images that cannot be read."""
    dataset: Subset[EmotionSample] = Subset(loader.dataset, rows)
    for batch in DataLoader(dataset, loader.batch_size, num_workers=loader.num_workers, collate_fn=collate_readable):
        if batch is not None:  # some of its images could be read
            yield batch
