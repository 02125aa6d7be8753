"""``uniemo evaluate``: the metrics of generated images, by both protocols."""

from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uniemo.cache import write_json
from uniemo.cli.parsing import Parser, check_new_file, number, pick_device, run_in_processes
from uniemo.errors import Batch, Count, Processes, Seed, UniEmoError
from uniemo.launch import launched_rank, process_group

if TYPE_CHECKING:
    from uniemo.cli.evaluation_inputs import CheckpointFacts
    from uniemo.metrics.comparison import Comparison
    from uniemo.metrics.emotion_classifiers import Classifier
    from uniemo.metrics.image_sets import ImageSet
    from uniemo.metrics.networks import Choice, NetworkSet
    from uniemo.metrics.protocols import Protocol

_DESCRIPTION = """Measure generated images: FID, KID, LPIPS, Emo-A, Sem-C and Sem-D, per emotion and in all.

CLIPScore stands beside them where an index says what prompts asked for beside the emotion. Two protocols stand side by
side: "emogen" repeats the published scripts with their habits, "strict" is the one to rely on, with 95 % intervals;
only strict has the second classifier. --real and --generated are folders with a folder for each emotion, datasets that
uniemo knows (of --real the test split), or indexes (.jsonl) of uniemo generate and uniemo filter. The JSON result says
everything that it takes to repeat it; beside it lie pictures of the confusion matrices and of the memorisation check,
and the judged emotion of each image (Parquet). Each image is decoded once and goes through each network once."""

_EXAMPLES = """networks:
  auto takes the miniature's small CLIP for what the miniature painted or generated, else the published networks, whose
  weights are downloaded once or must lie where the error says. --fid, --lpips, --clip, --imagenet and --places name
  single ones: a name (alex, vgg, ViT-L-14 …), a path, random-NAME, or none to leave their metrics out.

examples:
  uniemo evaluate --real miniature:emoset --generated out/ --output result.json
  uniemo evaluate --real /data/EmoSet --generated out/ --classifier emo_a.safetensors --output result.json
  uniemo evaluate --ckpt runs/joint/best.ckpt --generated out/ --train miniature:emoset --output result.json
  uniemo evaluate --real /data/EmoSet --generated out/ --output result.json --devices 4      (on four GPUs)
  torchrun --nproc_per_node 4 -m uniemo evaluate --real /data/EmoSet --generated out/ --output result.json
"""

_OVERRIDES = {  # option: (role, help)
    "--fid": ("fid", "network for FID, of both protocols"),
    "--fid_emogen": ("fid.emogen", "another one for protocol emogen"),
    "--lpips": ("lpips", "alex, vgg or squeeze; alex@256 for images of 256 pixels"),
    "--clip": ("clip", "CLIP for Sem-D, Emo-A, CLIPScore and the memorisation check; the miniature's is for all"),
    "--imagenet": ("imagenet", "ResNet-50 of Sem-C's objects"),
    "--places": ("places", "Places365 ResNet-50 of Sem-C's scenes"),
}


_GENERATED = "generated"  # of --real_size


