"""``uniemo data``: tools around datasets on disk."""

from __future__ import annotations

from pathlib import Path

from uniemo.cli.parsing import Parser, check_new_folder, natural, near, positive
from uniemo.errors import UniEmoError

LAYOUTS = ("emoset",)

_HELP = """usage: uniemo data <tool> [options]

tools:
  synthesize   paint a dataset with known emotions, in a real dataset's layout

"uniemo data synthesize --help" tells more.
"""


def run(words: list[str]) -> int:
    """Run a tool; ``words`` begin with "data"."""
    if len(words) < 2 or words[1] in ("-h", "--help"):
        print(_HELP, end="")
        return 0
    if words[1] != "synthesize":
        raise UniEmoError(f"uniemo data has the tool synthesize; got {words[1]!r}{near(words[1], ['synthesize'])}")
    return _synthesize(words[2:])


def _synthesize(words: list[str]) -> int:
    """Paint a tree."""
    parser = Parser(
        "uniemo data synthesize",
        "Paint small scenes with objects, labelled by a known table P(emotion | scene, object), in the layout of a\n"
        "real dataset, so that every loader runs without a download. The same arguments give the same bytes.",
        "example:\n  uniemo data synthesize --layout emoset --out painted/ --train 2000 --seed 1",
    )
    parser.add_argument("--layout", choices=LAYOUTS, default="emoset", help="whose files to imitate (emoset)")
    parser.add_argument("--out", required=True, type=Path, help="new or empty folder")
    parser.add_argument("--train", type=natural, default=2000, help="training images (2000)")
    parser.add_argument("--val", type=natural, default=400, help="validation images (400)")
    parser.add_argument("--test", type=natural, default=800, help="test images (800)")
    parser.add_argument("--size", type=positive, default=64, help="pixels of an image's side (64)")
    parser.add_argument("--missing", type=float, default=0.1, help="share of images without an attribute (0.1)")
    parser.add_argument("--seed", type=natural, default=0, help="another seed, other paintings (0)")
    options = parser.parse_words(words)
    check_new_folder(options.out, "--out")

    from uniemo.miniature.dataset import synthesize_emoset

    synthesize_emoset(
        options.out,
        train=options.train,
        val=options.val,
        test=options.test,
        seed=options.seed,
        size=options.size,
        missing=options.missing,
    )
    print(f"painted {options.train} training, {options.val} validation and {options.test} test images in {options.out}")
    return 0
