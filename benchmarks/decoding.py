"""Images per second and core: reading and transforming photographs for training, the plain way and ours.

All run in this process on one thread, side by side, several times over; a ratio is taken within each turn.
Photographs that ship with scikit-learn (and scikit-image, where it is installed) stand in for real ones, as JPEG files
of 1,000 × 750 pixels at quality 90: once enlarged (soft, small files), once with their own detail, filled up with their
mirror images (larger files; a scaled decoding mostly undoes the Huffman code, which takes time with the file's size).

    python benchmarks/decoding.py --json benchmarks/decoding.json
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision import transforms as plain

from uniemo.data.images import ImageCache, read_image
from uniemo.data.transforms import CLIP_MEAN, CLIP_STD, PairedTransform, denormalise

PHOTOGRAPHS = {
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/motorcycle_left.png"),
}
SIZE = (1000, 750)
Way = Callable[[Path], object]


def photographs() -> dict[str, Image.Image]:
    """Return the photographs that the installed packages ship."""
    found = {}
    for package, files in PHOTOGRAPHS.items():
        spec = find_spec(package)
        for folder in [] if spec is None else spec.submodule_search_locations or []:
            found |= {Path(file).stem: Image.open(Path(folder) / file).convert("RGB") for file in files}
    return found


def write_files(folder: Path, size: tuple[int, int]) -> dict[str, list[Path]]:
    """Write every photograph enlarged and mirrored to ``size``; return the files of each kind."""
    made: dict[str, list[Path]] = {"enlarged": [], "own detail": []}
    for name, photo in photographs().items():
        zoom = max(size[0] / photo.width, size[1] / photo.height)
        grown = photo.resize((round(photo.width * zoom), round(photo.height * zoom)), Image.Resampling.LANCZOS)
        missing = (max(0, size[1] - photo.height), max(0, size[0] - photo.width))
        tiled = np.pad(np.asarray(photo), ((0, missing[0]), (0, missing[1]), (0, 0)), mode="symmetric")
        for kind, image in (("enlarged", grown), ("own detail", Image.fromarray(tiled))):
            path = folder / f"{name}-{kind.replace(' ', '-')}-{size[0]}.jpg"
            image.crop((0, 0, *size)).save(path, quality=90)
            made[kind].append(path)
    return made


def plain_way(convert: bool, **crop: object) -> Way:
    """Return PIL open + RandomResizedCrop + flip + ToTensor + Normalize.

    Args:
        convert: call ``.convert("RGB")`` on the opened file, as torchvision's ImageFolder does.
        crop: arguments of RandomResizedCrop beside its size.
    """
    steps = plain.Compose(
        [
            plain.RandomResizedCrop(224, **crop),
            plain.RandomHorizontalFlip(),
            plain.ToTensor(),
            plain.Normalize(CLIP_MEAN, CLIP_STD),
        ]
    )
    return lambda path: steps(Image.open(path).convert("RGB") if convert else Image.open(path))


def our_way(diffusion_size: int | None) -> Way:
    """Return what a training set does for an image that is not kept in memory."""
    transform, cache, rng = PairedTransform(224, diffusion_size, train=True), ImageCache(1, 0), np.random.default_rng(0)
    return lambda path: transform(cache.open(path), rng)


def whole_way(diffusion_size: int | None) -> Way:
    """Return the same views from every pixel, resized by Pillow: what ours was before."""
    transform, rng = PairedTransform(224, diffusion_size, train=True), np.random.default_rng(0)
    return lambda path: whole_views(transform, path, rng)


def whole_views(transform: PairedTransform, path: Path, rng: np.random.Generator) -> list[Tensor]:
    """Return the views (C, S, S) of a transform in [0, 1], from every pixel, resized by Pillow."""
    image = read_image(path)
    box, flip = transform.geometry(*image.size, rng)
    views = []
    for size in (transform.image_size, transform.diffusion_size):
        if size is not None:
            small = image.resize((size, size), Image.Resampling.BICUBIC, box=box)
            small = small.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if flip else small
            views.append(torch.from_numpy(np.array(small)).permute(2, 0, 1).contiguous().float() / 255)
    return views


WAYS: dict[str, Way] = {
    "plain": plain_way(False),
    "plain, ImageFolder's loader": plain_way(True),
    "plain, crops of our size": plain_way(False, scale=(0.7, 1.0)),
    "plain, crops of our size, bicubic": plain_way(
        False, scale=(0.7, 1.0), interpolation=plain.InterpolationMode.BICUBIC
    ),
    "every pixel, Pillow": whole_way(None),
    "uniemo": our_way(None),
    "every pixel, Pillow, with 512": whole_way(512),
    "uniemo, with 512": our_way(512),
}
RATIOS = (
    ("uniemo", "plain"),
    ("uniemo", "plain, ImageFolder's loader"),
    ("uniemo", "plain, crops of our size"),
    ("uniemo", "plain, crops of our size, bicubic"),
    ("uniemo", "every pixel, Pillow"),
    ("uniemo, with 512", "every pixel, Pillow, with 512"),
)


def turn(files: list[Path], calls: int) -> dict[str, float]:
    """Return each way's mean time for one image; the ways change places image by image.

    It is the thread's own time, since other processes may want the core meanwhile.
    """
    spent = dict.fromkeys(WAYS, 0.0)
    for _ in range(calls):
        for path in files:
            for name, way in WAYS.items():
                start = time.thread_time()
                way(path)
                spent[name] += time.thread_time() - start
    return {name: time / (calls * len(files)) for name, time in spent.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Return median, smallest and largest."""
    return {"median": float(np.median(values)), "low": min(values), "high": max(values)}


