"""``uniemo data synthesize``: paint a tree in a real dataset's layout."""

from __future__ import annotations

import argparse
from pathlib import Path

from uniemo.cli.parsing import Parser, check_new_folder, number
from uniemo.errors import Count, Natural, Seed, Share, UniEmoError, Width

_SPLITS = {"train": 2000, "val": 400, "test": 4000}
_MISSING = 0.1
_IMAGES = 200


def run(args: list[str]) -> int:
    """Paint; ``args`` are the options."""
    from uniemo.miniature.layouts import FAULTS, LAYOUT_NAMES

    parser = Parser(
        "uniemo data synthesize",
        "Paint small scenes with objects, labelled by a known table P(emotion | scene, object), in the layout of a\n"
        "real dataset, so that every loader runs without a download. The same arguments give the same bytes.",
        "examples:\n"
        "  uniemo data synthesize --layout emoset --out painted/ --train 2000 --seed 1\n"
        "  uniemo data synthesize --layout fi-splits --out FI/ --images 400 --fault truncated --fault cmyk\n"
        "  uniemo data synthesize --layout emoset --out faulty/ --images 400 --fault all\n\n"
        "With --images the emoset layout has the oddities of EmoSet's own annotations: absent keys, trailing blanks.",
    )
    parser.add_argument(
        "--layout",
        choices=LAYOUT_NAMES,
        default="emoset",
        metavar="NAME",
        help=f"whose files to imitate (emoset): {', '.join(LAYOUT_NAMES)}",
    )
    parser.add_argument("--out", required=True, type=Path, help="new or empty folder")
    parser.add_argument(
        "--images", type=number(Count), help=f"images in all ({_IMAGES}), shared out as in the real dataset"
    )
    for split, count in _SPLITS.items():
        parser.add_argument(
            f"--{split}", type=number(Natural), help=f"emoset without --images: {split} images ({count})"
        )
    parser.add_argument(
        "--missing",
        type=number(Share),
        help=f"emoset without --images: share of images without an attribute ({_MISSING})",
    )
    parser.add_argument("--size", type=number(Width), default=64, help="pixels of an image's side (64)")
    parser.add_argument(
        "--difficulty", type=number(Share), help="0 (one large plain object) to 1 (small, hidden, cluttered)"
    )
    parser.add_argument("--seed", type=number(Seed), default=0, help="another seed, other paintings (0)")
    parser.add_argument(
        "--fault",
        action="append",
        default=[],
        choices=(*FAULTS, "all"),
        metavar="NAME",
        help=f"what goes wrong on real disks; may be repeated; all: whatever the layout can have; {', '.join(FAULTS)}",
    )
    parser.add_argument(
        "--index",
        action="store_true",
        help="emoset without --images: also write index.jsonl of the training images, for data.generated: real images "
        "in the place of generated ones",
    )
    options = parser.parse_args(args)
    check_new_folder(options.out, "--out")
    by_split = [name for name in (*_SPLITS, "missing") if getattr(options, name) is not None]
    by_split += ["index"] if options.index else []
    if options.layout == "emoset" and options.images is None and not options.fault:
        return _paint_splits(options)
    if by_split:
        raise UniEmoError(
            f"--{by_split[0]} must go with --layout emoset without --images and --fault; got layout {options.layout}: "
            "take --images for the number of images"
        )
    return _paint_layout(options)


def _paint_splits(options: argparse.Namespace) -> int:
    """Paint the miniature's own tree with given sizes of the splits."""
    from uniemo.data.generated import write_index
    from uniemo.miniature.synthesis import synthesize_emoset
    from uniemo.text_files import read_json

    train, val, test = (
        default if getattr(options, name) is None else int(getattr(options, name)) for name, default in _SPLITS.items()
    )
    missing = _MISSING if options.missing is None else options.missing
    synthesize_emoset(options.out, train, val, test, options.seed, options.size, missing, _difficulty(options))
    if options.index:
        files = read_json(options.out / "train.json")
        write_index(options.out / "index.jsonl", [{"file": file, "emotion": name} for name, file, _ in files])
    print(f"painted {train} training, {val} validation and {test} test images in {options.out}")
    return 0


def _difficulty(options: argparse.Namespace) -> float:
    """Return the difficulty asked for, or the miniature's own."""
    from uniemo.miniature.painter import DIFFICULTY

    return DIFFICULTY if options.difficulty is None else options.difficulty


def _paint_layout(options: argparse.Namespace) -> int:
    """Paint a tree in any layout, with faults."""
    from uniemo.miniature.layouts import possible_faults, synthesize

    images = _IMAGES if options.images is None else options.images
    faults = possible_faults(options.layout) if "all" in options.fault else tuple(dict.fromkeys(options.fault))
    struck = synthesize(options.layout, options.out, images, options.seed, options.size, faults, _difficulty(options))
    print(f"painted {images} images in {options.out}, layout {options.layout}")
    for fault, files in struck.items():
        print(f"  {fault}: {', '.join(files)}")
    return 0
