"""``uniemo generate``: images that evoke an emotion."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uniemo.cli.parsing import (
    Parser,
    check_new_folder,
    near,
    number,
    pick_device,
    processes_to_start,
    run_in_processes,
)
from uniemo.errors import Batch, Count, Guidance, Rating, Seed, Steps, Temperature, UniEmoError
from uniemo.launch import launched_rank, process_group
from uniemo.vocabulary import Vocabulary, check_scale

if TYPE_CHECKING:
    from torch import Tensor

_DESCRIPTION = """Generate images that evoke an emotion, a mixture of emotions, or a valence and an arousal.

The output folder gets a folder of PNGs per emotion, index.jsonl (how each image was made, and how far its features lie
from those of the nearest training image that the checkpoint keeps) and grid.png. It appears when all is done: until
then images gather in OUT.partial beside it, which goes when a run fails or is stopped, unless it was started with
--resume. The same seed gives the same image, whatever --batch_size and --devices; with the same ones it is the same bit
for bit, resumed or not, with others a pixel may be rounded otherwise, by 1/255."""

_EXAMPLES = """examples:
  uniemo generate --ckpt runs/joint/best.ckpt --emotion awe --num 4 --out awe/
  uniemo generate --ckpt runs/joint/best.ckpt --emotion awe=0.7 --emotion fear=0.3 --prompt "a {} room" --out mixed/
  uniemo generate --ckpt runs/joint/best.ckpt --valence 6 --arousal 3 --num 4 --out calm/
  uniemo generate --ckpt runs/joint/best.ckpt --emotion all --num 32 --out out/      (then: uniemo filter)
  uniemo generate --ckpt runs/joint/best.ckpt --emotion all --prompts prompts.txt --num 4 --out asked/
  uniemo generate --ckpt runs/joint/best.ckpt --emotion all --num 5000 --out many/ --devices 2 --resume
  torchrun --nproc_per_node 2 -m -- uniemo generate --ckpt runs/joint/best.ckpt --emotion awe --out awe/
