"""CLIP's image features of a dataset: computed once, in batches, and kept."""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from uniemo.cache import atomic_write, cache_dir
from uniemo.data.batch import EmotionBatch, EmotionSample
from uniemo.data.skipped import collate_readable
from uniemo.data.transforms import denormalise
from uniemo.errors import UniEmoError
from uniemo.metrics.networks import FrozenClip

if TYPE_CHECKING:
    from uniemo.data.dataset import EmotionDataset

View = Literal["image", "target"]

_FORMAT = 1  # of the shards; part of their key
SHARD = 4096  # images in one file: at most so many are computed again after an interruption


def view_of(batch: EmotionBatch, view: View) -> Tensor:
    """Return one view of a batch as images (B, 3, H, W) in [0, 1].

    Args:
        batch: from a loader.
        view: ``image`` is the encoder's, ``target`` the VAE's at the resolution that generated images have.

    Raises:
        UniEmoError: the target view asked for and the batch has none.
    """
    if view == "image":
        return denormalise(batch.images)
    if batch.targets is None:
        raise UniEmoError("the target view needs data.diffusion_size; it is null: set it to the generator's size")
    return (batch.targets + 1) / 2


def collect_features(
    clip: FrozenClip, loader: DataLoader[EmotionSample], views: tuple[View, ...] = ("image",)
) -> tuple[Tensor, Tensor]:
    """Run a loader's images through the CLIP.

    Args:
        clip: the network, on its device.
        loader: images.
        views: which views; with several, each image comes once per view, one view after the other.

    Returns:
        Features (V·N, E), not normalised, and labels (V·N,), both on the CPU.
    """
    features: list[list[Tensor]] = [[] for _ in views]
    labels: list[Tensor] = []
    for batch in loader:
        labels.append(batch.emotion)
        for part, view in zip(features, views, strict=True):
            part.append(_features(clip, batch, view))
    return torch.cat([torch.cat(part) for part in features]), torch.cat(labels).repeat(len(views))


def cached_features(
    clip: FrozenClip,
    loader: DataLoader[EmotionSample],
    views: tuple[View, ...] = ("image",),
    folder: Path | None = None,
    progress: bool = False,
    shard: int = SHARD,
) -> tuple[Tensor, Tensor]:
    """Do what :func:`collect_features` does, but keep the features on disk and read them where they are there.

    The key is made of files (names, sizes, times of change), labels, view, its size and the CLIP's weights, so that a
    changed image or network never meets old features, and whoever asks for the same ones shares them. They lie in files
    of ``shard`` images, each written whole or not at all: what was interrupted goes on behind the last one, and what is
    kept in memory is the result and one shard.

    Args:
        clip: the network, on its device.
        loader: images of an :class:`uniemo.data.dataset.EmotionDataset`; it is asked for its dataset, its batch size
            and its workers, not for batches.
        views: as for :func:`collect_features`; each image is decoded once for all that are missing.
        folder: where features are kept; None takes one in the cache.
        progress: show a bar where something is to be computed.
        shard: images in a file.

    Returns:
        As :func:`collect_features`. Images that the dataset leaves out because they cannot be read have no row.

    Raises:
        UniEmoError: a view that the data does not have, or features that are not finite.
    """
    dataset: EmotionDataset = loader.dataset  # type: ignore[assignment]
    if "target" in views and dataset.transform.diffusion_size is None:
        raise UniEmoError("the target view needs data.diffusion_size; it is null: set it to the generator's size")
    stores = [_Store(clip, dataset, view, folder or cache_dir() / "clip_features", shard) for view in views]
    with ExitStack() as stack:
        for path in sorted({f"{store.folder}.lock" for store in stores}):  # sorted, so that nobody waits in a ring
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(path))
        missing = {number: lacking for number in range(stores[0].shards) if (lacking := _lacking(stores, number))}
        if missing:
            _compute(clip, loader, missing, progress)
        parts = [store.read() for store in stores]
    return torch.cat([part[0] for part in parts]) if len(parts) > 1 else parts[0][0], torch.cat([p[1] for p in parts])


