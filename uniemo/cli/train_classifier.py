"""``uniemo train-classifier``: the Emo-A classifier on a frozen CLIP's features, written to a file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import uniemo.data
from uniemo.cache import write_json
from uniemo.cli.parsing import Parser, check_new_file, number, pick_device
from uniemo.data import DATASETS
from uniemo.errors import Batch, Count, NonNegative, PartialShare, Seed, UniEmoError, Width, Workers
from uniemo.miniature.paths import existing_folder

if TYPE_CHECKING:
    from torch import Tensor

    from uniemo.data.datamodule import EmotionDataModule
    from uniemo.metrics.classifier_training import ClassifierConfig

_DESCRIPTION = """Train the classifier behind Emo-A: two fully connected layers on frozen CLIP image features.

It trains on the training split and stops on the validation split; the test split is used once, at the end, for
accuracy and calibration. Each image goes through the CLIP once: features are cached, so that another seed or head costs
seconds, and an interrupted run goes on. The weights (safetensors) carry emotions, CLIP, its hash and the metrics; a
JSON file beside them has seeds, counts and versions too.

A second classifier to check the first with is another run, on another CLIP."""

_EXAMPLES = """examples:
  uniemo train-classifier --data.root /data/EmoSet --clip ViT-L-14 --output emo_a.safetensors
  uniemo train-classifier --data.root /data/EmoSet --clip ViT-B-16/laion2b_s34b_b88k --output second.safetensors
  uniemo train-classifier --data.root miniature:emoset --clip miniature:clip --hidden 256 --output mini.safetensors
