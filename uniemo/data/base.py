"""The Lightning data module that every dataset fills in with three methods."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from uniemo.data.batch import EmotionSample, collate
from uniemo.data.dataset import EmotionDataset, EpochSampler, Records, choose_per_emotion
from uniemo.data.generated import GeneratedImageDataset, MixedDataset, check_proportion
from uniemo.data.images import ImageCache
from uniemo.data.transforms import PairedTransform
from uniemo.errors import UniEmoError
from uniemo.resources import resolve
from uniemo.vocabulary import Vocabulary

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
_STAGE_SPLITS: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


def _at_least(name: str, value: float | None, low: float) -> None:
    """Raise UniEmoError when a given number is below ``low``."""
    if value is not None and value < low:
        raise UniEmoError(f"data.{name} must be at least {low}; got {value}")


class EmotionDataModule(L.LightningDataModule):
    """Images with emotion labels and, where the dataset has them, scene and object attributes.

    Args:
        root: folder of the dataset, or ``miniature:emoset``.
        image_size: pixels of the encoder's view; the CLIP's own input size.
        diffusion_size: pixels of the VAE's view; null leaves it out (stage 1 does not need it).
        batch_size: training images per step and device.
        eval_batch_size: images per step in validation and test; null takes batch_size.
        num_workers: loader processes; 0 loads in the training process and keeps small datasets decoded in memory.
        seed: of shuffling, crops, flips and every choice of a subset.
        crop_scale: smallest and largest area of a training crop, as a share of the largest square.
        generated: index (.jsonl) of kept generated images, or the folder that holds it, to mix into training.
        proportion: share of generated images in the mixed training set.
        limit_train: use at most this many training images, a seeded choice.

    Raises:
        UniEmoError: a value out of its range.
    """

    def __init__(
        self,
        root: str,
        image_size: int = 224,
        diffusion_size: int | None = 512,
        batch_size: int = 128,
        eval_batch_size: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
        crop_scale: tuple[float, float] = (0.7, 1.0),
        generated: str | None = None,
        proportion: float = 0.2,
        limit_train: int | None = None,
    ) -> None:
        super().__init__()
        for name, value, low in (
            ("image_size", image_size, 1),
            ("diffusion_size", diffusion_size, 1),
            ("batch_size", batch_size, 1),
            ("eval_batch_size", eval_batch_size, 1),
            ("num_workers", num_workers, 0),
            ("seed", seed, 0),
            ("limit_train", limit_train, 1),
        ):
            _at_least(name, value, low)
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise UniEmoError(f"data.crop_scale must satisfy 0 < low <= high <= 1; got {list(crop_scale)}")
        check_proportion(proportion)
        self.root = root
        self.image_size = image_size
        self.diffusion_size = diffusion_size
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.generated = generated
        self.proportion = proportion
        self.limit_train = limit_train
        self._train_transform = PairedTransform(image_size, diffusion_size, train=True, crop_scale=crop_scale)
        self._eval_transform = PairedTransform(image_size, diffusion_size)
        self._checked: set[Split] = set()
        self._records: dict[Split, Records] = {}
        self._caches: dict[Split, ImageCache] = {}
        self._mixed: Dataset[EmotionSample] | None = None

    # What a dataset fills in.

    @abstractmethod
    def check_tree(self, splits: tuple[Split, ...]) -> None:
        """Raise UniEmoError unless the tree is there and lists existing images in each of the splits; cheap."""

    @abstractmethod
    def read_vocabulary(self) -> Vocabulary:
        """Return the dataset's names."""

    @abstractmethod
    def read_records(self, split: Split) -> Records:
        """Return the split's files and labels; sample ids count from 0."""

    # What users call.

    @cached_property
    def path(self) -> Path:
        """The folder of the dataset; the miniature is painted at first use."""
        return resolve(self.root)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Emotion, scene and object names."""
        self.check(())
        return self.read_vocabulary()

    def check(self, splits: tuple[Split, ...] = SPLITS) -> None:
        """Find out cheaply whether the data can be used, before any work.

        Args:
            splits: the ones that will be used.

        Raises:
            UniEmoError: missing or empty root, missing split or image, unusable index of generated images.
        """
        new = tuple(split for split in splits if split not in self._checked)
        if not new and self._checked:
            return
        if not self.path.is_dir():
            raise UniEmoError(f"data.root must be an existing folder; got {self.root}: correct --data.root")
        if next(self.path.iterdir(), None) is None:
            raise UniEmoError(f"data.root must hold a dataset; {self.root} is empty: correct --data.root")
        self.check_tree(new)
        self._checked.update(new)
        if "train" in new and self.generated is not None:
            GeneratedImageDataset(self.generated, self.vocabulary, self._train_transform)

    def prepare_data(self) -> None:
        """Check the tree once, on one process (Lightning's hook)."""
        self.check()

    def setup(self, stage: str) -> None:
        """Read the labels that a stage needs (Lightning's hook).

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        for split in _STAGE_SPLITS[stage]:
            self.records(split)

    def records(self, split: Split) -> Records:
        """Return the split's files and labels, read once; training is cut to ``limit_train``."""
        if split not in self._records:
            self.check((split,))
            records = self.read_records(split)
            if split == "train" and self.limit_train is not None and self.limit_train < len(records):
                order = np.random.default_rng((self.seed, self.limit_train)).permutation(len(records))
                records = records.subset(np.sort(order[: self.limit_train]))
            self._records[split] = records
            self._caches[split] = ImageCache(len(records))
        return self._records[split]

    def dataset(self, split: Split, train: bool = False, with_masks: bool = False) -> EmotionDataset:
        """Return the split's real images.

        Args:
            split: which images.
            train: with random crops and flips.
            with_masks: read masks where the tree has them.
        """
        records = self.records(split)
        transform = self._train_transform if train else self._eval_transform
        return EmotionDataset(records, transform, self.seed, self._caches[split], with_masks)

    def train_dataset(self) -> Dataset[EmotionSample]:
        """Return the training images, generated ones mixed in where an index is set."""
        real = self.dataset("train", train=True)
        if self.generated is None:
            return real
        if self._mixed is None:
            # Ids go on after every real training image's, those left out by limit_train included.
            first_id = int(real.records.sample_id.max()) + 1
            extra = GeneratedImageDataset(self.generated, self.vocabulary, self._train_transform, self.seed, first_id)
            self._mixed = MixedDataset(real, extra, self.proportion, self.seed)
        return self._mixed

    def set_generated(self, index: str | Path | None, proportion: float | None = None) -> None:
        """Choose the generated images for training; takes effect when the training loader is made again.

        Args:
            index: ``.jsonl`` file or its folder; None trains on real images only.
            proportion: share of generated images; None keeps the present one.

        Raises:
            UniEmoError: an unusable index or proportion; the old choice then stays.
        """
        proportion = self.proportion if proportion is None else proportion
        check_proportion(proportion)
        if index is not None:
            GeneratedImageDataset(index, self.vocabulary, self._train_transform)
        self.generated = None if index is None else str(index)
        self.proportion = proportion
        self._mixed = None

    def fingerprint(self, split: Split) -> str:
        """Return 12 hex digits that change with the split's files, labels or view sizes."""
        records = self.records(split)
        digest = hashlib.sha256(f"{self.image_size} {self.diffusion_size}".encode())
        for name, label in zip(records.files, records.emotion.tolist(), strict=True):
            digest.update(f"{name} {label} {(records.root / name).stat().st_size}\n".encode())
        return digest.hexdigest()[:12]

    # Loaders.

    def _loader(
        self, dataset: Dataset[EmotionSample], batch_size: int, sampler: Sampler[int] | None = None
    ) -> DataLoader[EmotionSample]:
        """Return a loader; in order without a sampler."""
        return DataLoader(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate,
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[EmotionSample]:
        """Return shuffled, augmented training images."""
        dataset = self.train_dataset()
        sampler = EpochSampler(len(dataset), self.seed)  # type: ignore[arg-type]
        return self._loader(dataset, self.batch_size, sampler)

    def val_dataloader(self) -> DataLoader[EmotionSample]:
        """Return the validation images, with masks where the tree has them."""
        return self._loader(self.dataset("val", with_masks=True), self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[EmotionSample]:
        """Return the test images, with masks where the tree has them."""
        return self._loader(self.dataset("test", with_masks=True), self.eval_batch_size)

    def predict_dataloader(self) -> DataLoader[EmotionSample]:
        """Return the test images."""
        return self._loader(self.dataset("test"), self.eval_batch_size)

    def evaluation_loader(
        self, split: Split, limit_per_emotion: int | None = None, generated: bool = False
    ) -> DataLoader[EmotionSample]:
        """Return images in file order without augmentation.

        Args:
            split: which images.
            limit_per_emotion: at most so many of each emotion, a seeded choice; null takes all.
            generated: for ``train``, the generated images that are mixed in instead of the real ones.

        Raises:
            UniEmoError: generated images asked for where none are set.
        """
        if generated:
            if self.generated is None or split != "train":
                raise UniEmoError(
                    "evaluation_loader(generated=True) needs split train and data.generated; set it first"
                )
            dataset: EmotionDataset = GeneratedImageDataset(
                self.generated, self.vocabulary, self._eval_transform, self.seed
            )
        else:
            dataset = self.dataset(split, with_masks=split != "train")
        if limit_per_emotion is not None:
            chosen = choose_per_emotion(dataset.records.emotion, limit_per_emotion, self.seed)
            dataset = EmotionDataset(
                dataset.records.subset(chosen), dataset.transform, self.seed, dataset.images, dataset.with_masks
            )
        return self._loader(dataset, self.eval_batch_size)
