"""``uniemo filter``: Algorithm 1 on a folder of generated images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from uniemo.cli.parsing import Parser, check_new_folder, check_writable, number, pick_device, run_in_processes
from uniemo.errors import Batch, Count, Seed, Share, UniEmoError
from uniemo.launch import launched_rank, process_group

_DESCRIPTION = """Keep generated images whose scores lie in the middle band (Algorithm 1 of the paper).

Every image is scored by Emo-A (the probability that a classifier on a frozen CLIP gives its intended emotion) and
Sem-C (how clearly it shows some scene or object). Each score is ranked ascending; kept are the images between --low and
--high of both rankings. The output folder gets kept.jsonl, for data.generated, and the images: hard links, or copies on
another disk."""

_EXAMPLES = """examples:
  uniemo filter --generated out/ --ckpt runs/joint/best.ckpt --out kept/
  uniemo fit --config feedback.yaml --model.init_from runs/joint/best.ckpt --data.generated kept/kept.jsonl
  uniemo filter --generated many/ --ckpt runs/joint/best.ckpt --out kept/ --devices 2
"""


def _parser() -> Parser:
    """Return the options."""
    parser = Parser("uniemo filter", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--generated", required=True, type=Path, help="folder that uniemo generate wrote, or its index")
    parser.add_argument("--out", required=True, type=Path, help="new or empty folder for kept.jsonl")
    parser.add_argument(
        "--low", type=number(Share), default=0.2, help="η, where the band starts, a share of the ranks (0.2)"
    )
    parser.add_argument("--high", type=number(Share), default=0.8, help="δ, where the band ends (0.8)")
    parser.add_argument(
        "--criteria", choices=("both", "emo_a", "sem_c"), default="both", help="scores that count (both)"
    )
    parser.add_argument(
        "--scope",
        choices=("emotion", "global"),
        default="emotion",
        help="rank within each emotion, or all together as the algorithm is written (emotion)",
    )
    parser.add_argument(
        "--num", type=number(Count), help="keep exactly so many, evenly over emotions (all in the band)"
    )
    parser.add_argument("--seed", type=number(Seed), default=0, help="of the choice that --num makes (0)")
    parser.add_argument("--ckpt", type=Path, help="checkpoint whose data the Emo-A classifier is trained on")
    parser.add_argument("--data.root", dest="root", help="EmoSet folder to train it on instead (miniature:emoset)")
    parser.add_argument("--clip", help="frozen CLIP that scores the images (the checkpoint's, else miniature:clip)")
    parser.add_argument("--batch_size", type=number(Batch), default=64, help="images at a time (64)")
    parser.add_shared("device", "devices", "follow_links", "trust")
    return parser


def run(args: list[str]) -> int:
    """Filter; ``args`` begin with the command."""
    options = _parser().parse_args(args[1:])

    from uniemo.data.generated import find_index, intended_emotion, read_index
    from uniemo.data.usable import check_files
    from uniemo.generation.filtering import check_band

    check_band(options.low, options.high)
    check_new_folder(options.out, "--out")
    rows = read_index(options.generated, options.follow_links)
    index = find_index(options.generated)
    check_writable(index.parent, "--generated")  # scores are written into its index
    check_files(index.parent, [row["file"] for row in rows], f"index {index}")
    groups = len({intended_emotion(row) for row in rows})  # each may round up
    most = round(options.high * len(rows)) - round(options.low * len(rows)) + groups
    if options.num is not None and options.num > min(most, len(rows)):
        raise UniEmoError(
            f"--num must not exceed the images in the band, at most {min(most, len(rows))} of {len(rows)}; "
            f"got {options.num}: widen --low and --high or generate more"
        )
    run_in_processes(options, _score, options)
    if launched_rank() == 0:
        _keep(options, len(rows))
    return 0


def _score(options: argparse.Namespace) -> None:
    """Score this rank's share of the images; the first rank writes all scores into the index."""
    from uniemo.data.generated import emotion_labels, find_index, read_index
    from uniemo.generation.filtering import score_index
    from uniemo.metrics.classifier_training import emotion_classifier
    from uniemo.metrics.clip_networks import FrozenClip
    from uniemo.metrics.feature_cache import views_of

    index = find_index(options.generated)
    rows = read_index(index, options.follow_links)
    sample = index.parent / rows[0]["file"]
    with process_group(pick_device(options.device)) as device:
        data, name = _data(options, sample)
        emotion_labels(rows, data.vocabulary)  # an unknown emotion is found before the classifier is trained
        clip = FrozenClip(options.clip or name).to(device)
        classifier, info = emotion_classifier(clip, data, views_of(data))
        if launched_rank() == 0:
            print(f"Emo-A classifier on {clip.name}: {info.accuracy:.1%} right on real validation images")
        score_index(index, clip, classifier, data.vocabulary, options.batch_size, options.follow_links)


def _keep(options: argparse.Namespace, total: int) -> None:
    """Write what lies in the band and say how much that is."""
    from uniemo.generation.filtering import filter_index

    band = (options.low, options.high, options.scope, options.criteria)
    counts = filter_index(options.generated, options.out, *band, options.num, options.seed, options.follow_links)
    print(_counts(counts, total))
    if not sum(counts.values()):
        print("no image lies in the band, nothing was written: widen --low and --high or generate more")
    else:
        print(f"wrote {options.out / 'kept.jsonl'}")


def _data(options: argparse.Namespace, sample: Path) -> tuple[Any, str]:
    """Return the data module to train the classifier on, checked, and the name of the CLIP to take by default."""
    from uniemo.cli.evaluation_inputs import checked, read_facts
    from uniemo.data import EmoSet
    from uniemo.data.images import read_image
    from uniemo.models.clip import load_clip

    if options.ckpt is not None:
        facts = read_facts(options.ckpt, "give --data.root", options.root, options.trust, options.follow_links)
        return checked(facts.data_class(**facts.arguments)), facts.clip
    clip = options.clip or "miniature:clip"
    root = options.root or "miniature:emoset"
    sizes = load_clip(clip).image_size, read_image(sample).width
    return checked(EmoSet(root, *sizes, follow_links=options.follow_links)), clip


def _counts(counts: dict[str, int], total: int) -> str:
    """Lay out how many images of each emotion were kept."""
    width = max(len(name) for name in (*counts, "all"))
    lines = [f"kept {sum(counts.values())} of {total} images"]
    lines += [f"  {name:<{width}}  {count:>6}" for name, count in counts.items()]
    return "\n".join(lines)
