"""``uniemo data attributes``: EmoGen's attribute folders."""

from __future__ import annotations

from pathlib import Path

from uniemo.cli.parsing import Parser, check_new_folder


def run(args: list[str]) -> int:
    """Build the folders; ``args`` are the options."""
    parser = Parser(
        "uniemo data attributes",
        "Sort EmoSet's images into a folder for each object and scene, as EmoGen's scripts expect them:\n"
        "object/(778)Sculpture/<emotion>_<id>.jpg, the number of images before the name.",
        "example:\n  uniemo data attributes EmoSet-118K/ --out by_attribute/ --kind scene",
    )
    parser.add_argument("root", type=Path, metavar="ROOT", help="EmoSet's folder, with image/ and annotation/")
    parser.add_argument("--out", required=True, type=Path, help="new or empty folder")
    parser.add_argument("--kind", choices=("scene", "object", "both"), default="both", help="which attributes (both)")
    parser.add_argument("--copy", action="store_true", help="copy the images; default: relative links to them")
    parser.add_shared("follow_links")
    options = parser.parse_args(args)
    check_new_folder(options.out, "--out")

    from uniemo.data.attribute_folders import KINDS, build_attribute_folders

    kinds = tuple(kind for kind in KINDS if options.kind in (kind, "both"))
    built = build_attribute_folders(options.root, options.out, kinds, options.copy, follow_links=options.follow_links)
    for kind, folders in built.images.items():
        print(f"{kind}: {len(folders)} folders with {sum(folders.values())} {'copies' if options.copy else 'links'}")
    if built.unannotated:
        print(f"images without an annotation, in no folder: {built.unannotated}")
    print(f"in {options.out}")
    return 0