"""

ALL = "all"
_POINT = ("valence", "arousal", "scale", "places", "spread")  # options of a point in place of --emotion


def _parser() -> Parser:
    """Return the options."""
    parser = Parser("uniemo generate", _DESCRIPTION, _EXAMPLES)
    parser.add_argument(
        "--ckpt", required=True, type=Path, help="checkpoint of the joint or feedback stage or of a generating baseline"
    )
    parser.add_argument(
        "--emotion",
        action="append",
        metavar="NAME[=WEIGHT]",
        help='an emotion; several make a mixture, weights are free; "all" generates --num images of each',
    )
    parser.add_argument(
        "--valence",
        type=number(Rating),
        metavar="V",
        help="with --arousal, in place of --emotion: a mixture of the emotions whose places are near that point",
    )
    parser.add_argument("--arousal", type=number(Rating), metavar="A", help="see --valence")
    parser.add_argument(
        "--scale",
        type=number(Rating),
        nargs=2,
        metavar=("LOW", "HIGH"),
        help="least and greatest value of --valence and --arousal (that of the places, 1 9)",
    )
    parser.add_argument(
        "--places",
        type=Path,
        metavar="FILE",
        help="the emotions' places as JSON, see docs/datasets.md (people's ratings of the words, from 1 to 9)",
    )
    parser.add_argument(
        "--spread",
        type=number(Temperature),
        help="how far --valence and --arousal reach for emotions, as a share of the scale (0.125)",
    )
    parser.add_argument("--out", required=True, type=Path, help="new or empty folder")
    prompt = parser.add_mutually_exclusive_group()
    prompt.add_argument("--prompt", help='text with {} where the emotion goes, for example "a {} room"')
    prompt.add_argument("--prompts", type=Path, metavar="FILE", help="such texts, one a line; --num images with each")
    parser.add_argument("--num", type=number(Count), default=16, help="images (16)")
    parser.add_argument(
        "--seed", type=number(Seed), default=0, help="of the first image; the next has the next seed (0)"
    )
    parser.add_argument(
        "--space",
        choices=("mixture", "variation", "gaussian", "bank"),
        metavar="{mixture,variation,gaussian}",
        help="sample features from the emotion's mixture of Gaussians, vary those of single training images, or sample "
        "each from its mean and deviation (the checkpoint's choice)",
    )
    parser.add_argument("--steps", type=number(Steps), help="denoising steps (the checkpoint's choice)")
    parser.add_argument(
        "--guidance", type=number(Guidance), help="scale of classifier-free guidance (the checkpoint's choice)"
    )
    parser.add_argument(
        "--scheduler",
        help='diffusers scheduler such as DDIMScheduler, or "dpm++", "dpm++ karras", "dpm++ sde", lcm, turbo, '
        "lightning (the checkpoint's choice)",
    )
    parser.add_argument(
        "--adapter",
        metavar="FILE",
        help="published LoRA (.safetensors) that is merged into the diffusion model, for few steps: that of LCM with "
        "--scheduler lcm --steps 4 --guidance 0, of Lightning with --scheduler lightning",
    )
    parser.add_argument(
        "--offload",
        choices=("model", "sequential"),
        help="keep the diffusion model in main memory and bring to the GPU one network at a time, or one layer at a "
        "time (slow): for small cards, see docs/hardware.md",
    )
    parser.add_argument("--batch_size", type=number(Batch), default=32, help="images at a time, of each process (32)")
    parser.add_argument(
        "--resume",
        action="store_true",
        help="keep what is generated when the run is stopped or fails, and go on from there when it is started again; "
        "also what a killed run has left",
    )
    parser.add_shared("device", "devices", "trust")
    return parser


def parse_emotions(given: list[str], vocabulary: Vocabulary) -> dict[str, float]:
    """Return the weight of each emotion of ``--emotion`` options, ``name`` or ``name=weight`` each."""
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


def run(args: list[str]) -> int:
    """Generate; ``args`` begin with the command."""
    options = _parser().parse_args(args[1:])
    _check(options)
    processes_to_start(options.devices, options.device)  # or say what is wrong with them before any work
    rows = _plan(options)

    from uniemo.generation.partial import partial_folder

    if launched_rank():  # of torchrun's
        _generate(options, rows)
        return 0
    with partial_folder(options.out, rows, options.resume):
        run_in_processes(options, _generate, options, rows)
    print(f"wrote {len(rows)} images, index.jsonl and grid.png to {options.out}")
    return 0


def _check(options: argparse.Namespace) -> None:
    """Find mistakes that need no model."""
    from uniemo.generation.prompt_files import check_prompt
    from uniemo.models.diffusion.components import find_adapter

    check_new_folder(options.out, "--out")
    point = [f"--{name}" for name in _POINT if getattr(options, name) is not None]
    if options.emotion is not None and point:
        raise UniEmoError(f"--emotion and {point[0]} exclude each other; got both: leave one out")
    if options.emotion is None and (options.valence is None or options.arousal is None):
        got = f"{' '.join(point)} alone" if point else "neither"
        raise UniEmoError(f"--emotion, or --valence with --arousal, must say what to generate; got {got}: add it")
    if options.prompt is not None:
        check_prompt(options.prompt, "--prompt")
    if options.offload is not None and pick_device(options.device) == "cpu":
        raise UniEmoError("--offload must come with a GPU; there is none here or --device is cpu: leave it out")
    find_adapter(options.adapter)
    if options.scheduler is not None:
        from uniemo.models.diffusion.schedulers import find_scheduler

        find_scheduler(options.scheduler, "--scheduler")


def _plan(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of the index that is going to be written; nothing large is loaded yet."""
    from uniemo.checkpoint import BASELINE, GENERATING, read_checkpoint
    from uniemo.generation.prompt_files import read_prompts
    from uniemo.generation.sampling import plan_images
    from uniemo.models.diffusion import DiffusionConfig
    from uniemo.plain_configs import make_config

    _, info = read_checkpoint(options.ckpt, (*GENERATING, BASELINE))
    if "diffusion" not in info.model:
        raise UniEmoError(
            f"--ckpt must be of a method that generates images; {options.ckpt} is of {info.method}: take classify"
        )
    point: dict[str, Any] = {}
    if options.emotion is None:
        weights, point["affect"] = _mixture_at(options, info.vocabulary)
        mixtures = [weights]
    elif [text.strip().lower() for text in options.emotion] == [ALL]:
        mixtures = [{name: 1.0} for name in info.vocabulary.emotions]
    else:
        mixtures = [parse_emotions(options.emotion, info.vocabulary)]
    config = make_config(DiffusionConfig, info.model["diffusion"])
    prompts = [options.prompt or config.train_prompt] if options.prompts is None else read_prompts(options.prompts)
    settings = {
        "checkpoint": info.digest(),
        "space": _space(options, info.model),
        "steps": options.steps or config.steps,
        "guidance": config.guidance if options.guidance is None else options.guidance,
        "scheduler": options.scheduler or config.scheduler,
        **point,
    }
    if options.adapter is not None:
        settings["adapter"] = Path(options.adapter).name
    if info.method:  # of a baseline
        settings["method"] = info.method
    return [
        {**row, "prompt": prompts[place // options.num], **settings}
        for weights in mixtures
        for place, row in enumerate(plan_images(weights, options.num * len(prompts), options.seed))
    ]


def _mixture_at(options: argparse.Namespace, vocabulary: Vocabulary) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the weights for ``--valence`` and ``--arousal``, and what the index says of the point."""
    from uniemo.generation.places import SPREAD, WORDS, mean_place, read_places, weights_at

    places = WORDS if options.places is None else read_places(options.places)
    scale = places.scale if options.scale is None else check_scale(options.scale)
    spread = SPREAD if options.spread is None else options.spread
    weights = weights_at(options.valence, options.arousal, vocabulary.emotions, places, scale, spread)
    if not launched_rank():
        valence, arousal = mean_place(weights, places, scale)
        mixture = ", ".join(f"{name} {weight:.2f}" for name, weight in weights.items())
        print(
            f"valence {options.valence:g} and arousal {options.arousal:g} on a scale of {scale[0]:g} to {scale[1]:g}: "
            f"{mixture}; their places, by {places.source}, have the mean {valence:.2f} and {arousal:.2f}",
            flush=True,
        )
    return weights, {"valence": options.valence, "arousal": options.arousal, "scale": list(scale)}


def _space(options: argparse.Namespace, model: dict[str, Any]) -> str | None:
    """Return how features are sampled; None for a baseline that samples none."""
    from uniemo.models.emotion_space import EmotionSpaceConfig
    from uniemo.plain_configs import make_config

    if "space" in model:
        given = {} if options.space is None else {"kind": options.space}
        return make_config(EmotionSpaceConfig, {**model["space"], **given}).kind
    if options.space is not None:
        raise UniEmoError(
            f"--space must be left out for a method that has no emotion space; got {options.space} with {options.ckpt}"
        )
    return None


def _load(path: Path, baseline: bool, trust: bool) -> Any:  # noqa: ANN401 - a UniEmoModel, or an EmotionDiffusion
    """Load what generates."""
    from uniemo.checkpoint import BASELINE, GENERATING, load_model, read_checkpoint

    if baseline:
        from uniemo.baselines.restore import build_baseline

        return build_baseline(*read_checkpoint(path, (BASELINE,)), trust).model
    return load_model(path, GENERATING, generation=True, trust=trust)[0]


def _generate(options: argparse.Namespace, rows: list[dict[str, Any]]) -> None:
    """Generate this rank's share of the rows into the partial folder."""
    from uniemo.cache import atomic_write
    from uniemo.generation.grids import image_grid
    from uniemo.generation.partial import partial_path
    from uniemo.generation.sampling import first_images, generate_images
    from uniemo.models.diffusion.components import find_adapter, merge_adapter

    settings, folder, baseline = rows[0], partial_path(options.out), "method" in rows[0]
    with process_group(pick_device(options.device)) as device:
        model = _load(options.ckpt, baseline, options.trust)
        adapter = find_adapter(options.adapter)
        if adapter is not None:
            merge_adapter(model.diffusion.pipeline(), adapter)
        if options.offload is not None:
            model.diffusion.offload(options.offload, device)
        model = model.to(device)

        # a prompt that is cut off before its place for the emotion is found before any work
        first, kind = _mix(rows[0], model.vocabulary), settings["space"]
        for prompt in dict.fromkeys(row["prompt"] for row in rows):
            texts = (
                model.texts([first], [0], [prompt], kind)
                if baseline
                else ([prompt], model.sample_condition(first, [0], kind))
            )
            model.diffusion.embed(*texts)

        def generate(part: Sequence[dict[str, Any]]) -> Tensor:
            return model.generate(
                [_mix(row, model.vocabulary) for row in part],
                [row["seed"] for row in part],
                prompts=[row["prompt"] for row in part],
                steps=settings["steps"],
                guidance=settings["guidance"],
                kind=kind,
                scheduler=settings["scheduler"],
                batch_size=options.batch_size,
            )

        if launched_rank() == 0 and kind is not None:
            rows = _with_distances(model, rows)
        generate_images(folder, rows, generate, options.batch_size)
        if launched_rank() == 0:
            with atomic_write(folder / "grid.png") as path:
                image_grid(first_images(folder, rows)).save(path, format="PNG")


def _mix(row: dict[str, Any], vocabulary: Vocabulary) -> dict[int, float]:
    """Return the weights of a row's emotions by index."""
    return {vocabulary.emotion_index(name): weight for name, weight in row["weights"].items() if weight > 0}


def _with_distances(model: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:  # noqa: ANN401
    """Return rows with how far their features lie from the nearest training image, where that is known; print it."""
    kind, mixes = rows[0]["space"], [_mix(row, model.vocabulary) for row in rows]
    known = model.space.distances(mixes, [row["seed"] for row in rows], kind, model.space_config.noise)
    if known is None:
        return rows
    found, between = known
    print(
        f"features sampled as {kind}: median distance to the nearest training image {float(found.median()):.3g}, "
        f"between training images {between:.3g}",
        flush=True,
    )
    return [{**row, "nearest": round(value, 4)} for row, value in zip(rows, found.tolist(), strict=True)]
