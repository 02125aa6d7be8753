"""Images per second and core: reading and transforming photographs for training, the plain way and ours.

All run in this process on one thread, side by side, several times over; a ratio is taken within each turn.
Photographs that ship with scikit-learn and matplotlib (and scikit-image, where it is installed) stand in for real ones,
as JPEG files of 1,000 × 750 pixels of several qualities: once enlarged (soft, small files), once with their own detail,
filled up with their mirror images (larger files). Decoding at 1/8 shows the time that undoing the Huffman code takes:
every way needs that much, and no scale of decoding saves it.

    python -m benchmarks.decoding --json benchmarks/decoding.json
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision import transforms as plain
from torchvision.transforms import functional

from uniemo.data.images import Box, ImageCache, read_image
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD, PairedTransform, denormalise

PHOTOGRAPHS = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
    "skimage": (
        *(f"data/{name}.png" for name in ("astronaut", "chelsea", "coffee", "motorcycle_left")),
        *(f"data/{name}.jpg" for name in ("rocket", "hubble_deep_field", "retina")),
    ),
}
SIZE = (1000, 750)
VIEW = 224
Way = Callable[[Path, np.random.Generator], object]
Times = NDArray[np.float64]

COLOURS = {"4:2:0": 2, "4:4:4": 0}  # their resolution, and Pillow's numbers of it
USUAL = "quality 90, 4:2:0"
CLASSES: dict[str, dict[str, Any]] = {  # name: JPEG options of Pillow
    f"quality {quality}, {name}{', progressive' * progressive}": {
        "quality": quality,
        "subsampling": number,
        "progressive": progressive,
    }
    for progressive, qualities in ((False, (75, 85, 90, 95)), (True, (85,)))
    for name, number in COLOURS.items()
    for quality in qualities
}


def photographs() -> dict[str, Image.Image]:
    """Return the photographs that the installed packages ship."""
    found = {}
    for package, files in PHOTOGRAPHS.items():
        spec = find_spec(package)
        for folder in [] if spec is None else spec.submodule_search_locations or []:
            found |= {Path(file).stem: Image.open(Path(folder) / file).convert("RGB") for file in files}
    return found


def fill(photo: Image.Image, size: tuple[int, int], enlarge: bool) -> Image.Image:
    """Return a photograph of ``size``: enlarged (or reduced) to it, or beside its mirror images."""
    if enlarge:
        zoom = max(size[0] / photo.width, size[1] / photo.height)
        photo = photo.resize((round(photo.width * zoom), round(photo.height * zoom)), Image.Resampling.LANCZOS)
    missing = (max(0, size[1] - photo.height), max(0, size[0] - photo.width))
    tiled = np.pad(np.asarray(photo), ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
    return Image.fromarray(tiled).crop((0, 0, *size))


def write_files(folder: Path, size: tuple[int, int], options: dict[str, Any]) -> dict[str, list[Path]]:
    """Write every photograph with the JPEG options; return the files of each kind."""
    made: dict[str, list[Path]] = {"enlarged": [], "own detail": []}
    folder.mkdir()
    for name, photo in photographs().items():
        for kind, files in made.items():
            files.append(folder / f"{name}-{kind.replace(' ', '-')}.jpg")
            fill(photo, size, kind == "enlarged").save(files[-1], **options)
    return made


class SameCuts(PairedTransform):
    """Our transform with the next cuts of RandomResizedCrop and RandomHorizontalFlip, known before the clock starts."""

    def foresee(self) -> None:
        """Draw what the plain way will draw from the present random state."""
        picture = torch.empty(1).expand(1, SIZE[1], SIZE[0])
        top, left, rows, columns = plain.RandomResizedCrop.get_params(picture, [0.08, 1.0], [3 / 4, 4 / 3])
        self._next = (left, top, left + columns, top + rows), bool(torch.rand(1) < 0.5)

    def geometry(self, width: int, height: int, rng: np.random.Generator) -> tuple[Box, bool]:
        """Take the time that our drawing takes and return the other's cut."""
        super().geometry(width, height, rng)
        return self._next


