"""The one dataset class: a table of records, a transform, and randomness that depends on (seed, epoch, sample) only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, Sampler

from uniemo.data.batch import EmotionSample
from uniemo.data.images import ImageCache
from uniemo.data.transforms import PairedTransform


@dataclass(frozen=True)
class Records:
    """The labels of a list of images; each dataset's file makes these from what lies on disk.

    Attributes:
        root: folder that file names are relative to.
        files: N image files.
        emotion: (N,) int64 class indices.
        scene: (N,) int64 class indices, -1 for none.
        objects: N tuples of object class indices, empty for none.
        num_objects: size of the object vocabulary.
        sample_id: (N,) int64, unique in the split.
        masks: N mask files or None where an image has none; None when the tree has no masks.
        generated: whether a model drew the images.
    """

    root: Path
    files: list[str]
    emotion: NDArray[np.int64]
    scene: NDArray[np.int64]
    objects: list[tuple[int, ...]]
    num_objects: int
    sample_id: NDArray[np.int64]
    masks: list[str | None] | None = None
    generated: bool = False

    def __len__(self) -> int:
        """Return N."""
        return len(self.files)

    def subset(self, indices: Sequence[int] | NDArray[np.int64]) -> Records:
        """Return the records at ``indices``, sample ids unchanged."""
        rows = np.asarray(indices, dtype=np.int64)
        return Records(
            root=self.root,
            files=[self.files[i] for i in rows],
            emotion=self.emotion[rows],
            scene=self.scene[rows],
            objects=[self.objects[i] for i in rows],
            num_objects=self.num_objects,
            sample_id=self.sample_id[rows],
            masks=None if self.masks is None else [self.masks[i] for i in rows],
            generated=self.generated,
        )


class EmotionDataset(Dataset[EmotionSample]):
    """Images of a list of records.

    Args:
        records: files and labels.
        transform: makes the views.
        seed: with epoch and sample id it decides crop and flip.
        images: shared store of decoded pictures; None makes one of its own.
        with_masks: read the masks where the tree has them.
    """

    def __init__(
        self,
        records: Records,
        transform: PairedTransform,
        seed: int = 0,
        images: ImageCache | None = None,
        with_masks: bool = False,
    ) -> None:
        self.records = records
        self.transform = transform
        self.seed = seed
        self.images = images if images is not None else ImageCache(len(records))
        self.with_masks = with_masks and records.masks is not None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.records)

    def __getitem__(self, key: int) -> EmotionSample:
        """Return the sample of ``key = epoch * len(self) + index`` (a plain index is epoch 0)."""
        epoch, index = divmod(int(key), len(self.records))
        return self.sample(index, epoch)

    def sample(self, index: int, epoch: int) -> EmotionSample:
        """Return image ``index`` as it looks in ``epoch``; the same arguments give the same sample."""
        records = self.records
        sample_id = int(records.sample_id[index])
        image = self.images.read(records.root / records.files[index])
        mask = None
        if self.with_masks and records.masks is not None and (name := records.masks[index]) is not None:
            mask = self.images.read(records.root / name, mask=True)
        rng = np.random.default_rng((self.seed, epoch, sample_id))
        view, target, hole = self.transform(image, rng, mask)
        if self.with_masks and hole is None:
            hole = torch.zeros_like(view[:1])
        objects = torch.zeros(records.num_objects, dtype=torch.bool)
        objects[list(records.objects[index])] = True
        return EmotionSample(
            image=view,
            target=target,
            emotion=int(records.emotion[index]),
            scene=int(records.scene[index]),
            objects=objects,
            generated=records.generated,
            sample_id=sample_id,
            name=records.files[index],
            mask=hole,
        )


class EpochSampler(Sampler[int]):
    """Shuffle by (seed, epoch) and hand out ``epoch * num_samples + index``, so that a dataset knows the epoch.

    Lightning calls :meth:`set_epoch` before each epoch and shards the keys over ranks; a resumed run therefore sees
    what an unbroken one would have seen.

    Args:
        num_samples: N.
        seed: of the order.
    """

    def __init__(self, num_samples: int, seed: int = 0) -> None:
        self.num_samples = num_samples
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration belongs to."""
        self.epoch = epoch

    def __len__(self) -> int:
        """Return N."""
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        """Yield one key for each sample."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_samples)
        return iter((order + self.epoch * self.num_samples).tolist())


def choose_per_emotion(emotion: NDArray[np.int64], limit: int, seed: int) -> NDArray[np.int64]:
    """Return sorted indices of at most ``limit`` seeded random samples of each emotion.

    Args:
        emotion: (N,) class indices.
        limit: most samples of one emotion.
        seed: of the choice.
    """
    chosen = []
    for label in np.unique(emotion):
        rows = np.flatnonzero(emotion == label)
        order = np.random.default_rng((seed, int(label))).permutation(len(rows))
        chosen.append(rows[order[:limit]])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)
