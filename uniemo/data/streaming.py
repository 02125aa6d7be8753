"""Images in parquet or WebDataset shards, here or at ``hf://``, read while training goes on (EmoSet-3.3M).

::

    shards/{train,val,test}-00000-of-00700.parquet    the split by the beginning of the name, or by the folder
    shards/train/000.tar  shards/val/000.tar          WebDataset: a.jpg a.json, b.jpg b.cls, …
    hf://datasets/owner/name                          the same at the hub, or a pattern there
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from types import SimpleNamespace
from typing import Any, ClassVar, Literal

import numpy as np
from torch.utils.data import DataLoader

from uniemo.cache import digest
from uniemo.cache import get as cached
from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.dataset import SkippedFiles
from uniemo.data.generated import choose_generated
from uniemo.data.huggingface import Columns, class_names, feature_of, split_word
from uniemo.data.images import ImageCache
from uniemo.data.lists import SPLIT_WORDS
from uniemo.data.loader import EmotionLoader
from uniemo.data.manifest import SPLITS, Layout, Manifest, Split
from uniemo.data.rows import distinct_names
from uniemo.data.shard_rows import RowDecoder, RowReader, copied_rows, copy_some, manifest_of_copies
from uniemo.data.shards import Shard, column_features, count_rows, list_shards
from uniemo.data.stream import StepSampler, Stream, StreamLoader, first_ids, take_batch
from uniemo.data.transforms import PairedTransform
from uniemo.errors import Count, UniEmoError, check_ranges
from uniemo.vocabulary import Vocabulary

_IN_FILES = ("cached_latents", "limit_train", "layout", "split_file", "val_fraction", "fold")


class Streaming(EmotionDataModule):
    """Images in shards, streamed; arguments as in :class:`EmotionDataModule`, and some of its own.

    Training and evaluation read shards from disk or hub as they go; a loader process holds one buffer of rows. What
    needs images at hand gets ``images_at_hand`` of each split, which are copied into the cache folder once: the names
    of classes, scenes and objects where the shards do not declare them, P(emotion | attribute), the Emo-A classifier,
    the emotion space, and the real images of FID.

    Args:
        root: folder, pattern (``shards/*.parquet``) or ``hf://datasets/owner/name`` of parquet files or tars. Those
            whose name, or else folder, begins with val or test are of that split, all others of training.
        val_shards: the same for validation; null takes those of ``root``.
        test_shards: the same for test; null takes those of ``root``.
        image_column: of the pictures; null takes ``image`` or ``img``, in a tar the first picture of a row.
        label_column: of class names; null takes ``emotion``, ``label`` or ``cls``.
        scene_column: of the name of the scene; null takes ``scene``.
        object_column: of a list of names of objects; null takes ``object``.
        emotions: names of the classes, in the order of their numbers; null takes what parquet declares, else the labels
            of the images at hand.
        shuffle_buffer: rows among which each loader process shuffles; it keeps so many encoded images in memory. Shards
            are shuffled as well.
        images_at_hand: images of each split that are copied.
        options: the further arguments of :class:`EmotionDataModule`; those that need images in files are refused.

    Raises:
        UniEmoError: a value out of its range, an argument that needs images in files.
    """

    layouts: ClassVar[tuple[Layout, ...]] = ()

    # The command line reads the options off EmotionDataModule's signature.
    def __init__(
        self,
        root: str,
        val_shards: str | None = None,
        test_shards: str | None = None,
        image_column: str | None = None,
        label_column: str | None = None,
        scene_column: str | None = None,
        object_column: str | None = None,
        emotions: list[str] | None = None,
        shuffle_buffer: Count = 1000,
        images_at_hand: Count = 10_000,
        **options: Any,  # noqa: ANN401
    ) -> None:
        check_ranges(Streaming, locals(), "data.")
        super().__init__(root, **options)
        for name in _IN_FILES:
            if getattr(self, name) not in (None, False):
                raise UniEmoError(f"data.{name} is for images that lie in files; Streaming has none: leave it out")
        if self.target != "emotion":
            raise UniEmoError(f"data.target must be emotion for streamed images; got {self.target}: leave it out")
        self.places: dict[Split, str | None] = {"train": root, "val": val_shards, "test": test_shards}
        given = {"image": image_column, "label": label_column, "scene": scene_column, "object": object_column}
        names: dict[str, Any] = {name: (column,) for name, column in given.items() if column is not None}
        self.columns = Columns(**{"label": ("emotion", "label", "cls"), **names}, numbers=True)
        self.emotions = None if emotions is None else tuple(emotions)
        self.shuffle_buffer = shuffle_buffer
        self.images_at_hand = images_at_hand
        self._shards: dict[Split, list[Shard]] = {}
        self._readers: dict[Split, RowReader] = {}

    # Shards and labels.

    @cached_property
    def found(self) -> dict[Split, list[tuple[str, str]]]:
        """Address and name of the shards of each split."""
        splits: dict[Split, list[tuple[str, str]]] = {split: [] for split in SPLITS}
        for url, name in list_shards(self.root, "data.root"):
            splits[SPLIT_WORDS.get(split_word(PurePosixPath(url)), "train")].append((url, name))
        for split, place in self.places.items():
            if split != "train" and place is not None:
                splits[split] = list_shards(place, f"data.{split}_shards")
        return splits

    def shards(self, split: Split) -> list[Shard]:
        """Return a split's shards that can be read.

        Raises:
            UniEmoError: there is none, or one cannot be read and ``on_error`` is ``raise``.
        """
        if split not in self._shards:
            needed = {"image_column": self.columns.image, "label_column": self.columns.label}
            self._shards[split], bad = count_rows(self.found[split], needed, self.on_error)
            self.left_out |= bad
        if not any(shard.rows for shard in self._shards[split]):
            own = "" if split == "train" else f", or give --data.{split}_shards"
            raise UniEmoError(
                f"data.root must hold shards of {split} with images; {self.root} has none that can be read: call them "
                f"{split}-….parquet or {split}/….tar{own}"
            )
        return self._shards[split]

    def reader(self, split: Split) -> RowReader:
        """Return what finds image and labels in a split's rows."""
        if split not in self._readers:
            features = column_features(self.shards(split)[0].url)
            if self.emotions is not None:
                for name in self.columns.label:
                    if class_names(feature_of(features, name)) is None:
                        features[name] = SimpleNamespace(names=self.emotions)
            self._readers[split] = RowReader(self.columns, features)
        return self._readers[split]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """Emotion, scene and object names: those that parquet declares, else those of the images at hand.

        Raises:
            UniEmoError: fewer than two classes.
        """
        first: Split = next((split for split in SPLITS if self.found[split]), "train")
        features = self.reader(first).features

        def declared(columns: Sequence[str]) -> tuple[str, ...] | None:
            names = [class_names(feature_of(features, column)) for column in columns]
            return next((tuple(found) for found in names if found), None)

        emotions = self.emotions or declared(self.columns.label)
        scenes, objects = declared(self.columns.scene), declared(self.columns.object)
        if emotions is None or scenes is None or objects is None:
            rows = copied_rows(self._at_hand(first))
            emotions = emotions or tuple(sorted({emotion for _, emotion, _, _ in rows}))
            scenes = scenes or distinct_names([scene for _, _, scene, _ in rows if scene])
            objects = objects or distinct_names([name for *_, names in rows for name in names])
        emotions = tuple(name.strip().lower() for name in emotions)
        if len(emotions) < 2:
            raise UniEmoError(
                f"a classifier needs at least two classes; {self.root} has {', '.join(emotions)}: name them with "
                "--data.emotions, or their column with --data.label_column"
            )
        return Vocabulary(emotions, scenes, objects)

    def _at_hand(self, split: Split) -> Path:
        """Return the folder of a split's copied images."""
        shards, read = self.shards(split), self.reader(split)
        state = [[shard.url, shard.rows, shard.stamp] for shard in shards], str(read), self.on_error
        name = f"{digest(*state, self.seed, self.images_at_hand)}-{split}"

        def write(folder: Path) -> None:
            copy_some(shards, self.images_at_hand, self.seed, read, self.on_error, folder)

        return cached("streaming", name, write)

    def records(self, split: Split) -> Manifest:
        """Return files and labels of the split's images at hand."""
        if split not in self._records:
            decode = self._decoder(split, self._eval_transform)
            self._records[split] = manifest_of_copies(self._at_hand(split), decode, self.vocabulary)
            self._caches[split] = ImageCache(len(self._records[split]))
        return self._records[split]

    def check(self, splits: tuple[Split, ...] = SPLITS) -> None:
        """Find shards and names before any work.

        Raises:
            UniEmoError: a split without shards, or one that cannot be read; no classes.
        """
        from uniemo.distributed import is_first

        for split in splits:
            self.shards(split)
        if self.left_out and is_first() and not self._warned:
            url, reason = next(iter(self.left_out.items()))
            self._warned.add(url)
            warnings.warn(f"Streaming: {len(self.left_out)} shards skipped, first {url} ({reason})", stacklevel=2)
        if "train" in splits and self.generated is not None:
            self._generated_images(self.generated)  # needs the vocabulary, and so finds it too
        _ = self.vocabulary

    def describe(self) -> str:
        """Return the shards in one line."""
        counts = [
            f"{sum(shard.rows for shard in shards):,} {split} images in {len(shards):,} shards"
            for split, shards in self._shards.items()
        ]
        return (
            f"Streaming: {', '.join(counts)}; P(emotion | attribute), Emo-A, emotion space and FID's real images take "
            f"at most {self.images_at_hand:,} images of a split (data.images_at_hand)"
        )

    def setup(self, stage: str) -> None:
        """Have unreadable images listed in the run's folder.

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.
        """
        if self.trainer is not None and not self.trainer.fast_dev_run:
            self.skipped = SkippedFiles(Path(self.trainer.default_root_dir) / "skipped.jsonl")

    def names(self, split: Split, sample_ids: Sequence[int]) -> list[str]:
        """Return ``<shard>#<row>`` of images by their ids."""
        shards = self.shards(split)
        starts = first_ids(shards)
        found = (np.searchsorted(starts, sample_ids, side="right") - 1).tolist()
        return [f"{shards[at].name}#{one - starts[at]}" for at, one in zip(found, sample_ids, strict=True)]

    def unreadable(self, split: Split) -> dict[int, tuple[str, str]]:
        """Return name and reason of a split's images that could not be read, by sample id."""
        shards = self.shards(split)
        starts = {shard.url: (int(start), shard.name) for shard, start in zip(shards, first_ids(shards), strict=True)}
        found = {}
        for place, reason in self.skipped.files():
            url, _, row = place.rpartition("#")
            if url in starts:
                start, name = starts[url]
                found[start + int(row)] = f"{name}#{row}", reason
        return found

    # Loaders.

    def _decoder(self, split: Split, transform: PairedTransform) -> RowDecoder:
        return RowDecoder(self.reader(split), self.vocabulary, transform, self.seed)

    def _in_order(self, split: Split, on_error: Literal["raise", "skip"]) -> EmotionLoader:
        """Return a split's images in the order of the shards."""
        stream = Stream(
            self.shards(split),
            self._decoder(split, self._eval_transform),
            self.eval_batch_size,
            self.seed,
            self.num_workers,
            on_error=on_error,
            skipped=self.skipped,
        )
        return self._batches(stream, EmotionLoader)

    def _batches(self, stream: Stream, kind: type[EmotionLoader]) -> EmotionLoader:
        return kind(
            stream,  # type: ignore[arg-type]  # of batches
            batch_size=1,
            sampler=StepSampler(stream.steps),
            num_workers=self.num_workers,
            collate_fn=take_batch,
            persistent_workers=self.num_workers > 0,
        )

    def train_dataloader(self) -> DataLoader[Any]:
        """Return shuffled, augmented training images, generated ones among them where an index is set."""
        shards, extra, chosen = self.shards("train"), None, None
        if self.generated is not None:
            total = sum(shard.rows for shard in shards)
            extra = self._generated_images(self.generated, total)
            chosen = choose_generated(total, extra.records.emotion, self.proportion, self.seed)
        stream = Stream(
            shards,
            self._decoder("train", self._train_transform),
            self.batch_size,
            self.seed,
            self.num_workers,
            self.shuffle_buffer,
            self.on_error,
            self.skipped,
            extra,
            chosen,
        )
        return self._batches(stream, StreamLoader)

    def val_dataloader(self) -> DataLoader[Any]:
        """Return the validation images in the order of the shards."""
        return self._in_order("val", self.on_error)

    def test_dataloader(self) -> DataLoader[Any]:
        """Return the test images in the order of the shards."""
        return self._in_order("test", self.on_error)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Return the test images; those that cannot be read are left out and known to ``skipped``."""
        return self._in_order("test", "skip")
