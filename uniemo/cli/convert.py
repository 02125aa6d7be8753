"""``uniemo convert``: published checkpoints in, other programs' formats out."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from uniemo.cli.parsing import Parser, check_new_file, check_writable, number
from uniemo.errors import Natural, UniEmoError

_DESCRIPTION = """Turn published checkpoints into ones that uniemo reads, and uniemo's into what other programs read.

  --from released FILE      stage 1 of the authors' code (best.pth) -> checkpoint of the understanding stage. Sizes are
                            read off its tensors; the CLIP tower is in the checkpoint, nothing is downloaded
  --from released FOLDER    its stage 2 (VIT_query.pth, mapper.pth, mapper_scene.pth, mapper_object.pth, UniEmo_space/)
                            -> checkpoint of the joint stage
  --from coefficients FILE  P(emotion | attribute) as JSON or a pickle of arrays -> JSON for attributes.table
  --to safetensors CKPT     weights of any checkpoint -> one .safetensors file; metadata says what they are
  --to diffusers CKPT       joint or feedback checkpoint -> a Stable Diffusion (1, 2 or XL) folder for plain diffusers
                            scripts: adapters merged, float32, each emotion's learned conditions as textual-inversion
                            words, and a README

Nothing in a file is ever executed: a pickle that asks for more than tensors and plain values is refused. The output
appears when all is done; an existing one is left alone without --overwrite."""

_EXAMPLES = """examples:
  uniemo convert --from released best.pth --pixels imagenet --output released.ckpt
  uniemo classify --ckpt released.ckpt photo.jpg
  uniemo test --ckpt released.ckpt --data.root /data/EmoSet
  uniemo fit --config paper/joint.yaml --config paper/released.yaml --config paper/released_joint.yaml \\
             --data.root /data/EmoSet --model.init_from released.ckpt
  uniemo convert --from released stage2/ --scenes scenes.pkl --objects objects.pkl \\
                 --diffusion models/stable-diffusion-v1-5 --output joint.ckpt
  uniemo convert --from coefficients attr_coefficient_emotion_scene.pkl --output scenes.json
  uniemo convert --to safetensors runs/joint/best.ckpt --output best.safetensors
  uniemo convert --to diffusers runs/joint/best.ckpt --output emotions/
