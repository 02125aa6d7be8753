"""``uniemo data synthesize``: paint a tree in a real dataset's layout."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from uniemo.cli.parsing import Parser, check_new_folder, number
from uniemo.errors import Count, Natural, Seed, Share, UniEmoError, Width

_BY_SPLIT = {"train": 2000, "val": 400, "test": 4000, "missing": 0.1}


def run(args: list[str]) -> int:
    """Paint; ``args`` are the options."""
    from uniemo.miniature.layouts import FAULTS, LAYOUT_NAMES, possible_faults, synthesize

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
    parser.add_argument("--images", type=number(Count), help="images in all (200), shared out as in the real dataset")
    for name, default in _BY_SPLIT.items():
        kind, what = (Natural, f"{name} images") if name != "missing" else (Share, "share without an attribute")
        parser.add_argument(f"--{name}", type=number(kind), help=f"emoset without --images: {what} ({default})")
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
    common = _given(options, ("seed", "size", "difficulty"))
    by_split = _given(options, _BY_SPLIT)
    if options.layout == "emoset" and options.images is None and not options.fault:
        _paint_splits(options.out, {**_BY_SPLIT, **by_split}, common, options.index)
        return 0
    if by_split or options.index:
        raise UniEmoError(
            f"--{next(iter(by_split), 'index')} must go with --layout emoset without --images and --fault; got layout "
            f"{options.layout}: take --images for the number of images"
        )
    faults = possible_faults(options.layout) if "all" in options.fault else tuple(dict.fromkeys(options.fault))
    images = options.images or 200
    struck = synthesize(options.layout, options.out, images, faults=faults, **common)
    print(f"painted {images} images in {options.out}, layout {options.layout}")
    for fault, files in struck.items():
        print(f"  {fault}: {', '.join(files)}")
    return 0


def _given(options: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    """Return the options that have a value."""
    return {name: value for name in names if (value := getattr(options, name)) is not None}


def _paint_splits(out: Path, by_split: dict[str, Any], common: dict[str, Any], index: bool) -> None:
    """Paint the miniature's own tree with given sizes of the splits."""
    from uniemo.data.generated import write_index
    from uniemo.miniature.synthesis import synthesize_emoset
    from uniemo.text_files import read_json

    synthesize_emoset(out, **by_split, **common)
    if index:
        files = read_json(out / "train.json")
        write_index(out / "index.jsonl", [{"file": file, "emotion": name} for name, file, _ in files])
    counts = "{train} training, {val} validation and {test} test images".format(**by_split)
    print(f"painted {counts} in {out}")
