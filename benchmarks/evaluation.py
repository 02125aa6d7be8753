"""The one-pass evaluation beside the straightforward way, in one run: time, and memory as images grow.

    python -m benchmarks.evaluation --output evaluation.json        # all parts
    python -m benchmarks.evaluation --quick                         # smaller, to see that it works

The straightforward way is what one writes first: a pass over the files for each metric, pairs one after the other. Its
pairs may be timed on a sample (``--sample``) and scaled; the table says so. The networks' bare forward passes are
timed on the same batches, turn by turn with the evaluation, so that other work on the machine meets both.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cleanfid.fid import frechet_distance
from PIL import Image
from torch import Tensor

from uniemo.data.images import load_images
from uniemo.metrics.classifier import EmotionClassifier
from uniemo.metrics.clip_networks import ClipNetwork, MiniatureNetwork
from uniemo.metrics.feature_network import FeatureNetwork
from uniemo.metrics.fid import FID, FeatureStatistics
from uniemo.metrics.image_batches import read_batches, to_unit
from uniemo.metrics.networks import clarity_outputs, load_network
from uniemo.metrics.outputs import Output, emotion_output, protocol_outputs
from uniemo.metrics.pairs import plan_evaluation
from uniemo.metrics.protocols import STRICT
from uniemo.metrics.sem_c import ZeroShotClarity
from uniemo.metrics.suite import MetricSuite
from uniemo.taxonomy import MIKELS_8
from uniemo.vocabulary import Vocabulary

BATCH = 32


class Clock:
    """Seconds by name, on the wall and on the processors."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def __call__(self, name: str, times: float = 1.0) -> Iterator[None]:
        """Add what the block takes, ``times`` over."""
        wall, processor = time.perf_counter(), time.process_time()
        yield
        total = self.seconds.setdefault(name, [0.0, 0.0])
        total[0] += (time.perf_counter() - wall) * times
        total[1] += (time.process_time() - processor) * times

    def total(self, *names: str) -> dict[str, float]:
        """Return the sums of some names."""
        wall, processor = (sum(self.seconds[name][k] for name in names) for k in (0, 1))
        return {"wall_s": round(wall, 2), "processor_s": round(processor, 2)}


def paint(folder: Path, per_emotion: int, size: int) -> dict[str, list[str]]:
    """Write smooth random pictures and return their names by emotion; what they show does not matter to time."""
    rng = np.random.default_rng(0)
    names = {}
    for emotion in MIKELS_8:
        (folder / emotion).mkdir(parents=True)
        names[emotion] = [f"{emotion}/{number:05d}.png" for number in range(per_emotion)]
        for name in names[emotion]:
            coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((size, size), Image.Resampling.BICUBIC).save(folder / name)
    return names


class Miniature:
    """The miniature's networks and what the straightforward way calls."""

    def __init__(self) -> None:
        self.network = MiniatureNetwork("miniature:clip")
        torch.manual_seed(0)
        self.classifier = EmotionClassifier(self.network.clip.embed_dim, 8).eval()
        vocabulary = Vocabulary(MIKELS_8, ("beach", "mountain"), ("cake", "balloon", "skull"))
        self.zero_shot = ZeroShotClarity(self.network.clip, vocabulary)
        self.outputs = protocol_outputs(
            STRICT,
            fid=self.network,
            lpips=self.network,
            clip=self.network,
            emotion=(emotion_output(self.network, self.classifier.probabilities),),
            clarity=clarity_outputs(self.network, vocabulary),
        )

    def fid_features(self, images: Tensor) -> Tensor:
        """Return features for FID."""
        return self.network.clip.features(images)

    clip_features = fid_features

    def maps(self, images: Tensor) -> Tensor:
        """Return vectors whose squared distance is the perceptual one."""
        return self.network(images)["maps"]

    def clarity(self, images: Tensor) -> Tensor:
        """Return Sem-C."""
        return self.zero_shot(self.network.clip.features(images))

    def bare(self, images: Tensor) -> None:
        """Run the CLIP's image tower and nothing else: no blocks are read."""
        self.network.clip.features(images)