def _parser() -> Parser:
    """Return the options."""
    parser = Parser("uniemo evaluate", _DESCRIPTION, _EXAMPLES)
    add = parser.add_argument
    add("--generated", required=True, help="images to measure")
    add("--real", help="images to compare with (with --ckpt: the data that it was trained on)")
    add("--output", required=True, type=Path, metavar="FILE", help="JSON result to write")
    add("--overwrite", action="store_true", help="replace an existing result")
    add(
        "--protocol", action="append", choices=("strict", "emogen"), help="one of the protocols; may be repeated (both)"
    )
    add(
        "--split",
        choices=("train", "val", "test", "all"),
        help="of --real, where it is a dataset (test; the published scripts compare with all)",
    )
    add(
        "--real_size",
        type=_real_size,
        metavar="PIXELS",
        help="cut and resize real images to a square first; generated takes the generated images' size (as they are)",
    )
    add(
        "--pairs",
        type=number(Count),
        default=1000,
        help="pairs of each emotion in strict; all where fewer exist (1000)",
    )
    add("--seed", type=number(Seed), default=0, help="of pairs, intervals and samples (0)")
    add("--ckpt", type=Path, help="checkpoint: its data trains the classifiers, its names are Sem-C's")
    add(
        "--classifier",
        metavar="FILE",
        help="Emo-A's: of train-classifier, EmoGen's, or a stage's checkpoint (.ckpt); none leaves Emo-A out",
    )
    add("--second_classifier", metavar="FILE", help="another one beside it in strict, trained independently")
    add("--second_clip", metavar="NAME", help="CLIP of the second classifier (the first one's)")
    add("--networks", default="auto", help="auto, published, miniature or random (auto)")
    for option, (_, text) in _OVERRIDES.items():
        add(option, metavar="NAME", help=text)
    add("--train", metavar="DIR", help="training images: look up the nearest to a sample of generated ones")
    add("--sample", type=number(Count), default=64, help="images of that sample (64)")
    add("--batch_size", type=number(Batch), default=32, help="images at a time (32)")
    add(
        "--workers",
        type=number(Processes),
        default=min(8, os.cpu_count() or 1),
        help="threads that decode (cores, at most 8)",
    )
    add("--no_cache", action="store_true", help="neither read nor keep statistics of the real images")
    parser.add_shared("device", "devices", "follow_links", "trust")
    return parser


def _real_size(text: str) -> int | str:
    """Return a number of pixels, or ``generated``."""
    return text if text == _GENERATED else int(number(Count)(text))


def run(args: list[str]) -> int:
    """Evaluate; ``args`` begin with the command."""
    options = _parser().parse_args(args[1:])
    check_new_file(options.output, "--output", options.overwrite)
    if options.real is None and options.ckpt is None:
        raise UniEmoError(
            "--real must name the images to compare with; got none: give a folder, or --ckpt for its data"
        )
    run_in_processes(options, _evaluate, options, args)
    return 0


def _evaluate(options: argparse.Namespace, args: list[str]) -> None:
    """Measure this rank's share of the images; the first rank writes the result."""
    from uniemo.cli.evaluation_inputs import read_facts, side_of
    from uniemo.data.usable import check_files
    from uniemo.metrics.comparison import Settings, prepare
    from uniemo.metrics.evaluation import measure
    from uniemo.metrics.image_sets import label_space, read_images
    from uniemo.metrics.protocols import STRICT

    facts = None
    if options.ckpt is not None:
        facts = read_facts(
            options.ckpt, "leave it out, give --train", trust=options.trust, follow_links=options.follow_links
        )
    links = options.follow_links
    generated = read_images(options.generated, option="--generated", follow_links=links)
    root = options.real or facts.arguments["root"]  # type: ignore[union-attr]
    real = read_images(root, options.split, "--real", follow_links=links)
    train = None
    if options.train is not None:
        train = read_images(options.train, None, "--train", training=True, follow_links=links)
        check_files(train.root, train.names, "--train")
    settings = Settings(
        tuple(dataclasses.replace(one, pairs=options.pairs) if one is STRICT else one for one in _protocols(options)),
        options.seed,
        options.batch_size,
        options.workers,
        side_of(generated) if options.real_size == _GENERATED else options.real_size,
        not options.no_cache,
    )
    with process_group(pick_device(options.device)) as device:
        comparison = prepare(real, generated, label_space(real, generated, preferred=real.classes), settings)
        networks, classifiers, notes = _networks(options, comparison, facts, device)
        answers = options.output.with_name(f"{options.output.stem}.answers.parquet")
        result = measure(comparison, networks, classifiers, settings, answers)
    if launched_rank():
        return
    result |= {"command": ["uniemo", *args], "network_set": networks.name, "device": device}
    result["notes"] = [*notes, *result["notes"]]
    if facts is not None:
        result["checkpoint"] = facts.about
    if train is not None:
        result["memorisation"] = _memorisation(options, comparison, train, networks)
    _report(options.output, result, comparison.generated, train)


