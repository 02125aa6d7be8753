"""Data, names and networks for ``evaluate`` and ``filter``: of a checkpoint, of the real images, of the miniature."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uniemo.data
from uniemo.checkpoint import STAGES, read_checkpoint
from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.images import read_image
from uniemo.data.layout import layouts_of, read_manifest
from uniemo.errors import UniEmoError
from uniemo.metrics.image_sets import ImageSet
from uniemo.metrics.networks import AUTO, DEFAULTS, MINIATURE, PUBLISHED, RANDOM
from uniemo.miniature.table import OBJECTS, SCENES
from uniemo.stored_config import import_class, stored_config
from uniemo.vocabulary import Vocabulary


@dataclass(frozen=True)
class CheckpointFacts:
    """What a checkpoint says that an evaluation needs.

    Attributes:
        data_class: of the data module that it was trained on.
        arguments: of that data module, without what concerns training alone.
        clip: name of its CLIP.
        vocabulary: names that it knows.
        about: for the result.
    """

    data_class: type[EmotionDataModule]
    arguments: dict[str, Any]
    clip: str
    vocabulary: Vocabulary
    about: dict[str, str]


def read_facts(
    path: str | Path, way_out: str, root: str | None = None, trust: bool = False, follow_links: bool = False
) -> CheckpointFacts:
    """Read what a checkpoint was trained on.

    Args:
        path: of the checkpoint.
        way_out: what to do about a checkpoint that does not say what it was trained on.
        root: folder of its dataset, where it is not the one of its training.
        trust: also import a data module that is not uniemo's.
        follow_links: allow links that lead out of the dataset's folder, whatever the checkpoint says.
    """
    _, info = read_checkpoint(path, STAGES)
    stored = stored_config(info, trust).get("data", {})
    training_alone = ("generated", "limit_train")
    values = {key: value for key, value in stored.get("init_args", {}).items() if key not in training_alone}
    if root is not None:
        values["root"] = root
    if follow_links:
        values["follow_links"] = True
    if "root" not in values:
        raise UniEmoError(f"--ckpt must say which data it was trained on; {path} does not: {way_out}")
    if values.get("crop_scale") is not None:
        values["crop_scale"] = tuple(values["crop_scale"])
    about = {"path": str(path), "stage": info.stage, "digest": info.digest(), "uniemo": info.version}
    clip = str((info.model["encoder"] or {})["clip"])
    data_class = import_class(stored.get("class_path", "uniemo.data.EmoSet"), EmotionDataModule, path, trust)
    return CheckpointFacts(data_class, values, clip, info.vocabulary, about)


def choose_set(wanted: str, real: ImageSet, checkpoint: CheckpointFacts | None = None) -> str:
    """Return the set that ``--networks`` means; ``auto`` is the miniature's for what the miniature made."""
    known = (AUTO, PUBLISHED, MINIATURE, RANDOM)
    if wanted not in known:
        raise UniEmoError(f"--networks must be one of {', '.join(known)}; got {wanted!r}")
    if wanted != AUTO:
        return wanted
    # the miniature's painter leaves a truth.json beside its images
    small = checkpoint is not None and checkpoint.clip == DEFAULTS[MINIATURE]
    return MINIATURE if small or (real.root / "truth.json").is_file() else PUBLISHED


def names_for_clarity(real: ImageSet, checkpoint: CheckpointFacts | None, emotions: tuple[str, ...]) -> Vocabulary:
    """Return scene and object names for Sem-C by a CLIP: the data's, else the checkpoint's, else the miniature's."""
    if real.dataset == "EmoSet":
        found = read_manifest(real.root, layouts_of("EmoSet"), follow_links=real.follow_links).vocabulary
        if found.scenes or found.objects:
            return found
    if checkpoint is not None:
        return checkpoint.vocabulary

    return Vocabulary(emotions, tuple(SCENES), tuple(OBJECTS))


def training_data(
    checkpoint: CheckpointFacts | None, real: ImageSet, generated: ImageSet, image_size: int, miniature: bool
) -> tuple[EmotionDataModule, str] | None:
    """Return the data module whose training split classifiers learn, and how results call it; None where none is.

    Without a checkpoint only the miniature's networks have classifiers trained: with published ones, on a large
    dataset, it would take hours unasked.

    Args:
        checkpoint: its data, if one is given.
        real: where it is a dataset, its own training split.
        generated: the classifiers learn pictures at their resolution too.
        image_size: that the CLIP takes.
        miniature: whether the miniature's networks are in use; their painted dataset is the last resort.
    """
    if checkpoint is not None:
        return checked(checkpoint.data_class(**checkpoint.arguments)), str(checkpoint.arguments["root"])
    if not miniature:
        return None
    dataset, root = (real.dataset, str(real.root)) if real.dataset else ("EmoSet", "miniature:emoset")
    data = getattr(uniemo.data, dataset)(
        root, image_size=image_size, diffusion_size=side_of(generated), follow_links=real.follow_links
    )
    return checked(data), real.source if real.dataset else root


def side_of(images: ImageSet) -> int:
    """Return the shorter side of the first image."""
    return min(read_image(images.files()[0]).size)


def checked(data: EmotionDataModule) -> EmotionDataModule:
    """Return a data module whose training and validation splits can be used; UniEmoError otherwise."""
    data.check(("train", "val"))
    return data