class TrueSize:
    """Networks of the size that the protocol asks for, with random weights."""

    def __init__(self, clip: str) -> None:
        roles = {"fid": None, "lpips": None, "clip": clip, "places": None, "imagenet": None}
        self.networks: dict[str, FeatureNetwork] = {
            role: load_network(role, name, random=True) for role, name in roles.items()
        }
        vision = self.networks["clip"]
        assert isinstance(vision, ClipNetwork)
        torch.manual_seed(0)
        self.classifier = EmotionClassifier(vision.clip.embed_dim, 8).eval()
        self.outputs = protocol_outputs(
            STRICT,
            fid=self.networks["fid"],
            lpips=self.networks["lpips"],
            clip=vision,
            emotion=(emotion_output(vision, self.classifier.probabilities),),
            clarity={
                name: Output(self.networks[role], "strict", "probabilities")
                for name, role in (("objects", "imagenet"), ("scenes", "places"))
            },
        )

    def fid_features(self, images: Tensor) -> Tensor:
        """Return features for FID."""
        return self.networks["fid"](images)["features"]

    def clip_features(self, images: Tensor) -> Tensor:
        """Return CLIP's features."""
        return self.networks["clip"](images)["features"]

    def maps(self, images: Tensor) -> Tensor:
        """Return vectors whose squared distance is LPIPS."""
        return self.networks["lpips"](images)["maps"]

    def clarity(self, images: Tensor) -> Tensor:
        """Return Sem-C."""
        both = [self.networks[role](images)["probabilities"].amax(dim=1) for role in ("places", "imagenet")]
        return torch.maximum(*both)

    def bare(self, images: Tensor) -> None:
        """Run each network once."""
        for network in self.networks.values():
            network(images)


def real_side(output: Output, size: int) -> FeatureStatistics:
    """Return statistics of 64 random real images; both ways are given them."""
    metric = FID(8)
    images = torch.rand(64, 3, size, size, generator=torch.Generator().manual_seed(1))
    for number, part in enumerate(images.split(8)):
        features = output.read(output.network(part, output.view))
        metric.update_real(features, torch.full((len(part),), number % 8))
    statistics = metric.real_statistics(output.identity)
    assert statistics is not None
    return statistics


def one_pass(
    networks: Miniature | TrueSize, folder: Path, names: dict[str, list[str]], real: FeatureStatistics, clock: Clock
) -> dict[str, float]:
    """Evaluate by the engine, bare forward passes on the same batches in between."""
    with clock("engine"):
        plan = plan_evaluation(names, MIKELS_8, [STRICT])
        suite = MetricSuite(plan, {"strict": networks.outputs}, BATCH)
        suite.load_real([real])
        batches = read_batches([folder / name for name in plan.names], BATCH)
    for start in range(0, len(plan.names), BATCH):
        with clock("engine"):
            images = to_unit(torch.stack(next(batches)))
            suite.update(images, plan.names[start : start + BATCH])
        with clock("bare"), torch.no_grad():
            networks.bare(images)
    with clock("engine"), clock("result"):
        scores = suite.compute()["strict"]["figures"]
    return {name: score["value"] for name, score in scores.items()}


