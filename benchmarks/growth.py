"""Time per image and peak memory as images become more: training, generation, evaluation, filtering.

    python -m benchmarks.growth --json benchmarks/growth.json --picture benchmarks/growth.png    # twenty minutes

Each cell is one command of ``uniemo`` in a fresh process, on 1,000, 5,000 and 20,000 images, with networks so small
that what grows with the number of images shows: one epoch of stage 1, one of stage 2 (with its emotion space),
``uniemo generate`` with two denoising steps, ``uniemo evaluate`` and ``uniemo filter`` of what was generated. The data
are paintings of 144 pixels, which like photographs are decoded anew each time they are needed.

Time per image is (time of the command - time of the same command on 64 images) / (images - 64): what the command needs
to start is left out. Short cells run several times; the median counts. Memory is the process's largest resident size.
Finished cells are kept in ``--work``: an interrupted measurement goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks.short_run import short_run, uniemo
from benchmarks.timing import conditions, markdown, sentence, write_json
from uniemo.miniature.dataset import synthesize_emoset
from uniemo.miniature.paths import resolve

mpl.use("Agg")
import matplotlib.pyplot as plt

FEW = 64  # images of the cells that tell what starting takes
COUNTS = (1000, 5000, 20000)
REPEATS = {FEW: 3, 1000: 3, 5000: 1, 20000: 1}
CLIP = "random:vit-w256-l3-p32-r64-e64"  # wide enough to show features that are kept of every image
TRAINING = (
    *("--data.batch_size", "64", "--data.image_size", "64"),
    *("--model.encoder.clip", CLIP, "--model.encoder.query_length", "2"),
)
QUIET = (
    *("--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false"),
    *("--attention_maps.every_n_epochs", "0", "--generation_metrics.every_n_epochs", "0"),
)
MINIATURE = ("--networks", "miniature")


class Place:
    """Where pictures, networks and results are.

    Args:
        work: the folder.
        counts: how many images the cells have.
    """

    def __init__(self, work: Path, counts: tuple[int, ...]) -> None:
        self.work, self.counts = work, counts
        self.table = work / "table.json"
        self.head = work / "emo_a.safetensors"
        self.diffusion = work / "diffusion"

    def tree(self, count: int) -> Path:
        """Return a tree in EmoSet's layout with ``count`` training images."""
        return self.work / f"tree-{count}"

    def drawn(self, count: int) -> Path:
        """Return the folder of ``count`` generated images."""
        return self.work / f"drawn-{count}"

    def prepare(self) -> None:
        """Paint, link, and make the networks that are given to the commands; what is there stays."""
        self.work.mkdir(parents=True, exist_ok=True)
        whole = self.work / "painted"
        if not whole.is_dir():
            synthesize_emoset(whole, train=max(self.counts), val=64, test=64, size=144)
        for count in (FEW, *self.counts):
            if not self.tree(count).is_dir():
                link_tree(whole, self.tree(count), count)
        self.table.write_text(json.dumps({"balloon": [1 / 8] * 8}))
        if not self.diffusion.is_dir():
            thin_diffusion(self.diffusion)
        if not self.head.is_file():
            uniemo(
                *("train-classifier", "--data.root", self.tree(FEW), "--clip", "miniature:clip"),
                *("--hidden", "16", "--output", self.head),
            )
        self.checkpoint = short_run(
            "joint", self.work / "joint", *TRAINING, *self.stage2, "--data.root", self.tree(FEW)
        )

    @property
    def stage2(self) -> tuple[str, ...]:
        """Options of stage 2."""
        table = ("--model.attributes.source", "table", "--model.attributes.table", str(self.table))
        return (*table, "--model.diffusion.path", f"random:{self.diffusion}")


def link_tree(source: Path, target: Path, count: int) -> None:
    """Make a tree of the first ``count`` training images of another, and all it has to validate and test on."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for split in ("train", "val", "test"):
        entries = json.loads((source / f"{split}.json").read_text())[: count if split == "train" else None]
        for entry in entries:
            for name in entry[1:]:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                os.link(source / name, partial / name)
        (partial / f"{split}.json").write_text(json.dumps(entries))
    shutil.copy(source / "info.json", partial)
    partial.rename(target)


def thin_diffusion(folder: Path) -> None:
    """Write the miniature's diffusion model without weights and with few channels, for random ones."""
    shutil.copytree(resolve("miniature:diffusion"), folder, ignore=shutil.ignore_patterns("*.safetensors"))
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    for part, changes in {
        "unet": {"block_out_channels": [16, 16], "cross_attention_dim": 32},
        "vae": {"block_out_channels": [16, 16, 16]},
        "text_encoder": {**text, "projection_dim": 32},
    }.items():
        file = folder / part / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def commands(place: Place, count: int) -> dict[str, tuple[list[str | Path], Path]]:
    """Return the commands by name, each with the file or folder that it writes."""
    tree, drawn, work = place.tree(count), place.drawn(count), place.work
    run = work / "fit"

    def fit(stage: str) -> list[str | Path]:
        return ["fit", "--config", f"{stage}.yaml", "--run_dir", run, "--data.root", tree, *TRAINING, *QUIET]

    network = ("--classifier", place.head, "--second_classifier", place.head, *MINIATURE)
    return {
        "stage 1, one epoch": (fit("understanding"), run),
        "stage 2, one epoch": ([*fit("joint"), *place.stage2], run),
        "generation": (
            [
                *("generate", "--ckpt", place.checkpoint, "--emotion", "all", "--num", str(count // 8)),
                *("--steps", "2", "--batch_size", "64", "--out", drawn),
            ],
            drawn,
        ),
        "evaluation": (
            [
                *("evaluate", "--real", place.tree(FEW), "--generated", drawn, "--output", work / "result.json"),
                *network,
            ],
            work / "result.json",
        ),
        "filtering": (
            ["filter", "--generated", drawn, "--ckpt", place.checkpoint, "--out", work / "kept"],
            work / "kept",
        ),
    }


def cell(words: list[str | Path], written: Path, threads: int) -> dict[str, float]:
    """Run a command in a fresh process and return its seconds and its peak memory.

    Args:
        words: of ``uniemo``.
        written: what it writes; removed before.
        threads: of PyTorch.
    """
    shutil.rmtree(written, ignore_errors=True)
    written.unlink(missing_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with Path(os.devnull).open("w") as nowhere:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "uniemo", *map(str, words)], env=environment, stdout=nowhere, stderr=nowhere
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, words))} ended with code {process.returncode}: run it to see why")
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "seconds": time.perf_counter() - begin,
        "processor": usage.ru_utime + usage.ru_stime,
        "MiB": usage.ru_maxrss * unit / 2**20,
    }