"""

# Options that not every conversion takes: which do, argparse's settings.
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "emotions": (
        "released and coefficients",
        {
            "metavar": "A,B,…",
            "help": "names of the classifier's classes in its order, or of a table's (EmoSet's eight)",
        },
    ),
    "scenes": ("released", {"type": Path, "metavar": "FILE", "help": "released: coefficient table of scenes"}),
    "objects": ("released", {"type": Path, "metavar": "FILE", "help": "released: coefficient table of objects"}),
    "pixels": (
        "released",
        {
            "choices": ("clip", "imagenet", "half"),
            "help": "released: what pixels were normalised with in training, worked into the tower; the authors' code "
            "has imagenet in stage 1 and half in stage 2 (clip: the weights as they are)",
        },
    ),
    "space": (
        "released folder",
        {"type": Path, "metavar": "FOLDER", "help": "released folder: emotion space (its UniEmo_space)"},
    ),
    "diffusion": (
        "released folder",
        {"metavar": "NAME", "help": "released folder: Stable Diffusion that it generates with (Stable Diffusion 1.5)"},
    ),
    "draws": (
        "diffusers",
        {"type": number(Natural), "help": "diffusers: sampled conditions per emotion beside its mean (4)"},
    ),
}


def run(args: list[str]) -> int:
    """Convert; ``args`` begin with the command."""
    parser = Parser("uniemo convert", _DESCRIPTION, _EXAMPLES)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--from", dest="kind", choices=("released", "coefficients"), help="what is read")
    way.add_argument("--to", dest="target", choices=("safetensors", "diffusers"), help="what is written")
    parser.add_argument("source", type=Path, metavar="SOURCE", help="file or folder to convert")
    parser.add_argument("--output", required=True, type=Path, help="file or folder to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    for name, (_, settings) in _OPTIONS.items():
        parser.add_argument(f"--{name}", **settings)
    parser.add_shared("trust")
    options = parser.parse_args(args[1:])
    _check(options)
    convert = {"released": _released, "coefficients": _coefficients, "safetensors": _safetensors}
    print(convert.get(options.kind or options.target, _diffusers)(options))
    return 0


def _check(options: argparse.Namespace) -> None:
    """Find mistakes that need no file read."""
    source, output = options.source.expanduser(), options.output.expanduser()
    options.source, options.output = source, output
    folder = options.kind == "released" and source.is_dir()
    chosen = "released folder" if folder else options.kind or options.target
    for name, (where, _) in _OPTIONS.items():
        if getattr(options, name) is not None and not any(chosen.startswith(word) for word in where.split(" and ")):
            raise UniEmoError(f"--{name} must come with {where}; got {chosen}: leave it out")
    if not source.exists():
        raise UniEmoError(f"SOURCE must exist; {source} does not: correct the path")
    if source.is_dir() and not folder:
        raise UniEmoError(f"SOURCE must be a file for {chosen}; {source} is a folder: give a file in it")
    if output.resolve() == source.resolve():
        raise UniEmoError(f"--output must be another file than SOURCE; got {output} for both: choose a new name")
    if options.target == "diffusers":
        if output.is_file():
            raise UniEmoError(f"--output must be a folder; {output} is a file: choose another")
        if output.is_dir() and any(output.iterdir()) and not options.overwrite:
            raise UniEmoError(f"--output must be new; {output} exists: choose another or add --overwrite")
        check_writable(output.absolute().parent, "--output")
    else:
        check_new_file(output, "--output", options.overwrite)


def _released(options: argparse.Namespace) -> str:
    """Convert stage 1 or 2 of the released code."""
    from uniemo.convert.coefficients import read_coefficients
    from uniemo.convert.released import read_released
    from uniemo.convert.released_model import emotion_names
    from uniemo.convert.stages import convert_released, find_space
    from uniemo.taxonomy import MIKELS_8

    names = _names(options)
    file = read_released(options.source)
    emotions = emotion_names(file.sizes, names)
    common: dict[str, Any] = {"emotions": names, "pixels": options.pixels or "clip"}
    if options.scenes is not None:
        (common["scenes"],) = read_coefficients(options.scenes, emotions, "scene").values()
    if options.objects is not None:
        (common["objects"],) = read_coefficients(options.objects, emotions, "object").values()
    lines = [f"{file.path}: {file.sizes.describe()}"]
    if {"epoch", "max_accuracy"} <= set(file.about):
        lines.append(f"trained {file.about['epoch']} epochs, best accuracy {file.about['max_accuracy']}")
    lines += [f"note: {note}" for note in file.notes()]
    if names is None and emotions != MIKELS_8:
        lines.append(f"note: its classes are called {emotions[0]} and on: name all {len(emotions)} with --emotions")
    if options.diffusion is not None:
        common["diffusion"] = options.diffusion
    convert_released(options.source, options.output, space=options.space, **common)
    if options.source.is_dir() and find_space(options.source, options.space) is None:
        lines.append("note: no UniEmo_space there: the checkpoint cannot generate, convert again with --space")
    return "\n".join([*lines, f"wrote {options.output}"])


def _coefficients(options: argparse.Namespace) -> str:
    """Convert a table of coefficients."""
    from uniemo.convert.coefficients import read_coefficients, write_coefficients
    from uniemo.taxonomy import MIKELS_8

    tables = read_coefficients(options.source, _names(options) or MIKELS_8)
    write_coefficients(options.output, tables)
    counts = ", ".join(f"{len(rows)} {name if name.endswith('s') else name + 's'}" for name, rows in tables.items())
    return f"wrote {counts} to {options.output}"


def _safetensors(options: argparse.Namespace) -> str:
    """Write a checkpoint's weights."""
    from uniemo.convert.export import export_safetensors

    return f"wrote {export_safetensors(options.source, options.output)} tensors to {options.output}"


def _diffusers(options: argparse.Namespace) -> str:
    """Write a folder for diffusers."""
    from uniemo.convert.export import export_diffusers

    samples = 4 if options.draws is None else options.draws
    words = export_diffusers(options.source, options.output, samples, options.trust)
    return f"wrote a pipeline and {len(words)} words ({', '.join(words[:3])} …) to {options.output}"


def _names(options: argparse.Namespace) -> list[str] | None:
    """Return the names in ``--emotions``."""
    if options.emotions is None:
        return None
    return [name.strip().lower() for name in options.emotions.split(",")]