def plain_way(convert: bool = False) -> Way:
    """Return PIL open + RandomResizedCrop + flip + ToTensor + Normalize.

    Args:
        convert: call ``.convert("RGB")`` on the opened file, as torchvision's ImageFolder does.
    """
    crop, flip = plain.RandomResizedCrop(VIEW), plain.RandomHorizontalFlip()
    steps = plain.Compose([crop, flip, plain.ToTensor(), plain.Normalize(CLIP_MEAN, CLIP_STD)])
    return lambda path, _: steps(Image.open(path).convert("RGB") if convert else Image.open(path))


def plain_cut(interpolation: plain.InterpolationMode) -> Way:
    """Return the same steps for a cut of our drawing."""
    transform = PairedTransform(VIEW, train=True)

    def way(path: Path, rng: np.random.Generator) -> Tensor:
        image = Image.open(path)
        (left, upper, right, lower), flip = transform.geometry(image.width, image.height, rng)
        place = (round(upper), round(left), round(lower - upper), round(right - left))
        view = functional.resized_crop(image, *place, [VIEW, VIEW], interpolation)
        view = functional.hflip(view) if flip else view
        return functional.normalize(functional.to_tensor(view), CLIP_MEAN, CLIP_STD)

    return way


def our_way(transform: PairedTransform) -> Way:
    """Return what a training set does for an image that is not kept in memory."""
    cache = ImageCache(1, 0)
    return lambda path, rng: transform(cache.open(path), rng)


def whole_views(transform: PairedTransform, path: Path, rng: np.random.Generator) -> list[Tensor]:
    """Return the views (3, S, S) of a transform in [0, 1], from every pixel, resized by Pillow."""
    image = read_image(path)
    box, flip = transform.geometry(*image.size, rng)
    views = []
    for size in (transform.image_size, transform.diffusion_size):
        if size is not None:
            small = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
            small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else small
            views.append(torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous().float() / 255)
    return views