@torch.no_grad()
def straightforward(
    networks: Miniature | TrueSize,
    folder: Path,
    names: dict[str, list[str]],
    real: FeatureStatistics,
    sample: int | None,
    clock: Clock,
) -> dict[str, float]:
    """Evaluate with a pass for each metric, pair by pair; the pairs are the engine's, so that figures agree."""
    every = [name for part in names.values() for name in part]
    labels = torch.arange(8).repeat_interleave(len(every) // 8)

    def batches() -> Iterator[Tensor]:
        for start in range(0, len(every), BATCH):
            yield load_images([folder / name for name in every[start : start + BATCH]])

    figures = {}
    with clock("FID"):
        features = torch.cat([networks.fid_features(images) for images in batches()]).double().numpy()
        mean, covariance = (side.numpy() for side in real.gaussian())
        figures["FID"] = float(frechet_distance(features.mean(0), np.cov(features, rowvar=False), mean, covariance))
    with clock("Emo-A"):
        chosen = [networks.classifier(networks.clip_features(images)).argmax(dim=1) for images in batches()]
        figures["Emo-A"] = float((torch.cat(chosen) == labels).double().mean())
    with clock("Sem-C"):
        figures["Sem-C"] = float(torch.cat([networks.clarity(images) for images in batches()]).double().mean())
    plan = plan_evaluation(names, MIKELS_8, [STRICT])
    pairs = plan.pairs["strict"]
    step = max(1, len(pairs.first) // sample) if sample else 1
    for name, look in (("LPIPS", networks.maps), ("Sem-D", networks.clip_features)):
        distances = []
        with clock(name, step):
            for first, second in zip(pairs.first[::step].tolist(), pairs.second[::step].tolist(), strict=True):
                both = [load_images([folder / plan.names[position]]) for position in (first, second)]
                difference = (look(both[0]) - look(both[1])).square()
                distances.append(float(difference.sum() if name == "LPIPS" else difference.mean()))
        figures[name] = float(np.mean(distances))
    figures["pairs timed"] = len(pairs.first[::step])
    figures["pairs"] = len(pairs.first)
    return figures


def side_by_side(networks: Miniature | TrueSize, per_emotion: int, size: int, sample: int | None) -> dict[str, Any]:
    """Return times and figures of both ways on 8 × ``per_emotion`` pictures."""
    clock = Clock()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        names = paint(folder, per_emotion, size)
        real = real_side(networks.outputs["fid"], size)
        ours = one_pass(networks, folder, names, real, clock)
        theirs = straightforward(networks, folder, names, real, sample, clock)
    times = {
        "engine": clock.total("engine"),
        "of which figures and intervals": clock.total("result"),
        "bare forward passes": clock.total("bare"),
        "straightforward": clock.total("FID", "Emo-A", "Sem-C", "LPIPS", "Sem-D"),
    }
    ratio = {
        "straightforward / engine": times["straightforward"]["wall_s"] / times["engine"]["wall_s"],
        "engine / bare": times["engine"]["wall_s"] / times["bare forward passes"]["wall_s"],
        "engine / bare, processor time": times["engine"]["processor_s"] / times["bare forward passes"]["processor_s"],
    }
    return {
        "images": 8 * per_emotion,
        "times": times,
        "ratios": {name: round(value, 3) for name, value in ratio.items()},
        "straightforward by metric": {name: clock.total(name) for name in ("FID", "Emo-A", "Sem-C", "LPIPS", "Sem-D")},
        "pairs": theirs.pop("pairs"),
        "pairs timed, scaled to all": theirs.pop("pairs timed"),
        "figures": {name: [ours[name], theirs[name]] for name in theirs},
    }


def memory(counts: list[int]) -> dict[str, float]:
    """Return the peak memory in MB of the engine on so many pictures, each number in a process of its own."""
    peaks = {}
    for count in counts:
        words = [sys.executable, "-m", "benchmarks.evaluation", "--peak", str(count)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        peaks[str(count)] = float(done.stdout.split()[-1])
    return peaks


def peak(count: int) -> float:
    """Return this process's peak memory in MB after ``count`` images.

    One layer of the miniature's CLIP is run, to save time: what is measured is what the engine keeps.
    """
    networks = Miniature()
    networks.network.clip.visual.transformer.resblocks = networks.network.clip.visual.transformer.resblocks[:1]
    names = {emotion: [f"{emotion}/{number:05d}" for number in range(count // 8)] for emotion in MIKELS_8}
    plan = plan_evaluation(names, MIKELS_8, [STRICT])
    suite = MetricSuite(plan, {"strict": networks.outputs}, BATCH)
    suite.load_real([real_side(networks.outputs["fid"], 32)])
    generator = torch.Generator().manual_seed(0)
    for start in range(0, len(plan.names), BATCH):
        part = plan.names[start : start + BATCH]
        suite.update(torch.rand(len(part), 3, 32, 32, generator=generator), part)
    suite.compute()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run the parts and print them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="8 × 25 images, 160 pairs timed, no true-size networks")
    parser.add_argument("--parts", nargs="+", default=["miniature", "true-size", "memory"])
    parser.add_argument("--per_emotion", type=int, default=200)
    parser.add_argument("--sample", type=int, help="pairs that the straightforward way is timed on (all)")
    parser.add_argument("--true_size_images", type=int, default=64)
    parser.add_argument("--clip", default="ViT-L-14", help="true-size CLIP")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak(options.peak))
        return
    if options.quick:
        options.per_emotion, options.sample, options.parts = 25, 160, ["miniature"]
    result: dict[str, Any] = {"threads": options.threads, "torch": torch.__version__}
    if "miniature" in options.parts:
        result["miniature"] = side_by_side(Miniature(), options.per_emotion, 32, options.sample)
    if "true-size" in options.parts:
        result["true size"] = {"clip": options.clip} | side_by_side(
            TrueSize(options.clip), options.true_size_images // 8, 512, options.sample
        )
    if "memory" in options.parts:
        result["peak memory, MB"] = memory([1000, 10000])
    text = json.dumps(result, indent=1)
    print(text)
    if options.output:
        options.output.write_text(text + "\n")


if __name__ == "__main__":
    main()
