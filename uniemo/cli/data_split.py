"""``uniemo data split``: a split of a dataset as a file, for ``--data.split_file``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from uniemo.cli.parsing import Parser, check_new_file, number
from uniemo.errors import Count, Seed, Share, UniEmoError

if TYPE_CHECKING:
    from uniemo.data.manifest import Manifest
    from uniemo.data.splits import Assignment

_DESCRIPTION = """Write the split of a dataset to a file that --data.split_file takes.

Cut by a seed, each emotion with its share in each split, identical files always on one side: the same tree and seed
give the same split on any machine. Splits that the tree gives itself are kept (a missing validation split is taken from
training) unless --fresh is said. With --folds there is one file for each fold, its number before the suffix."""

_EXAMPLES = """examples:
  uniemo data split /data/FI --out fi_split.json --seed 1
  uniemo data split /data/FI --out fi_split.json --fractions 0.8 0.1 0.1
  uniemo data split /data/twitter2 --out folds.json --folds 5
  uniemo fit --config understanding.yaml --config data/fi.yaml --data.root /data/FI --data.split_file fi_split.json
"""


def run(args: list[str]) -> int:
    """Write a split; ``args`` are those behind "data split"."""
    parser = Parser("uniemo data split", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("root", metavar="ROOT", help="folder of the dataset")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE", help="JSON file to write")
    parser.add_argument(
        "--fractions",
        nargs=3,
        type=number(Share),
        metavar=("TRAIN", "VAL", "TEST"),
        help="shares (those of fit: 0.8 0.05 0.15; EmotionROI 0.63 0.07 0.3; Twitter 0.72 0.08 0.2)",
    )
    parser.add_argument("--folds", type=number(Count), help="cross-validation: a file for each of so many folds")
    parser.add_argument("--seed", type=number(Seed), default=0, help="of the choice (0)")
    parser.add_argument("--fresh", action="store_true", help="cut anew, whatever split or folds the tree gives")
    parser.add_argument("--agreement", choices=("three", "four", "five"), help="Twitter I: how many agree (five)")
    parser.add_shared("layout", "dataset", "follow_links")
    options = parser.parse_args(args)
    check_new_file(options.out, "--out")
    if options.fractions is not None and options.folds is not None:
        raise UniEmoError("--fractions and --folds must not be given together; leave one out")

    import uniemo.data
    from uniemo.data.layout import find_layout, layouts_of, read_manifest
    from uniemo.data.splits import assign, write_split
    from uniemo.miniature.paths import existing_folder

    root = existing_folder(options.root, "ROOT")
    layout, folder = find_layout(root, layouts_of(options.dataset), options.layout)
    manifest = read_manifest(folder, [layout], layout.name, options.follow_links, agreement=options.agreement)
    if not len(manifest):
        raise UniEmoError(f"ROOT must hold labelled images; {root} has none: see uniemo data check {options.root}")
    if options.fractions is not None and not options.fresh and "test" in manifest.given_splits:
        raise UniEmoError(
            f"--fractions must be left out for a tree with its own splits ({', '.join(manifest.given_splits)}); "
            "add --fresh to cut it anew"
        )
    # What fit takes, so that the same seed gives the same split.
    fractions = tuple(options.fractions or getattr(uniemo.data, layout.dataset).fractions)
    for fold in [None] if options.folds is None else range(1, options.folds + 1):
        folds = options.folds or 5
        made = assign(manifest, options.seed, fractions, fold=fold, folds=folds, fresh=options.fresh)
        path = options.out
        if fold is not None:
            path = path.with_name(f"{path.stem}.fold{fold}{path.suffix}")
        write_split(path, manifest, made)
        print(_summary(manifest, made, path))
    return 0


def _summary(manifest: Manifest, made: Assignment, path: Path) -> str:
    """Say what was written."""
    how = {"tree": "as the tree gives it", "completed": "as the tree gives it, validation from training"}
    lines = [f"{path}: {', '.join(f'{count:,} {split}' for split, count in made.counts().items())}"]
    lines[0] += f" ({manifest.info.layout}, {how.get(made.source, f'seed {made.seed}')})"
    if made.duplicates:
        lines.append(f"  {len(made.duplicates):,} pictures stand there more than once, first {made.duplicates[0][0]}")
    if made.left_out:
        lines.append(f"  {len(made.left_out):,} images left out, first {made.left_out[0][0]}: {made.left_out[0][1]}")
    return "\n".join(lines)
