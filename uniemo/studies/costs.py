"""What commands cost, roughly: seconds on the miniature, GPU hours at paper scale. The one place for such numbers."""

from __future__ import annotations

from itertools import pairwise
from pathlib import PurePath

from uniemo.studies.cells import Cell, Command
from uniemo.studies.work import Result

# Seconds of one thread where each core has one, (in full, with --quick); start-up of a command included.
SECONDS: dict[str, tuple[float, float]] = {
    "understanding": (150, 50),
    "joint": (300, 100),
    "feedback": (140, 65),
    "zero_shot": (15, 15),
    "linear_probe": (100, 30),
    "fine_tune": (110, 40),
    "coop": (200, 40),
    "cocoop": (220, 50),
    "vision_language": (60, 60),
    "vision_language_lora": (600, 120),
    "prompted": (15, 15),
    "textual_inversion": (180, 60),
    "dreambooth": (180, 60),
    "emogen": (150, 60),
    "test": (20, 20),
    "test of images": (65, 30),
    "asking": (60, 60),
    "generate": (12, 12),  # and for each image:
    "filter": (25, 20),
    "data synthesize": (6, 6),
}
IMAGE = (0.15, 0.11)
_NO_GENERATION = ("--model.loss.gamma_diffusion", "0")
_NO_IMAGES = ("--generation_metrics.test_images", "0")
OTHER = (60.0, 30.0)  # of commands that are not in the table
SMALL = ("data/emotionroi.yaml", "data/twitter1.yaml", "data/twitter2.yaml")  # half as many images

# Arithmetic of the paper scale, in 1e12 floating-point operations (2 for each multiplication with addition).
GPU = 60.0  # a second, sustained: an L40S, which the paper used, reaches 362 at best in bfloat16 without sparsity
EMOTIONS = 8
TRAINED = {"emoset": 94_481, "fi": 18_646, "emotionroi": 1_247, "twitter1": 914, "twitter2": 434}  # training images
TESTED = {"emoset": 17_716, "fi": 3_496, "emotionroi": 594, "twitter1": 254, "twitter2": 121}
GENERATED = 1_000 * EMOTIONS  # in a test
CLIP = {"vit_b32": 0.0088, "vit_b16": 0.035, "vit_l14": 0.162}  # one image at 224 pixels forward
UNET = {"sd15": 0.70, "sdxl": 6.0}  # one latent forward, at 512 and 1,024 pixels
VAE = {"sd15": 1.1, "sdxl": 4.4}  # one image encoded
STEPS, GUIDED = 50, 2  # denoising steps, forward passes in each
ASKED = 2 * 7e-3 * 700  # one image: 7e9 weights, 700 tokens of image and question; emotions' names are a few more
POOL = 40_000  # images that a filter scores
ASKING = {"vision_language", "vision_language_lora"}
MEASURED = 0.2  # an evaluation's networks on one image: CLIP ViT-L/14 0.162, two ResNet-50s, Inception, AlexNet
GENERATING = {"joint", "feedback", "prompted", "textual_inversion", "dreambooth", "emogen"}
# passes of the trained tower over an image (forward and backward: 3), and epochs
TOWER = {"understanding": (3, 15), "fine_tune": (3, 15), "coop": (2, 10), "cocoop": (2, 10), "linear_probe": (1, 10)}
EPOCHS = {"joint": 10, "feedback": 5, "textual_inversion": 3, "dreambooth": 3, "emogen": 3}


def kind(command: Command, cell: Cell) -> str:
    """Return what a command is in the tables above."""
    if command.run == "fit":
        return "understanding" if _NO_GENERATION in pairwise(command.args) else _recipe(command)
    if command.run == "test":
        if _NO_IMAGES in pairwise(command.args):
            return "test"
        recipes = {_recipe(fit) for fit in _fits(cell)}
        return "asking" if recipes & ASKING else "test of images" if recipes & GENERATING else "test"
    return command.run


