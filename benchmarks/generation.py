"""Generation: ours beside the released procedure and the bare passes; images by batch size and number of processes.

    python -m benchmarks.generation --json benchmarks/generation.json    # five minutes

Three ways, in turns within one process, with the miniature's diffusion model, its scheduler and the same number of
denoising steps, with guidance:

- *uniemo*: ``UniEmoModel.generate`` in batches, and PNG files;
- *released*: what the authors' inference script does for each image, written anew and plainly: features drawn from
  mean and deviation, fused, the prompt through the text encoder, one image denoised and decoded, a file written. That
  it also sends each image and the names of all attributes through CLIP, to name the file, is left out;
- *floor*: the UNet on both branches and the VAE's decoder, on ready tensors in batches as large as ours.

Then ``uniemo generate`` runs with batches of 1, 5 and 16 and with two processes. Each image has a seed of its own; the
lowest PSNR between its versions is printed (8-bit PNGs; "equal" means that no value differs).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.short_run import short_run, uniemo
from benchmarks.timing import interleave, options, report, write_json
from uniemo.checkpoint import load_model
from uniemo.models.diffusion.schedulers import make_scheduler
from uniemo.models.emotion_space import seeded
from uniemo.models.uniemo import UniEmoModel

EMOTION = 1  # awe
PSNR = 50.0  # dB, at least
COMPARED = 16  # images of which


def save(images: Tensor, folder: Path, first: int = 0) -> None:
    """Write images (n, 3, H, W) in [0, 1] as PNGs that are numbered from ``first`` on."""
    pixels = (images * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()  # (n, H, W, 3)
    for number, image in enumerate(pixels, first):
        Image.fromarray(image).save(folder / f"{number:05d}.png")


@torch.no_grad()
def released(model: UniEmoModel, folder: Path, count: int, steps: int) -> int:
    """Draw ``count`` images one by one."""
    diffusion, space = model.diffusion, model.space
    assert diffusion is not None
    assert space is not None
    config, vae = diffusion.config, diffusion.vae
    empty = diffusion.embed([""]).states  # once, as released
    for seed in range(count):
        drawn = space.sample(EMOTION, [seeded(seed, EMOTION)], "gaussian")
        condition = model.condition(drawn, torch.tensor([EMOTION]))
        text = torch.cat([empty, diffusion.embed([config.train_prompt], condition).states])  # (2, T, W)
        scheduler = make_scheduler(config.scheduler, diffusion.scheduler_config)
        scheduler.set_timesteps(steps)
        noise = torch.randn(1, *diffusion.latent_shape, generator=torch.Generator().manual_seed(seed))
        latents = noise * scheduler.init_noise_sigma
        for step in scheduler.timesteps:
            both = scheduler.scale_model_input(torch.cat([latents, latents]), step)
            without, told = diffusion.unet(both, step, encoder_hidden_states=text).sample.chunk(2)
            latents = scheduler.step(without + config.guidance * (told - without), step, latents).prev_sample
        image = vae.decode(latents / vae.config.scaling_factor).sample
        save((image / 2 + 0.5).clamp(0, 1), folder, first=seed)
    return count


def ours(model: UniEmoModel, folder: Path, count: int, steps: int, batch: int) -> int:
    """Draw ``count`` images in batches."""
    save(model.generate({EMOTION: 1.0}, range(count), steps=steps, batch_size=batch), folder)
    return count


class Floor:
    """The passes that cannot be avoided, on ready tensors.

    Args:
        model: whose UNet and VAE are run.
        count: images.
        steps: denoising steps.
        batch: images at once.
    """

    def __init__(self, model: UniEmoModel, count: int, steps: int, batch: int) -> None:
        assert model.diffusion is not None
        self.diffusion, self.count, self.steps = model.diffusion, count, steps
        self.batch = min(batch, count)
        self.latents = torch.randn(self.batch, *self.diffusion.latent_shape)
        self.text = self.diffusion.embed([""]).states.detach().expand(2 * self.batch, -1, -1).contiguous()

    @torch.no_grad()
    def __call__(self) -> int:
        """Run them for all images; the last batch as a whole."""
        both = torch.cat([self.latents, self.latents])
        for _ in range(math.ceil(self.count / self.batch)):
            for _ in range(self.steps):
                self.diffusion.unet(both, 500, encoder_hidden_states=self.text)
            self.diffusion.vae.decode(self.latents)
        return math.ceil(self.count / self.batch) * self.batch


def lowest_psnr(first: Path, second: Path) -> float:
    """Return the lowest PSNR in dB between images of the same name in two folders, infinite where all are equal.

    Raises:
        RuntimeError: the folders do not hold the same files.
    """
    names = [sorted(file.relative_to(folder) for file in folder.glob("*/*.png")) for folder in (first, second)]
    if not names[0] or names[0] != names[1]:
        raise RuntimeError(f"{first} and {second} must hold the same images")
    lowest = math.inf
    for name in names[0]:
        pair = [np.asarray(Image.open(folder / name), dtype=np.float64) / 255 for folder in (first, second)]
        error = float(np.mean((pair[0] - pair[1]) ** 2))
        lowest = min(lowest, 10 * math.log10(1 / error) if error else math.inf)
    return lowest


def agreement(checkpoint: Path, folder: Path, count: int, steps: int) -> dict[str, float | str]:
    """Draw the same images in several ways and return the lowest PSNR to those of batches of 16."""
    common: tuple[str | Path, ...] = ("generate", "--ckpt", checkpoint, "--emotion", "awe", "--num", str(count))
    common += ("--steps", str(steps))
    runs = {
        "batches of 16": ("--batch_size", "16"),
        "batches of 5": ("--batch_size", "5"),
        "batches of 1": ("--batch_size", "1"),
        "two processes": ("--batch_size", "16", "--devices", "2"),
    }
    places = {name: folder / name.replace(" ", "-") for name in runs}
    for name, words in runs.items():
        uniemo(*common, *words, "--out", places[name])
    first, *others = places
    found = {f"{other} : {first}": lowest_psnr(places[first], places[other]) for other in others}
    return {name: "equal" if math.isinf(value) else round(value, 1) for name, value in found.items()}


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = options(__doc__)
    parser.add_argument("--ckpt", type=Path, help="checkpoint to draw with (default: one is trained for two steps)")
    parser.add_argument("--count", type=int, default=32, help="images in a turn (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="of ours and the floor (default: %(default)s)")
    parser.add_argument("--steps", type=int, default=15, help="denoising steps (default: %(default)s)")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        checkpoint = given.ckpt or short_run("joint", place / "joint")
        model, _ = load_model(checkpoint, generation=True)
        ways: dict[str, Callable[[], int]] = {
            "uniemo": lambda: ours(model, place, given.count, given.steps, given.batch),
            "released": lambda: released(model, place, given.count, given.steps),
            "floor": Floor(model, given.count, given.steps, given.batch),
        }
        times = interleave(ways, given.repeats, given.warmup)
        psnr = agreement(checkpoint, place / "drawn", COMPARED, given.steps)
    settings = {"batch": given.batch, "denoising steps": given.steps, "scheduler": model.diffusion.config.scheduler}
    result = report("generation, miniature", times, [("uniemo", "released"), ("uniemo", "floor")], settings=settings)
    result["lowest PSNR [dB]"] = psnr
    print(f"\nlowest PSNR [dB], at least {PSNR:g} wanted: {psnr}")
    if given.json is not None:
        write_json(given.json, result)


if __name__ == "__main__":
    main()
