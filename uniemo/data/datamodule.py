"""The Lightning data module that every dataset shares; a dataset adds its layouts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import lightning as L
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from uniemo.cache import digest
from uniemo.data.batch import EmotionSample
from uniemo.data.dataset import EmotionDataset, EpochSampler, SkippedFiles, choose_per_emotion
from uniemo.data.images import ImageCache
from uniemo.data.manifest import SPLITS, Layout, Manifest, Split
from uniemo.data.transforms import PairedTransform
from uniemo.errors import (
    Batch,
    Count,
    Folds,
    OpenShare,
    PartialShare,
    Seed,
    Share,
    UniEmoError,
    Width,
    Workers,
    check_ranges,
)
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:  # the rest is imported where it is used, by the runs that use it
    from uniemo.data.generated import MixedDataset
    from uniemo.data.latent_cache import LatentCache, LatentEncoder
    from uniemo.data.splits import Assignment

SPLIT_FILE = "split.json"  # in a run's folder
_STAGE_SPLITS: dict[str, tuple[Split, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
}


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
            takes the splits of the tree, or makes one; for Twitter I and II, which are cross-validated, it means
            fold 1.
        folds: how many folds there are.
        target: ``emotion``, or ``distribution``: the shares of people's votes, for data that has them. The loss of the
            emotion is then KL, and validation and test add the six distances of distributions to the accuracy.
        check: open every image before the first step and decode those that may be cut off or say nothing; the result is
            kept until an image changes.
        on_error: ``raise`` stops at an image that is missing or broken, ``skip`` leaves such images out.
        follow_links: allow links, ``..`` and absolute paths in lists that lead out of ``root``, or out of the folder
            of ``generated``.

    Raises:
        UniEmoError: a value out of its range.
    """

    layouts: ClassVar[tuple[Layout, ...]]  # the surest first
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {}  # images by split and emotion; "all" stands for every one
    fractions: ClassVar[tuple[float, float, float]] = (0.8, 0.05, 0.15)  # of splits that are made: EmoSet's own
    cross_validated: ClassVar[bool] = False  # without ``fold`` the first fold is meant

    def __init__(
        self,
        root: str,
        image_size: Width = 224,
        diffusion_size: Width | None = 512,
        batch_size: Batch = 128,
        eval_batch_size: Batch | None = None,
        num_workers: Workers = 0,
        seed: Seed = 0,
        crop_scale: tuple[Share, Share] = (0.7, 1.0),
        crop: Literal["random", "central"] = "random",
        cached_latents: bool = False,
        generated: str | None = None,
        proportion: PartialShare = 0.2,
        limit_train: Count | None = None,
        layout: str | None = None,
        split_file: str | None = None,
        val_fraction: OpenShare | None = None,
        fold: Count | None = None,
        folds: Folds = 5,
        target: Literal["emotion", "distribution"] = "emotion",
        check: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        follow_links: bool = False,
    ) -> None:
        check_ranges(EmotionDataModule, locals(), "data.")
        super().__init__()
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
        self.layout = layout
        self.split_file = split_file
        self.val_fraction = val_fraction
        self.fold = 1 if fold is None and self.cross_validated and split_file is None else fold
        self.folds = folds
        self.target = target
        self.check_images = check
        self.on_error = on_error
        self.follow_links = follow_links
        self.layout_options: dict[str, Any] = {}  # the dataset's own
        self._check_arguments(crop_scale, crop)
        self.skipped = SkippedFiles()
        self.left_out: dict[str, str] = {}  # images that cannot be used, each with the reason (on_error skip)
        self._checked: set[Split] = set()
        self._warned: set[str] = set()
        self._records: dict[Split, Manifest] = {}
        self._usable: dict[Split, Manifest] = {}
        self._caches: dict[Split, ImageCache] = {}
        self._mixed: MixedDataset | None = None
        self._latents: LatentCache | None = None
        crop = "central" if cached_latents else crop
        low, high = crop_scale
        self._train_transform = PairedTransform(
            image_size, diffusion_size, train=True, crop_scale=(low, high), crop=crop
        )
        self._eval_transform = PairedTransform(image_size, diffusion_size)

    def _check_arguments(self, crop_scale: tuple[float, float], crop: str) -> None:
        """Raise UniEmoError for a value out of its range."""
        if not 0 < crop_scale[0] <= crop_scale[1] <= 1:
            raise UniEmoError(f"data.crop_scale must satisfy 0 < low <= high <= 1; got {list(crop_scale)}")
        if crop not in ("random", "central"):
            raise UniEmoError(f"data.crop must be random or central; got {crop!r}")
        if self.cached_latents and self.diffusion_size is None:
            raise UniEmoError(
                "data.diffusion_size must be set with data.cached_latents; got null: give the diffusion model's size, "
                "or leave cached_latents out where no diffusion model is trained with (stage 1)"
            )
        if self.fold is not None and self.fold > self.folds:
            raise UniEmoError(f"data.fold must lie in 1 … {self.folds} (data.folds); got {self.fold}")
        if self.target not in ("emotion", "distribution"):
            raise UniEmoError(f"data.target must be emotion or distribution; got {self.target!r}")
        if self.on_error not in ("raise", "skip"):
            raise UniEmoError(f"data.on_error must be raise or skip; got {self.on_error!r}")

    # The tree.

    @cached_property
    def path(self) -> Path:
        """The folder of the dataset; the miniature is painted at first use."""
        from uniemo.miniature.paths import existing_folder

        return existing_folder(self.root, "data.root")

    @cached_property
    def manifest(self) -> Manifest:
        """All images of the tree."""
        from uniemo.data.layout import read_manifest

        return read_manifest(self.path, self.layouts, self.layout, self.follow_links, **self.layout_options)

    @property
    def vocabulary(self) -> Vocabulary:
        """Emotion, scene and object names."""
        return self.manifest.vocabulary

    @cached_property
    def assignment(self) -> Assignment:
        """The split of each image.

        Raises:
            UniEmoError: a split file that does not fit, a fold that does not exist.
        """
        from uniemo.data.splits import assign, read_split

        if self.split_file is None:
            return assign(self.manifest, self.seed, self.fractions, self.val_fraction, self.fold, self.folds)
        made = read_split(self.split_file, self.manifest)
        if self.fold is not None and made.fold != self.fold:
            raise UniEmoError(
                f"data.split_file and data.fold must agree; {self.split_file} is of fold {made.fold}, data.fold is "
                f"{self.fold}: leave one out"
            )
        return made

    def check(self, splits: tuple[Split, ...] = SPLITS) -> None:
        """Find out cheaply whether the data can be used, before any work.

        Args:
            splits: the ones that will be used.

        Raises:
            UniEmoError: missing or empty root, unknown tree, missing split, images that are missing, have no known
                label or cannot be read, ``target`` distribution without votes, unusable index of generated images.
        """
        from uniemo.data.usable import check_lists, remarks
        from uniemo.distributed import is_first

        new = tuple(split for split in splits if split not in self._checked)
        if not new:
            return
        if self.target == "distribution" and not self.manifest.has_distributions():
            info = self.manifest.info
            raise UniEmoError(
                f"data.target must be emotion for data without votes; {info.dataset} ({info.layout}) in {self.root} "
                "has none, got distribution: leave --data.target out, or take FlickrLDL, TwitterLDL, Emotion6, Abstract"
            )
        other_splits = self.fold is not None or self.split_file is not None
        self.left_out |= check_lists(self.manifest, SPLITS if other_splits else new, self.on_error)
        for split in new:
            self._usable[split] = self._select(split)
        self._checked.update(new)
        for remark in remarks(self.manifest, self.assignment, self.left_out) if is_first() else ():
            if remark not in self._warned:
                warnings.warn(remark, stacklevel=2)
                self._warned.add(remark)
        if "train" in new and self.generated is not None:
            self._generated_images(self.generated)

    def _select(self, split: Split) -> Manifest:
        """Return the images of a split that can be used."""
        from uniemo.data.usable import check_images

        rows = self.assignment.rows(split)
        if not len(rows):
            image, reason = next(iter(self.left_out.items()), ("", ""))
            out = f" but {len(self.left_out):,} that cannot be used, first {image} ({reason})" if image else ""
            raise UniEmoError(
                f"{self.manifest.info.dataset} split must list at least one image; {split} of {self.root} has none"
                f"{out}: correct --data.root, --data.layout or --data.split_file"
            )
        records = self.manifest.take(rows, self.sample_ids(rows, split))
        if not self.check_images:
            return records
        bad = check_images(records, split, self.on_error)
        self.left_out |= bad
        return records.take([row for row, name in enumerate(records.names()) if name not in bad]) if bad else records

    def sample_ids(self, rows: NDArray[np.int64], split: Split) -> NDArray[np.int64]:
        """Return the numbers that, with seed and epoch, decide crop and flip: unique ones for each image of a split.

        Args:
            rows: (n,) of the images in the manifest.
            split: theirs.
        """
        return np.arange(len(rows), dtype=np.int64)

    def describe(self) -> str:
        """Return the tree in one line: layout, images of each split, where the splits come from."""
        from uniemo.data.usable import describe

        line = describe(self.manifest, self.assignment, self.split_file)
        return f"{line}; targets: distributions of votes" if self.target == "distribution" else line

    def write_split(self, path: str | Path) -> None:
        """Write which image is in which split, for ``--data.split_file``."""
        from uniemo.data.splits import write_split

        write_split(path, self.manifest, self.assignment)

    # Lightning's hooks.

    def prepare_data(self) -> None:
        """Check what the run will use, on one process."""
        command = self.trainer.state.fn if self.trainer is not None else None
        self.check(SPLITS if command is None else _STAGE_SPLITS[str(command.value)])

    def setup(self, stage: str) -> None:
        """Read the labels that a stage needs; write the lists that belong to the run.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        for split in _STAGE_SPLITS[stage]:
            self.records(split)
        if self.trainer is None or self.trainer.fast_dev_run:
            return
        folder = Path(self.trainer.default_root_dir)
        self.skipped = SkippedFiles(folder / "skipped.jsonl")
        if not self.trainer.is_global_zero:
            return
        if stage == "fit" and (self.assignment.source != "tree" or self.assignment.left_out):
            self.write_split(folder / SPLIT_FILE)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # check has warned of them
            for image, reason in self.left_out.items():
                if self.manifest.root / image not in self.skipped:
                    self.skipped.add(self.manifest.root / image, reason)

    def teardown(self, stage: str) -> None:
        """Warn of the images that were left out."""
        from uniemo.distributed import is_first

        if is_first() and (summary := self.skipped.summary()):
            warnings.warn(summary, stacklevel=2)

    # Datasets.

    def records(self, split: Split) -> Manifest:
        """Return the split's files and labels; training is cut to ``limit_train``."""
        if split not in self._records:
            self.check((split,))
            records = self._usable[split]
            if split == "train" and self.limit_train is not None and self.limit_train < len(records):
                order = np.random.default_rng((self.seed, self.limit_train)).permutation(len(records))
                records = records.take(np.sort(order[: self.limit_train]))
            self._records[split] = records
            self._caches[split] = ImageCache(len(records))
        return self._records[split]

    def names(self, split: Split, sample_ids: Sequence[int]) -> list[str]:
        """Return the names of a split's images by their ids."""
        records = self.records(split)
        known = dict(zip(records.sample_id.tolist(), records.names(), strict=True))
        return [known[number] for number in sample_ids]

    def unreadable(self, split: Split) -> dict[int, tuple[str, str]]:
        """Return name and reason of a split's images that could not be read, by sample id."""
        reasons = dict(self.skipped.files())
        records = self.records(split)
        names = records.names() if reasons else []
        return {
            int(records.sample_id[place]): (name, reasons[file])
            for place, name in enumerate(names)
            if (file := str(records.root / name)) in reasons
        }

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
            records,
            transform,
            self.seed,
            self._caches[split],
            with_masks,
            self.on_error,
            self.skipped,
            self.target == "distribution",
        )

    def train_dataset(self) -> EmotionDataset | MixedDataset:
        """Return the training images, generated ones mixed in where an index is set."""
        real = self.dataset("train", train=True)
        if self.generated is None:
            return real
        if self._mixed is None:
            from uniemo.data.generated import MixedDataset

            # Ids go on after every real training image's, those left out by limit_train included.
            extra = self._generated_images(self.generated, int(real.records.sample_id.max()) + 1)
            self._mixed = MixedDataset(real, extra, self.proportion, self.seed)
        return self._mixed

    def _generated_images(self, index: str | Path, first_id: int = 0, train: bool = True) -> EmotionDataset:
        """Return the images of an index."""
        from uniemo.data.generated import GeneratedImageDataset

        transform = self._train_transform if train else self._eval_transform
        return GeneratedImageDataset(
            index,
            self.vocabulary,
            transform,
            self.seed,
            first_id,
            self.follow_links,
            self.target == "distribution",
        )

    def set_generated(self, index: str | Path | None, proportion: float | None = None) -> None:
        """Choose the generated images for training; takes effect when the training loader is made again.

        Args:
            index: ``.jsonl`` file or its folder; None trains on real images only.
            proportion: share of generated images; None keeps the present one.

        Raises:
            UniEmoError: an unusable index or proportion; the old choice then stays.
        """
        from uniemo.data.generated import check_proportion

        proportion = self.proportion if proportion is None else proportion
        check_proportion(proportion)
        if index is not None:
            self._generated_images(index)
        self.generated = None if index is None else str(index)
        self.proportion = proportion
        self._mixed = None

    def set_latent_encoder(self, encoder: LatentEncoder) -> None:
        """Set the VAE that ``cached_latents`` needs; training loaders made from now on yield its latents."""
        from uniemo.data.latent_cache import LatentCache

        self._latents = LatentCache(encoder, self._train_transform.target_key(), self.num_workers)

    def fingerprint(self, split: Split) -> str:
        """Return 12 hex digits that change with the split's files, labels or view sizes."""
        return digest(f"{self.image_size} {self.diffusion_size} {self.records(split).fingerprint()}", length=12)

    # Loaders.

    def _loader(
        self, dataset: Dataset[EmotionSample], batch_size: int, sampler: Sampler[int] | None = None
    ) -> DataLoader[EmotionSample]:
        """Return a loader; in order without a sampler, else for training."""
        from uniemo.data.loader import EmotionLoader, TrainingLoader, collate_readable

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
        """Return the test images; those that cannot be read are left out and known to ``skipped``."""
        dataset = self.dataset("test")
        dataset.on_error = "skip"  # the predictions of all others are worth having
        return self._loader(dataset, self.eval_batch_size)

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
            dataset = self._generated_images(self.generated, train=False)
        else:
            dataset = self.dataset(split, with_masks=split != "train")
        if limit_per_emotion is not None:
            chosen = choose_per_emotion(dataset.records.emotion, limit_per_emotion, self.seed)
            dataset = dataset.take(chosen)
        return self._loader(dataset, self.eval_batch_size)