def seconds(cell: Cell, known: dict[str, Result]) -> float:
    """Return how long a cell will take: as long as it took before, else as long as one of its name, else a guess.

    At paper scale the guess is the GPU hours.
    """
    if cell.hash in known:
        return float(known[cell.hash]["seconds"])
    alike = [
        float(result["seconds"])
        for result in known.values()
        if (result["name"], result["scale"], result["quick"]) == (cell.name, cell.scale, cell.quick)
        and all(result["choices"].get(name) == dict(cell.choices).get(name) for name in ("method", "dataset"))
    ]
    if alike:
        return sum(alike) / len(alike)
    if cell.scale == "paper":
        return gpu_hours(cell) * 3600
    share = 0.6 if any(name in SMALL for command in cell.commands for name in command.configurations()) else 1.0
    limit = dict(cell.choices).get("dataset", "").partition("_")[2]  # emoset_250 has 250 of 2,000 training images
    share *= 0.2 + 0.8 * int(limit) / 2000 if limit else 1.0
    starts = sum(SECONDS.get(kind(command, cell), OTHER)[cell.quick] for command in cell.commands)
    return share * starts + IMAGE[cell.quick] * sum(images(command) for command in cell.commands)


def images(command: Command) -> int:
    """Return how many images a ``generate`` command makes, 0 for any other command."""
    if command.run != "generate":
        return 0
    given = dict(zip(command.args, command.args[1:], strict=False))  # the last of an option counts
    return int(given.get("--num", 16)) * (EMOTIONS if given.get("--emotion") == "all" else 1)


def gpu_hours(cell: Cell) -> float:
    """Return the estimated hours of a cell on one GPU at paper scale, in full."""
    choices = dict(cell.choices)
    clip = CLIP[choices.get("clip", "vit_l14")]
    unet, vae = (table[choices.get("diffusion", "sd15")] for table in (UNET, VAE))
    generation = STEPS * GUIDED * unet  # of an image
    dataset, _, limit = choices.get("dataset", "emoset").partition("_")  # emoset_250 are 250 of its images
    trained, tested = int(limit or TRAINED[dataset]), TESTED[choices.get("other", dataset)]
    work = 0.0
    for command in cell.commands:
        name = kind(command, cell)
        if name in TOWER:
            passes, epochs = TOWER[name]
            work += trained * epochs * passes * clip
        elif name in EPOCHS:  # UNet forward and backward without its own weights' gradients: 2; checkpointed XL: 3
            work += trained * EPOCHS[name] * ((3 if unet > 1 else 2) * unet + vae + 3 * clip)
        elif name == "test of images":
            work += GENERATED * generation + tested * clip
        elif name == "test":
            work += tested * clip
        elif name == "vision_language_lora":  # one epoch; forward twice, for checkpointing, and back to the adapters
            work += trained * 3 * ASKED
        elif name == "asking":
            work += tested * ASKED
        elif name == "filter":
            work += POOL * clip
        elif name == "generate":
            work += images(command) * generation
        elif name == "evaluate":
            work += GENERATED * MEASURED
        elif name == "train-classifier":
            work += (trained + tested) * CLIP["vit_l14"]
    return work / GPU / 3600


def arithmetic() -> str:
    """Return how the GPU hours are estimated, in a few sentences."""

    def listed(table: dict[str, float]) -> str:
        return ", ".join(f"{name} {value}" for name, value in table.items())

    return (
        f"Estimated, not measured: EmoSet's {TRAINED['emoset']:,} training images, epochs of the recipes; an image "
        f"costs passes × CLIP ({listed(CLIP)} TFLOP forward), in stages 2 and 3 also the UNet forward and back "
        f"({listed(UNET)} TFLOP forward; twice that, three times with SDXL's checkpointing) and the VAE "
        f"({listed(VAE)}). A test generates {GENERATED:,} images, the pool for explicit feedback has {POOL:,}, "
        f"each {STEPS} steps of {GUIDED} passes; a "
        f"vision-language model of 7e9 weights takes {ASKED:.0f} TFLOP for an image. One GPU gives {GPU:.0f} TFLOP a "
        f"second. An evaluated image takes {MEASURED} TFLOP. Decoding of images is not counted."
    )


def _recipe(command: Command) -> str:
    """Return the stem of a command's first configuration."""
    names = command.configurations()
    return PurePath(names[0]).stem if names else ""


def _fits(cell: Cell) -> list[Command]:
    """Return the trainings of a cell, else those of its parents."""
    own = [command for command in cell.commands if command.run == "fit"]
    return own or [command for parent in cell.parents for command in _fits(parent)]