def _protocols(options: argparse.Namespace) -> list[Protocol]:
    """Return the protocols that are asked for."""
    from uniemo.metrics.protocols import PROTOCOLS

    return [one for name, one in PROTOCOLS.items() if name in (options.protocol or PROTOCOLS)]


def _overrides(options: argparse.Namespace) -> dict[str, str]:
    """Return the networks that are named, by role."""
    values = {role: getattr(options, option[2:]) for option, (role, _) in _OVERRIDES.items()}
    protocols = [f".{one.name}" for one in _protocols(options)]
    return {
        role: name
        for role, name in values.items()
        if name is not None and ("." not in role or role.endswith(tuple(protocols)))
    }


def published_networks(args: list[str]) -> list[Choice]:
    """Return the published networks that an evaluation will need; ``args`` begin with the command."""
    from uniemo.metrics.networks import PUBLISHED, choose_networks

    options = _parser().parse_args(args[1:])
    if options.networks != PUBLISHED:
        return []
    chosen = choose_networks(PUBLISHED, _protocols(options), _overrides(options))
    return [one for one in chosen.values() if one is not None]


def _networks(
    options: argparse.Namespace, comparison: Comparison, facts: CheckpointFacts | None, device: str
) -> tuple[NetworkSet, list[Classifier], list[str]]:
    """Return networks, classifiers and what is to be said about them."""
    from uniemo.cli.evaluation_inputs import choose_set, names_for_clarity, training_data
    from uniemo.metrics.emotion_classifiers import choose_classifiers
    from uniemo.metrics.networks import MINIATURE, NONE, RANDOM, load_clip, load_set

    real, emotions = comparison.real, comparison.emotions
    protocols, overrides = _protocols(options), _overrides(options)
    wanted = choose_set(options.networks, real, facts)
    if launched_rank() == 0:
        extra = "".join(f", {role} {name}" for role, name in overrides.items())
        print(f"networks: {wanted}{extra}", flush=True)
    networks = load_set(wanted, protocols, names_for_clarity(real, facts, emotions), overrides, device)
    if networks.clip is None or options.classifier == NONE:
        return networks, [], ["Emo-A is left out: no classifier was asked for"]
    size = networks.clip.clip.image_size
    classifiers, notes = choose_classifiers(
        (options.classifier, options.second_classifier),
        (networks.clip, load_clip(options.second_clip, device) if options.second_clip else networks.clip),
        emotions,
        lambda: training_data(facts, real, comparison.generated, size, wanted == MINIATURE),
        random=wanted == RANDOM,
        second=wanted == MINIATURE and "strict" in [one.name for one in protocols],
    )
    if len(classifiers) == 1 and "strict" in [one.name for one in protocols]:
        notes.append(
            "strict wants a second classifier, trained independently: --second_classifier FILE, or the extra "
            "uniemo[second] on the miniature's networks"
        )
    return networks, classifiers, notes


def _memorisation(
    options: argparse.Namespace, comparison: Comparison, train: ImageSet, networks: NetworkSet
) -> dict[str, Any]:
    """Look up the nearest training images."""
    from uniemo.metrics.memorisation import check_memorisation

    if networks.clip is None:
        raise UniEmoError("--train needs a CLIP to compare images; got --clip none: name one")
    return check_memorisation(
        comparison.generated,
        comparison.real,
        train,
        networks.clip,
        options.sample,
        options.seed,
        options.batch_size,
        options.workers,
    )


def _report(output: Path, result: dict[str, Any], generated: ImageSet, train: ImageSet | None) -> None:
    """Write the result and its pictures, print the table."""
    from uniemo.metrics.memorisation import memorisation_line, plot_memorisation
    from uniemo.metrics.result_table import plot_confusion, table

    written = [output]
    confusion = output.with_name(f"{output.stem}.confusion.png")
    if plot_confusion(result, confusion):
        written.append(confusion)
    if train is not None:
        written.append(output.with_name(f"{output.stem}.memorisation.png"))
        plot_memorisation(result["memorisation"], generated, train, written[-1])
    write_json(output, result)
    print(table(result))
    if train is not None:
        print(memorisation_line(result["memorisation"]))
    print(f"wrote {', '.join(str(path) for path in written)}")
