"""``uniemo generate``: images that evoke an emotion."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from uniemo.cli.parsing import Parser, add_device, check_new_folder, natural, near, pick_device, positive
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

_DESCRIPTION = """Draw images that evoke an emotion or a mixture of emotions.

The output folder gets a folder of PNGs per emotion, index.jsonl (how each image was made) and grid.png. It appears when
all is done: nothing is left of a run that fails. The same seed gives the same image."""

_EXAMPLES = """examples:
  uniemo generate --ckpt runs/joint/best.ckpt --emotion awe --num 4 --out awe/
  uniemo generate --ckpt runs/joint/best.ckpt --emotion awe=0.7 --emotion fear=0.3 --prompt "a {} room" --out mixed/
  uniemo generate --ckpt runs/joint/best.ckpt --emotion all --num 32 --out out/      (then: uniemo filter)
"""

ALL = "all"


def _parser() -> Parser:
    """Return the options."""
    parser = Parser("uniemo generate", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("--ckpt", required=True, type=Path, help="checkpoint of the joint or feedback stage")
    parser.add_argument(
        "--emotion",
        required=True,
        action="append",
        metavar="NAME[=WEIGHT]",
        help='an emotion; several make a mixture, weights are free; "all" draws --num images of each',
    )
    parser.add_argument("--out", required=True, type=Path, help="new or empty folder")
    parser.add_argument("--prompt", help='text with {} where the emotion goes, for example "a {} room"')
    parser.add_argument("--num", type=positive, default=16, help="images (16)")
    parser.add_argument("--seed", type=natural, default=0, help="of the first image; the next has the next seed (0)")
    parser.add_argument(
        "--space",
        choices=("bank", "gaussian"),
        help="draw features of single training images, or from their mean and spread (the checkpoint's choice)",
    )
    parser.add_argument("--steps", type=positive, help="denoising steps (the checkpoint's choice)")
    parser.add_argument("--guidance", type=float, help="scale of classifier-free guidance (the checkpoint's choice)")
    parser.add_argument("--scheduler", help="diffusers scheduler, for example DDIMScheduler (the checkpoint's choice)")
    parser.add_argument("--batch_size", type=positive, default=16, help="images at a time (16)")
    add_device(parser)
    return parser


def parse_emotions(given: list[str], vocabulary: Vocabulary) -> dict[str, float]:
    """Read ``--emotion`` options.

    Args:
        given: ``name`` or ``name=weight`` each.
        vocabulary: known emotions.

    Returns:
        Weight by emotion name, in the order given.

    Raises:
        UniEmoError: an unknown emotion, one given twice, or weights that are no numbers from zero with a positive sum.
    """
    weights: dict[str, float] = {}
    for text in given:
        name, equals, number = text.partition("=")
        wanted = name.strip().lower()
        if wanted not in vocabulary.emotions:
            hint = near(wanted, vocabulary.emotions)
            raise UniEmoError(f"--emotion must be one of {', '.join(vocabulary.emotions)} or all; got {name!r}{hint}")
        try:
            weight = float(number) if equals else 1.0
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight) or weight < 0:
            raise UniEmoError(f"--emotion weights must be numbers from 0; got {text!r}: give for example {wanted}=0.7")
        if wanted in weights:
            raise UniEmoError(f"--emotion {wanted} must be given once; got it twice: add the weights up")
        weights[wanted] = weight
    if sum(weights.values()) <= 0:
        raise UniEmoError(f"--emotion weights must have a positive sum; got {' '.join(given)}: give one above 0")
    return weights


def run(words: list[str]) -> int:
    """Generate; ``words`` begin with the command."""
    options = _parser().parse_words(words[1:])
    _check(options)

    from uniemo.checkpoint import GENERATING, load_model, read_checkpoint

    _, info = read_checkpoint(options.ckpt, GENERATING)
    vocabulary = info.vocabulary
    if [text.strip().lower() for text in options.emotion] == [ALL]:
        mixtures = [{name: 1.0} for name in vocabulary.emotions]
    else:
        mixtures = [parse_emotions(options.emotion, vocabulary)]
    device = pick_device(options.device)
    model, info = load_model(options.ckpt, GENERATING, generation=True)
    _draw(options, model.to(device), info, mixtures)
    total = options.num * len(mixtures)
    print(f"wrote {total} images, index.jsonl and grid.png to {options.out}")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Find mistakes that need no model."""
    check_new_folder(options.out, "--out")
    if options.prompt is not None and "{}" not in options.prompt:
        raise UniEmoError(
            f'--prompt must hold {{}} where the emotion goes; got {options.prompt!r}: write for example "a {{}} room"'
        )
    if options.guidance is not None and not (math.isfinite(options.guidance) and options.guidance >= 0):
        raise UniEmoError(f"--guidance must be at least 0; got {options.guidance}")
    if options.scheduler is not None:
        import diffusers

        kind = getattr(diffusers, options.scheduler, None)
        if kind is None or not hasattr(kind, "set_timesteps"):
            known = [name for name in dir(diffusers) if name.endswith("Scheduler")]
            hint = near(options.scheduler, known) or ": try DDIMScheduler"
            raise UniEmoError(f"--scheduler must be a scheduler of diffusers; got {options.scheduler!r}{hint}")


def _draw(options: argparse.Namespace, model: Any, info: Any, mixtures: list[dict[str, float]]) -> None:  # noqa: ANN401
    """Draw everything into a temporary folder that becomes ``--out`` at the end."""
    from uniemo.callbacks.image_grid import image_grid
    from uniemo.feedback.drawing import draw_images, plan_images
    from uniemo.resources import atomic_write

    config = model.diffusion.config
    settings = {
        "prompt": options.prompt or config.train_prompt,
        "checkpoint": info.digest(),
        "space": options.space or model.space_config.kind,
        "steps": options.steps or config.steps,
        "guidance": config.guidance if options.guidance is None else options.guidance,
        "scheduler": options.scheduler or config.scheduler,
    }
    rows = [{**row, **settings} for weights in mixtures for row in plan_images(weights, options.num, options.seed)]
    model.diffusion.encode_prompt([settings["prompt"]], model.sample_condition(_indices(model, mixtures[0]), [0]))

    def draw(part: list[dict[str, Any]]) -> Any:  # noqa: ANN401
        return model.generate(
            _indices(model, part[0]["weights"]),
            [row["seed"] for row in part],
            prompts=settings["prompt"],
            steps=settings["steps"],
            guidance=settings["guidance"],
            kind=settings["space"],
            scheduler=settings["scheduler"],
            batch_size=options.batch_size,
        )

    with atomic_write(options.out) as folder:
        folder.mkdir()
        image_grid(draw_images(folder, rows, draw, options.batch_size)).save(folder / "grid.png")


def _indices(model: Any, weights: dict[str, float]) -> dict[int, float]:  # noqa: ANN401
    """Return weights by class index."""
    return {model.vocabulary.emotion_index(name): weight for name, weight in weights.items()}