"""


def _parser() -> Parser:
    """Return the options."""
    parser = Parser("uniemo train-classifier", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--data.root", dest="root", required=True, help="folder of the dataset, or miniature:emoset")
    parser.add_argument("--dataset", choices=tuple(DATASETS), help="which dataset it is (recognised when left out)")
    parser.add_argument("--data.layout", dest="layout", help="take this layout without looking (recognised)")
    parser.add_argument("--data.split_file", dest="split_file", help="file with the split of each image")
    parser.add_argument("--data.fold", dest="fold", type=number(Count), help="which fold is the test split, from 1")
    parser.add_argument("--data.seed", dest="data_seed", type=number(Seed), default=0, help="of a split made anew (0)")
    parser.add_argument(
        "--data.diffusion_size",
        dest="diffusion_size",
        type=number(Count),
        help="learn each image at this size as well: that of generated images, where the CLIP takes larger ones",
    )
    parser.add_argument(
        "--data.on_error", dest="on_error", choices=("raise", "skip"), default="raise", help="unreadable images (raise)"
    )
    parser.add_argument("--clip", required=True, help="frozen CLIP: an open_clip name, a folder or miniature:clip")
    parser.add_argument("--head", choices=("mlp", "linear"), default="mlp", help="two layers, or one as EmoGen's (mlp)")
    parser.add_argument("--hidden", type=number(Width), help="width of the hidden layer (768)")
    parser.add_argument("--dropout", type=number(PartialShare), help="on the hidden layer, 0 to below 1 (0.5)")
    parser.add_argument("--learning_rate", type=number(NonNegative), default=2e-3, help="of AdamW (0.002)")
    parser.add_argument("--weight_decay", type=number(NonNegative), default=0.1, help="of AdamW (0.1)")
    parser.add_argument("--epochs", type=number(Count), default=150, help="passes at most (150)")
    parser.add_argument("--patience", type=number(Count), default=20, help="stop after so many without gain (20)")
    parser.add_argument("--seed", type=number(Seed), default=0, help="of weights, order and dropout (0)")
    parser.add_argument("--temperature", action="store_true", help="calibrate: one temperature, fitted on validation")
    parser.add_argument("--output", required=True, type=Path, help="file to write, .safetensors")
    parser.add_argument("--overwrite", action="store_true", help="replace --output where it exists")
    parser.add_argument("--features_cache", type=Path, help="folder for features (one in uniemo's cache)")
    parser.add_argument("--batch_size", type=number(Batch), default=64, help="images at a time through the CLIP (64)")
    parser.add_argument("--num_workers", type=number(Workers), default=0, help="processes that decode images (0)")
    parser.add_shared("device", "follow_links")
    return parser


def run(args: list[str]) -> int:
    """Train; ``args`` begin with the command."""
    options = _parser().parse_args(args[1:])
    _check_files(options)
    dataset = _dataset(options)
    device = pick_device(options.device)

    from uniemo.cli.classifier_report import measure, origin, summary
    from uniemo.data.manifest import SPLITS
    from uniemo.metrics.classifier import ClassifierOrigin
    from uniemo.metrics.classifier_training import train_emotion_classifier
    from uniemo.metrics.clip_networks import FrozenClip
    from uniemo.metrics.feature_cache import cached_features, views_of
    from uniemo.metrics.network_weights import weights_hash

    clip = FrozenClip(options.clip)
    data = dataset(
        options.root,
        image_size=clip.image_size,
        diffusion_size=options.diffusion_size,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        seed=options.data_seed,
        layout=options.layout,
        split_file=options.split_file,
        fold=options.fold,
        on_error=options.on_error,
        follow_links=options.follow_links,
    )
    data.check(SPLITS)
    counts = _counts(data)
    clip.to(device)
    print(f"{data.describe()}\n{clip.name} ({clip.hash}) on {device}", flush=True)
    features: dict[str, tuple[Tensor, Tensor]] = {}
    for split in SPLITS:
        views = ("image",) if split == "test" else views_of(data)
        loader = data.evaluation_loader(split)
        features[split] = cached_features(clip, loader, views, options.features_cache, progress=True)
    config = _config(options)
    emotions = data.vocabulary.emotions
    classifier, info = train_emotion_classifier(
        *features["train"], *features["val"], len(emotions), config, device, progress=True
    )
    metrics = measure(classifier, emotions, features)
    brief = {key: metrics["test"][key] for key in ("images", "accuracy", "balanced_accuracy", "ece", "brier", "nll")}
    classifier.origin = ClassifierOrigin(emotions, clip.name, clip.hash, {"test": brief, "seed": options.seed})
    classifier.save(options.output)
    about = origin(options, data, clip, (config, info), counts, features)
    write_json(_notes(options.output), {**about, "weights_hash": weights_hash(classifier), **metrics})
    print(summary(metrics, (config, info)))
    print(f"wrote {options.output} and {_notes(options.output)}")
    return 0


def _notes(output: Path) -> Path:
    """Return the place of the JSON file."""
    return output.with_suffix(".json")


def _check_files(options: argparse.Namespace) -> None:
    """Raise unless the output and the features can be written."""
    output: Path = options.output
    if not output.parent.is_dir():
        raise UniEmoError(f"--output must lie in an existing folder; {output.parent} is none: make it first")
    for path in (output, _notes(output)):
        check_new_file(path, "--output", options.overwrite)
    if output.suffix != ".safetensors":
        raise UniEmoError(f"--output must end in .safetensors; got {output}: name it {output.stem}.safetensors")
    if options.features_cache is not None and options.features_cache.exists() and not options.features_cache.is_dir():
        raise UniEmoError(f"--features_cache must be a folder; {options.features_cache} is a file: give another")
    if options.head == "linear":
        for name in ("hidden", "dropout"):
            if getattr(options, name) is not None:
                raise UniEmoError(f"--{name} must be left out with --head linear, which has no hidden layer")


def _dataset(options: argparse.Namespace) -> type[EmotionDataModule]:
    """Return the data module of the dataset that is there; its images are looked at later."""
    folder = existing_folder(options.root, "--data.root")
    from uniemo.data.layout import find_layout, layouts_of

    layout, _ = find_layout(folder, layouts_of(options.dataset), options.layout)
    kind: type[EmotionDataModule] = getattr(uniemo.data, layout.dataset)
    return kind


def _config(options: argparse.Namespace) -> ClassifierConfig:
    """Return how the classifier is to be made."""
    from uniemo.metrics.classifier_training import ClassifierConfig

    return ClassifierConfig(
        hidden=(options.hidden or 768) if options.head == "mlp" else None,
        dropout=0.5 if options.dropout is None else options.dropout,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        max_epochs=options.epochs,
        patience=options.patience,
        seed=options.seed,
        temperature=options.temperature,
    )


def _counts(data: EmotionDataModule) -> dict[str, dict[str, int]]:
    """Return the images of each split by emotion."""
    import numpy as np

    from uniemo.data.manifest import SPLITS

    emotions = data.vocabulary.emotions
    found: dict[str, dict[str, int]] = {}
    for split in SPLITS:
        numbers = np.bincount(data.records(split).emotion, minlength=len(emotions))
        found[split] = {name: int(number) for name, number in zip(emotions, numbers, strict=True)}
        if not numbers.sum():
            raise UniEmoError(f"--data.root must have images in its {split} split; there are none: add some")
    missing = [name for name, number in found["train"].items() if not number]
    if missing:
        raise UniEmoError(
            f"--data.root must have training images of each emotion; there are none of {', '.join(missing)}: add some"
        )
    return found