def measure(place: Place, threads: int) -> dict[str, dict[str, list[dict[str, float]]]]:
    """Run the cells that are missing; return what was found by command and number of images."""
    file = place.work / "cells.json"
    found = json.loads(file.read_text()) if file.is_file() else {}
    for number in range(max(REPEATS.values())):
        for count in (FEW, *place.counts):
            for name, (words, written) in commands(place, count).items():
                cells = found.setdefault(name, {}).setdefault(str(count), [])
                if number >= REPEATS.get(count, 1) or len(cells) > number:
                    continue
                cells.append(cell(words, written, threads))
                write_json(file, found)
                shown = {key: round(value, 1) for key, value in cells[-1].items()}
                print(f"{name}, {count} images: {shown}", file=sys.stderr, flush=True)
    return found


def summary(found: dict[str, dict[str, list[dict[str, float]]]], counts: tuple[int, ...]) -> dict[str, dict[str, Any]]:
    """Return for each command milliseconds per image, on the wall and of the processors, and MiB, one per count."""
    result = {}
    for name, cells in found.items():
        middle = {
            int(count): {key: statistics.median(run[key] for run in runs) for key in runs[0]}
            for count, runs in cells.items()
        }
        few = middle[FEW]
        result[name] = {
            "start [s]": few["seconds"],
            **{
                title: [1000 * (middle[count][key] - few[key]) / (count - FEW) for count in counts]
                for title, key in (("ms per image", "seconds"), ("processor ms per image", "processor"))
            },
            "peak MiB": [middle[count]["MiB"] for count in counts],
        }
    return result


def draw(path: Path, result: dict[str, dict[str, Any]], counts: tuple[int, ...]) -> None:
    """Write the picture: time per image, and memory."""
    figure, axes = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for axis, key, unit in zip(axes, ("ms per image", "peak MiB"), ("ms per image", "peak memory [MiB]"), strict=True):
        for name, values in result.items():
            axis.plot(counts, values[key], marker="o", label=name)
        axis.set(xscale="log", xlabel="images", ylabel=unit, xticks=counts, ylim=(0, None))
        axis.set_xticklabels([f"{count:,}" for count in counts])
        axis.minorticks_off()
    axes[1].legend()
    figure.savefig(path, dpi=100)


def table(result: dict[str, dict[str, Any]], counts: tuple[int, ...]) -> list[list[str]]:
    """Return a table, its first row the heads."""
    heads = [f"{count:,}" for count in counts]
    rows = [
        ["", *(f"ms per image, {head}" for head in heads), *(f"peak MiB, {head}" for head in heads), "kB per image"]
    ]
    for name, values in result.items():
        times, memory = values["ms per image"], values["peak MiB"]
        slope = (memory[-1] - memory[0]) * 1024 / (counts[-1] - counts[0])
        rows.append([name, *(f"{x:.2f}" for x in times), *(f"{x:.0f}" for x in memory), f"{slope:.2f}"])
    return rows


def main() -> None:
    """Measure what is missing, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS, help="images (default: %(default)s)")
    parser.add_argument("--work", type=Path, default=Path("runs/growth"), help="folder (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--picture", type=Path, help="PNG to write")
    given = parser.parse_args()
    counts = tuple(sorted(given.counts))
    os.environ["UNIEMO_CACHE"] = str(given.work.absolute() / "cache")
    where = conditions(given.threads)
    place = Place(given.work.absolute(), counts)
    place.prepare()
    result = summary(measure(place, given.threads), counts)
    rows = table(result, counts)
    print("\n".join([markdown(rows), "", sentence(where)]))
    if given.picture is not None:
        draw(given.picture, result, counts)
    if given.json is not None:
        write_json(given.json, {"conditions": where, "images": counts, "results": result})


if __name__ == "__main__":
    main()