def speeds(files: list[Path], repeats: int, calls: int) -> dict[str, dict[str, dict[str, float]]]:
    """Time all ways in turn and return images per second and ratios, each with its spread over the turns."""
    turn(files, 1)
    turns = [turn(files, calls) for _ in range(repeats)]
    return {
        "images per second": {name: spread([1 / times[name] for times in turns]) for name in WAYS},
        "times as fast": {f"{a} : {b}": spread([times[b] / times[a] for times in turns]) for a, b in RATIOS},
    }


def differences(files: list[Path], diffusion_size: int | None, boxes: int) -> list[dict[str, float]]:
    """Return for each view how far it is from the one of every pixel resized by Pillow, in levels of 255."""
    transform = PairedTransform(224, diffusion_size, train=True)
    found: list[list[Tensor]] = [[], []]
    for path in files:
        for seed in range(boxes):
            view, target, _ = transform(ImageCache(1, 0).open(path), np.random.default_rng(seed))
            ours = [denormalise(view[None])[0]] + ([] if target is None else [(target + 1) / 2])
            whole = whole_views(transform, path, np.random.default_rng(seed))
            for kept, mine, theirs in zip(found, ours, whole, strict=False):
                kept.append((mine * 255).round().sub((theirs * 255).round()).abs().flatten())
    return [
        {
            "size": size,
            "mean": float(torch.stack([part.mean() for part in parts]).mean()),
            "mean of the worst image": float(torch.stack([part.mean() for part in parts]).max()),
            "99.9 % below": float(np.quantile(torch.cat(parts).numpy(), 0.999)),
            "max": float(torch.cat(parts).max()),
        }
        for size, parts in zip((224, diffusion_size), found, strict=True)
        if parts
    ]


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7, help="turns")
    parser.add_argument("--calls", type=int, default=3, help="passes over the photographs in one turn")
    parser.add_argument("--json", type=Path, help="file to write")
    given = parser.parse_args()
    torch.set_num_threads(1)
    versions = {"pillow": PIL.__version__, "torch": torch.__version__, "torchvision": torchvision.__version__}
    turbo = find_spec("simplejpeg") is not None
    print("simplejpeg decodes" if turbo else "Pillow decodes (simplejpeg is not installed)")
    result: dict = {"machine": platform.machine(), "versions": versions, "simplejpeg": turbo, "threads": 1}
    with tempfile.TemporaryDirectory() as name:
        kinds, large = write_files(Path(name), SIZE), write_files(Path(name), (2000, 1500))
        for kind, files in kinds.items():
            part = result[kind] = {"photographs": len(files), "bytes": [path.stat().st_size for path in files]}
            part |= speeds(files, given.repeats, given.calls)
            print(f"\n{kind}: {len(files)} photographs of {np.mean(part['bytes']) / 1000:.0f} kB, one thread")
            for title in ("images per second", "times as fast"):
                for row, value in part[title].items():
                    print(f"  {title}  {row:52} {value['median']:7.2f}  ({value['low']:.2f} to {value['high']:.2f})")
        for title, files, diffusion_size in (
            ("1000 x 750, 224 alone", [*kinds["enlarged"], *kinds["own detail"]], None),
            ("1000 x 750, 224 and 512", [*kinds["enlarged"], *kinds["own detail"]], 512),
            ("2000 x 1500, 224 and 512", [*large["enlarged"], *large["own detail"]], 512),
        ):
            result[f"differences, {title}"] = differences(files, diffusion_size, boxes=4)
            for row in result[f"differences, {title}"]:
                print(f"differences in levels, {title}:", {key: round(value, 2) for key, value in row.items()})
    if given.json is not None:
        given.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
