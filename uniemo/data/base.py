"""The Lightning data module that every dataset shares; they differ in how their trees are read."""

from __future__ import annotations

import hashlib
import warnings
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import lightning as L
import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from uniemo.data.batch import EmotionSample
from uniemo.data.dataset import EmotionDataset, EpochSampler, Records, choose_per_emotion
from uniemo.data.generated import GeneratedImageDataset, MixedDataset, check_proportion
from uniemo.data.images import ImageCache
from uniemo.data.latent_cache import LatentCache, LatentEncoder
from uniemo.data.listing import SPLITS, Split
from uniemo.data.skipped import EmotionLoader, SkippedFiles, TrainingLoader, collate_readable
from uniemo.data.splits import FRACTIONS
from uniemo.data.transforms import PairedTransform
from uniemo.data.tree import Choices, Tree
from uniemo.distributed import is_first
from uniemo.errors import UniEmoError
from uniemo.miniature.paths import resolve
from uniemo.vocabulary import Vocabulary

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
        crop: ``random``, or ``central``: training takes the central square, as evaluation does, and a random flip.
        cached_latents: for stages 2 and 3: run the VAE once on each training image and its mirror image and keep what
            it gives on disk, in ``latents/`` of the cache folder. It needs one view for each image: ``crop`` is then
            ``central``, whatever is set.
        generated: index (.jsonl) of kept generated images, or the folder that holds it, to mix into training.
        proportion: share of generated images in the mixed training set.
        limit_train: use at most this many training images, a seeded choice.
        layout: name of the tree's layout, where it is not to be recognised.
        split_file: JSON file with the split of each image, as a run's ``split.json`` and ``uniemo data split`` have it.
        val_fraction: share of the images outside the test split that validation takes where the tree gives none; null
            takes the dataset's own.
        fold: which fold is the test split, from 1; the tree's own folds where it has them, else stratified ones. Null
            takes the splits of the tree, or makes one; for Twitter I and II, which have none, it means fold 1.
        folds: how many folds there are.
        check: look at the header and the end of each image before the first step; whole ones are remembered.
        on_error: ``raise`` stops at an image that is missing or broken, ``skip`` leaves such images out.

    Raises:
        UniEmoError: a value out of its range.
    """

    dataset_name: ClassVar[str]
    fractions: ClassVar[tuple[float, float, float]] = FRACTIONS  # of a split that is made anew
    cross_validated: ClassVar[bool] = False  # without ``fold`` the first fold is meant
    tree_class: ClassVar[type[Tree]] = Tree

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
        crop: Literal["random", "central"] = "random",
        cached_latents: bool = False,
        generated: str | None = None,
        proportion: float = 0.2,
        limit_train: int | None = None,
        layout: str | None = None,
        split_file: str | None = None,
        val_fraction: float | None = None,
        fold: int | None = None,
        folds: int = 5,
        check: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
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
        if crop not in ("random", "central"):
            raise UniEmoError(f"data.crop must be random or central; got {crop!r}")
        if cached_latents and diffusion_size is None:
            raise UniEmoError(
                "data.diffusion_size must be set with data.cached_latents; got null: give the diffusion model's size, "
                "or leave cached_latents out where no diffusion model is trained with (stage 1)"
            )
        check_proportion(proportion)
        self.root = root
        self.image_size = image_size
        self.diffusion_size = diffusion_size
        self.batch_size = batch_size
        self.eval_batch_size = batch_size if eval_batch_size is None else eval_batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.cached_latents = cached_latents
        self.generated = generated
        self.proportion = proportion
        self.limit_train = limit_train
        fold = 1 if fold is None and self.cross_validated and split_file is None else fold
        self.choices = Choices(
            layout, split_file, val_fraction, fold, folds, seed, check, on_error, self.fractions, self.options()
        )
        self.skipped = SkippedFiles()
        crop = "central" if cached_latents else crop
        self._train_transform = PairedTransform(
            image_size, diffusion_size, train=True, crop_scale=crop_scale, crop=crop
        )
        self._eval_transform = PairedTransform(image_size, diffusion_size)
        self._checked: set[Split] = set()
        self._said: set[str] = set()
        self._records: dict[Split, Records] = {}
        self._caches: dict[Split, ImageCache] = {}
        self._mixed: MixedDataset | None = None
        self._latents: LatentCache | None = None

    def options(self) -> dict[str, str]:
        """Return the dataset's own arguments, as its layouts take them."""
        return {}

    # What users call.

    @cached_property
    def path(self) -> Path:
        """The folder of the dataset; the miniature is painted at first use."""
        return resolve(self.root)

    @cached_property
    def tree(self) -> Tree:
        """What lies on disk and how it is split."""
        self.check(())
        return self.tree_class(self.path, self.dataset_name, self.choices)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Emotion, scene and object names."""
        return self.tree.vocabulary

    def check(self, splits: tuple[Split, ...] = SPLITS) -> None:
        """Find out cheaply whether the data can be used, before any work.

        Args:
            splits: the ones that will be used.

        Raises:
            UniEmoError: missing or empty root, unknown tree, missing split, images that are missing, have no known
                label or cannot be read, unusable index of generated images.
        """
        new = tuple(split for split in splits if split not in self._checked)
        if not new and self._checked:
            return
        if not self.path.is_dir():
            raise UniEmoError(f"data.root must be an existing folder; got {self.root}: correct --data.root")
        if next(self.path.iterdir(), None) is None:
            raise UniEmoError(f"data.root must hold a dataset; {self.root} is empty: correct --data.root")
        if not new:
            return
        self.tree.check(new)
        self._checked.update(new)
        if is_first():
            for remark in self.tree.remarks():
                if remark not in self._said:
                    warnings.warn(remark, stacklevel=2)
                    self._said.add(remark)
        if "train" in new and self.generated is not None:
            GeneratedImageDataset(self.generated, self.vocabulary, self._train_transform)

    def prepare_data(self) -> None:
        """Check what the run will use once, on one process (Lightning's hook)."""
        command = self.trainer.state.fn if self.trainer is not None else None
        self.check(SPLITS if command is None else _STAGE_SPLITS[str(command.value)])

    def setup(self, stage: str) -> None:
        """Read the labels that a stage needs; write the lists that belong to the run (Lightning's hook).

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        for split in _STAGE_SPLITS[stage]:
            self.records(split)
        if self.trainer is not None and not self.trainer.fast_dev_run:
            folder = Path(self.trainer.default_root_dir)
            self.skipped = SkippedFiles(folder / "skipped.jsonl")
            if self.trainer.is_global_zero:
                self.tree.write_lists(folder, self.skipped, splits=stage == "fit")

    def teardown(self, stage: str) -> None:
        """Say how many images were left out (Lightning's hook)."""
        if is_first() and (summary := self.skipped.summary()):
            warnings.warn(summary, stacklevel=2)

    def records(self, split: Split) -> Records:
        """Return the split's files and labels, read once; training is cut to ``limit_train``."""
        if split not in self._records:
            self.check((split,))
            records = self.tree.records(split)
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
        return EmotionDataset(
            records, transform, self.seed, self._caches[split], with_masks, self.choices.on_error, self.skipped
        )

    def train_dataset(self) -> EmotionDataset | MixedDataset:
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

    def set_latent_encoder(self, encoder: LatentEncoder) -> None:
        """Set the VAE that ``cached_latents`` needs; training loaders made from now on yield its latents."""
        self._latents = LatentCache(encoder, self._train_transform.target_key(), self.num_workers)

    def fingerprint(self, split: Split) -> str:
        """Return 12 hex digits that change with the split's files, labels or view sizes."""
        views = f"{self.image_size} {self.diffusion_size} {self.records(split).fingerprint()}"
        return hashlib.sha256(views.encode()).hexdigest()[:12]

    def write_split(self, path: str | Path) -> None:
        """Write which image is in which split, for ``--data.split_file``."""
        self.tree.write_split(path)

    def describe(self) -> str:
        """Return what was found on disk in one line: layout, images of each split, where the splits come from."""
        return self.tree.describe()

    # Loaders.

    def _loader(
        self, dataset: Dataset[EmotionSample], batch_size: int, sampler: Sampler[int] | None = None
    ) -> DataLoader[EmotionSample]:
        """Return a loader; in order without a sampler, else for training."""
        kind = EmotionLoader if sampler is None else TrainingLoader
        return kind(
            dataset,
            batch_size=batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            collate_fn=collate_readable,
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[EmotionSample]:
        """Return shuffled, augmented training images; with ``cached_latents`` those that are missing are made first.

        Raises:
            UniEmoError: ``cached_latents`` without a VAE, or what :meth:`LatentCache.precompute` raises.
        """
        dataset = self.train_dataset()
        if self.cached_latents:
            if self._latents is None:
                raise UniEmoError("data.cached_latents needs a module with a VAE, joint or feedback: leave it out here")
            self._latents.precompute(dataset.parts())
        sampler = EpochSampler(len(dataset), self.seed, self.batch_size)
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
                dataset.records.subset(chosen),
                dataset.transform,
                self.seed,
                dataset.images,
                dataset.with_masks,
                dataset.on_error,
                dataset.skipped,
            )
        return self._loader(dataset, self.eval_batch_size)