class _Store:
    """The files of one view's features.

    Args:
        clip: whose features.
        dataset: of which images.
        view: of each.
        root: folder of all stores.
        size: images in a file.
    """

    def __init__(self, clip: FrozenClip, dataset: EmotionDataset, view: View, root: Path, size: int) -> None:
        pixels = dataset.transform.image_size if view == "image" else dataset.transform.diffusion_size
        normalisation = [clip.mean.flatten().tolist(), clip.std.flatten().tolist()]
        parts = [_FORMAT, dataset.records.fingerprint(), view, pixels, clip.hash, clip.image_size, normalisation, size]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
        self.folder = root / f"{clip.name}-{key}"
        self.view: View = view
        self.width = clip.embed_dim
        self.size = size
        self.images = len(dataset)
        self.shards = -(-self.images // size)
        self.may_lack = dataset.on_error == "skip"

    def rows(self, number: int) -> range:
        """Return which images belong into a file."""
        return range(number * self.size, min((number + 1) * self.size, self.images))

    def path(self, number: int) -> Path:
        """Return a file's place."""
        return self.folder / f"{number:05d}.safetensors"

    def count(self, number: int) -> int | None:
        """Return how many images a file has; None where it is missing, damaged, or lacks images that must be there."""
        try:
            with safe_open(self.path(number), framework="pt") as file:
                rows, width = file.get_slice("features").get_shape()
        except (OSError, SafetensorError):
            return None
        whole = rows == len(self.rows(number)) or self.may_lack
        return rows if whole and width == self.width else None

    def write(self, number: int, features: list[Tensor], emotion: list[Tensor]) -> None:
        """Write a file."""
        tensors = {
            "features": torch.cat(features) if features else torch.zeros(0, self.width),
            "emotion": torch.cat(emotion) if emotion else torch.zeros(0, dtype=torch.long),
        }
        with atomic_write(self.path(number)) as temporary:
            temporary.write_bytes(save(tensors))  # save_file's files are the writer's alone

    def read(self) -> tuple[Tensor, Tensor]:
        """Return features (N, E) and labels (N,) of all files."""
        counts = [self.count(number) or 0 for number in range(self.shards)]
        features = torch.empty(sum(counts), self.width)
        emotion = torch.empty(sum(counts), dtype=torch.long)
        start = 0
        for number, count in enumerate(counts):
            with safe_open(self.path(number), framework="pt") as file:
                features[start : start + count] = file.get_tensor("features")
                emotion[start : start + count] = file.get_tensor("emotion")
            start += count
        return features, emotion


def _lacking(stores: list[_Store], number: int) -> list[_Store]:
    """Return the stores that have no file of this number."""
    return [store for store in stores if store.count(number) is None]


def _compute(
    clip: FrozenClip, loader: DataLoader[EmotionSample], missing: dict[int, list[_Store]], progress: bool
) -> None:
    """Run the images of the missing files through the CLIP and write each file when it is full."""
    any_store = next(iter(missing.values()))[0]
    size = loader.batch_size or 1
    batches = [
        (number, rows[start : start + size], start + size >= len(rows))
        for number in missing
        for rows in [any_store.rows(number)]
        for start in range(0, len(rows), size)
    ]
    runner = DataLoader(
        loader.dataset,
        batch_sampler=[list(rows) for _, rows, _ in batches],
        num_workers=loader.num_workers,
        collate_fn=collate_readable,
    )
    left = sum(len(rows) for _, rows, _ in batches)
    bar = tqdm(
        total=any_store.images,
        initial=any_store.images - left,
        desc=f"features of {clip.name}",
        unit="image",
        disable=not progress,
    )
    held: dict[View, list[Tensor]] = {}
    emotion: list[Tensor] = []
    with bar:
        for (number, rows, last), batch in zip(batches, runner, strict=True):
            if batch is not None:  # some of its images could be read
                emotion.append(batch.emotion)
                for store in missing[number]:
                    held.setdefault(store.view, []).append(_features(clip, batch, store.view))
            if last:
                for store in missing[number]:
                    store.write(number, held.get(store.view, []), emotion)
                held, emotion = {}, []
            bar.update(len(rows))


def _features(clip: FrozenClip, batch: EmotionBatch, view: View) -> Tensor:
    """Return (B, E) features of a batch on the CPU.

    Raises:
        UniEmoError: some are not finite.
    """
    features = clip.features(view_of(batch, view).to(clip.mean.device)).cpu()
    if not features.isfinite().all():
        name = batch.names[int((~features.isfinite()).any(dim=1).nonzero()[0])]
        raise UniEmoError(
            f"features of {clip.name} must be finite; those of {name} are not: look at the CLIP's weights"
        )
    return features