def huffman(path: Path, _: np.random.Generator) -> object:
    """Decode at 1/8 in grey: of the work on a file's coefficients hardly more than undoing the Huffman code."""
    return simplejpeg.decode_jpeg(path.read_bytes(), "GRAY", min_width=-(-SIZE[0] // 8), min_factor=1)


ALONE, BOTH = PairedTransform(VIEW, train=True), PairedTransform(VIEW, 512, train=True)
SAME = SameCuts(VIEW, train=True)
WAYS: dict[str, Way] = {
    "plain": plain_way(),
    "uniemo, the same cuts": our_way(SAME),
    "plain, our cuts": plain_cut(plain.InterpolationMode.BILINEAR),
    "uniemo": our_way(ALONE),
    "Huffman code": huffman,
}
RATIOS = [
    ("uniemo, the same cuts", "plain"),
    ("uniemo", "plain, our cuts"),
    ("uniemo", "plain"),
    ("Huffman code", "plain"),
]
MORE_WAYS: dict[str, Way] = {  # with the usual class alone
    "plain, ImageFolder's loader": plain_way(convert=True),
    "plain, our cuts, bicubic": plain_cut(plain.InterpolationMode.BICUBIC),
    "every pixel, Pillow": partial(whole_views, ALONE),
    "every pixel, Pillow, with 512": partial(whole_views, BOTH),
    "uniemo, with 512": our_way(BOTH),
}
MORE_RATIOS = [
    ("uniemo, the same cuts", "plain, ImageFolder's loader"),
    ("uniemo", "plain, our cuts, bicubic"),
    ("uniemo", "every pixel, Pillow"),
    ("uniemo, with 512", "every pixel, Pillow, with 512"),
]


def turn(files: list[Path], ways: dict[str, Way], seed: int, calls: int) -> dict[str, Times]:
    """Return each way's times (files) for one image; a way goes through all files before the next does, in turns.

    It is the thread's own time, since other processes may want the core meanwhile. Random states are set alike.
    """
    spent = {name: np.zeros(len(files)) for name in ways}
    for call in range(calls):
        for name, way in ways.items():
            for number, path in enumerate(files):
                state = (seed + call) * len(files) + number
                torch.manual_seed(state)
                SAME.foresee()
                torch.manual_seed(state)
                rng = np.random.default_rng(state)
                start = time.thread_time()
                way(path, rng)
                spent[name][number] += time.thread_time() - start
    return {name: times / calls for name, times in spent.items()}


def spread(values: list[np.floating[Any]]) -> dict[str, float]:
    """Return median, smallest and largest."""
    return {"median": float(np.median(values)), "low": float(min(values)), "high": float(max(values))}


def speeds(files: list[Path], usual: bool, repeats: int, calls: int) -> dict[str, Any]:
    """Time the ways in turns.

    Returns:
        Images per second and ratios, each with its spread over the turns; and each ratio of the photograph that gains
        least, the median over the turns.
    """
    ways, pairs = (WAYS | MORE_WAYS, RATIOS + MORE_RATIOS) if usual else (WAYS, RATIOS)
    turn(files, ways, 0, 1)
    turns = [turn(files, ways, 1 + number * calls, calls) for number in range(repeats)]
    singly = {f"{a} : {b}": np.median([times[b] / times[a] for times in turns], axis=0) for a, b in pairs}
    return {
        "kB": float(np.mean([path.stat().st_size for path in files])) / 1000,
        "images per second": {name: spread([1 / times[name].mean() for times in turns]) for name in ways},
        "times as fast": {
            f"{a} : {b}": spread([times[b].mean() / times[a].mean() for times in turns]) for a, b in pairs
        },
        "the photograph that gains least": {name: float(ratios.min()) for name, ratios in singly.items()},
    }


def differences(files: list[Path], transform: PairedTransform, boxes: int) -> list[dict[str, float]]:
    """Return for each view how far it is from the one of every pixel resized by Pillow, in levels of 255."""
    found: dict[int, list[Tensor]] = {}
    for path in files:
        for seed in range(boxes):
            view, target, _ = transform(ImageCache(1, 0).open(path), np.random.default_rng(seed))
            ours = [denormalise(view[None])[0]] + ([] if target is None else [(target + 1) / 2])
            for mine, theirs in zip(ours, whole_views(transform, path, np.random.default_rng(seed)), strict=True):
                off = (mine * 255).round().sub((theirs * 255).round()).abs().flatten()
                found.setdefault(mine.shape[-1], []).append(off)
    return [
        {
            "size": size,
            "mean": float(torch.stack([part.mean() for part in parts]).mean()),
            "mean of the worst image": float(torch.stack([part.mean() for part in parts]).max()),
            "99.9 % below": float(np.quantile(torch.cat(parts).numpy(), 0.999)),
            "max": float(torch.cat(parts).max()),
        }
        for size, parts in found.items()
    ]


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9, help="turns")
    parser.add_argument("--calls", type=int, default=2, help="passes over the photographs in one turn")
    parser.add_argument("--json", type=Path, help="file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    versions = {name: version(name) for name in ("pillow", "simplejpeg", "torch", "torchvision")}
    result: dict[str, Any] = {"machine": platform.machine(), "versions": versions, "threads": 1}
    result |= {"photographs": list(photographs()), "repeats": given.repeats, "calls": given.calls, "classes": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, options in CLASSES.items():
            for kind, files in write_files(Path(folder) / name, SIZE, options).items():
                part = speeds(files, name == USUAL, given.repeats, given.calls)
                result["classes"][f"{kind}, {name}"] = part
                print(f"\n{kind}, {name}: {len(files)} photographs of {part['kB']:.0f} kB, one thread")
                for row, value in part["times as fast"].items():
                    least = part["the photograph that gains least"][row]
                    values = f"{value['median']:.2f} ({value['low']:.2f} to {value['high']:.2f}), least {least:.2f}"
                    print(f"  times as fast  {row:70} {values}", flush=True)
        usual = sorted((Path(folder) / USUAL).iterdir())
        large = write_files(Path(folder) / "large", (2000, 1500), CLASSES[USUAL])
        for title, files, transform in (
            ("1000 x 750, 224 alone", usual, ALONE),
            ("1000 x 750, 224 and 512", usual, BOTH),
            ("2000 x 1500, 224 and 512", [*large["enlarged"], *large["own detail"]], BOTH),
        ):
            result[f"differences, {title}"] = differences(files, transform, boxes=4)
            for row in result[f"differences, {title}"]:
                print(f"differences in levels, {title}:", {key: round(value, 2) for key, value in row.items()})
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
