"""Golden values of the miniature, measured through the command line alone: they outlive a rebuild of the package.

``python -m tests.golden.record`` writes values.json, and, where they are missing, the three small checkpoints of
``checkpoints/`` that later versions have to open, from whatever is checked out. Run it only when numbers change on
purpose, and say so in the changelog.
"""

import base64
import json
import os
import platform
import re
import shutil
import sys
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.tiny_runs import assets
from uniemo.cli import main

HERE = Path(__file__).parent
VALUES = HERE / "values.json"
CHECKPOINTS = HERE / "checkpoints"
SEEDS = (0, 1, 2)
STAGES = ("understanding", "joint", "feedback")
STEPS = 20


def command(*args):
    """Run a command, which must succeed."""
    assert main([str(arg) for arg in args]) == 0, args


def environment():
    """What floating-point sums depend on."""
    return {
        "torch": torch.__version__.split("+")[0],
        "machine": platform.machine(),
        "capability": torch.backends.cpu.get_cpu_capability(),
    }


def paint(root):
    """Paint the small tree that all golden runs use."""
    tree = root / "tree"
    if not tree.exists():
        command("data", "synthesize", "--layout", "emoset", "--out", tree, "--train", 256, "--val", 64, "--test", 96)
    return tree


def fit(root, stage, seed, *args):
    """Train a stage of the miniature for twenty steps; return its run folder."""
    folder = root / f"{stage}-{seed}"
    quiet = ("--generation_metrics.every_n_epochs", 100, "--model.space.kind", "variation")
    quiet = () if stage == "understanding" else quiet
    command(
        *("fit", "--config", f"{stage}.yaml", "--run_dir", folder, "--data.root", paint(root)),
        *("--seed_everything", seed, "--trainer.max_steps", STEPS, "--trainer.max_epochs", 20),
        *("--trainer.log_every_n_steps", 1, "--trainer.enable_progress_bar", "false", "--trainer.accelerator", "cpu"),
        *("--attention_maps.every_n_epochs", 100, *quiet, *args),
    )
    return folder


def logged_losses(folder):
    """Return the twenty values of each loss in a run's TensorBoard files."""
    events = EventAccumulator(str(next(folder.rglob("events.out.tfevents.*")).parent), {"scalars": 0})
    events.Reload()
    return {
        tag: [event.value for event in events.Scalars(tag)]
        for tag in sorted(events.Tags()["scalars"])
        if tag.startswith("loss/")
    }


def pixels(folder):
    """Return the pixels of a folder's images, packed into text."""
    files = sorted(path for path in folder.rglob("*.png") if path.name != "grid.png")
    images = np.stack([np.asarray(Image.open(path).convert("RGB")) for path in files])
    packed = base64.b85encode(zlib.compress(images.tobytes(), 9)).decode()
    return {"shape": list(images.shape), "data": packed}


def unpacked(entry):
    """Return (N, H, W, 3) of what :func:`pixels` packed."""
    return np.frombuffer(zlib.decompress(base64.b85decode(entry["data"])), np.uint8).reshape(entry["shape"])


def stages(root, seed):
    """Return the losses of the first twenty steps of each stage, trained one from the other."""
    found = {}
    understanding = fit(root, "understanding", seed)
    found["understanding"] = logged_losses(understanding)
    joint = fit(root, "joint", seed, "--model.init_from", understanding / "last.ckpt")
    found["joint"] = logged_losses(joint)
    generated, kept = root / f"generated-{seed}", root / f"kept-{seed}"
    command("generate", "--ckpt", joint / "last.ckpt", "--emotion", "all", "--num", 8, "--steps", 4, "--out", generated)
    command("filter", "--generated", generated, "--ckpt", joint / "last.ckpt", "--out", kept)
    feedback = fit(
        root, "feedback", seed, "--model.init_from", joint / "last.ckpt", "--data.generated", kept / "kept.jsonl"
    )
    found["feedback"] = logged_losses(feedback)
    return found


def tested(checkpoint, folder):
    """Return what ``uniemo test`` measures."""
    command(
        *("test", "--ckpt", checkpoint, "--run_dir", folder, "--trainer.enable_progress_bar", "false"),
        *("--generation_metrics.test_images", 4, "--generation_metrics.steps", 4, "--trainer.accelerator", "cpu"),
    )
    return numbers(json.loads((folder / "test.json").read_text()))


def generated(root, checkpoint):
    """Return the pixels of images with fixed seeds, for each way to ask for them."""
    asked = {
        "one": ("--emotion", "awe"),
        "mixture": ("--emotion", "awe=0.7", "--emotion", "fear=0.3", "--prompt", "a {} beach"),
        "gaussian": ("--emotion", "sadness", "--space", "gaussian"),
    }
    found = {}
    for name, args in asked.items():
        command("generate", "--ckpt", checkpoint, *args, "--num", 2, "--steps", 5, "--out", root / name)
        found[name] = pixels(root / name)
    return found


def evaluated(root, tree, images):
    """Return the metrics of ``uniemo evaluate`` on a folder, both protocols, without the second classifier."""
    output = root / "result.json"
    command("evaluate", "--real", tree, "--generated", images, "--pairs", 20, "--output", output, "--overwrite")
    found = numbers(json.loads(output.read_text()))
    second = re.compile(r"\(second\)|^classifiers/1/|/confusion/1/")
    return {name: value for name, value in found.items() if not second.search(name)}


def numbers(tree, path=()):
    """Return the numbers of a nested result by their path, times and versions left out."""
    found = {}
    children = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for name, value in children:
        if str(name) in ("versions", "machine", "seconds", "duration", "date", "environment", "time"):
            continue
        if isinstance(value, bool) or value is None:
            continue
        if isinstance(value, (int, float)):
            found["/".join(map(str, (*path, name)))] = value
        else:
            found |= numbers(value, (*path, name))
    return found


@contextmanager
def inside(folder):
    """Work in another folder for a while: the checkpoints name their networks and data relative to it."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def small_checkpoints():
    """Train the three stages on tiny networks, by relative names, and copy their checkpoints into this folder."""
    CHECKPOINTS.mkdir(exist_ok=True)
    with inside(assets()):
        before = []
        for stage in STAGES:
            clip = [] if stage == "understanding" else ["--model.diffusion.path", "diffusion"]
            clip += [] if stage == "understanding" else ["--explicit_feedback.clip", "clip"]
            command(
                *("fit", "--config", f"{stage}.yaml", "--config", f"stage{min(2, STAGES.index(stage) + 1)}.yaml"),
                *("--run_dir", f"small/{stage}", "--data.root", "tree", "--model.encoder.clip", "clip", *clip),
                *("--generation_metrics.clip", "clip", "--generation_metrics.every_n_epochs", 9, *before),
            )
            before = ["--model.init_from", f"small/{stage}/best.ckpt"]
            shutil.copy(f"small/{stage}/best.ckpt", CHECKPOINTS / f"{stage}.ckpt")


def opened():
    """Return what the small checkpoints of an earlier version give: test metrics, and pixels where they generate."""
    found = {}
    with inside(assets()):
        for stage in STAGES:
            checkpoint, folder = CHECKPOINTS / f"{stage}.ckpt", Path("opened") / stage
            command(
                *("test", "--ckpt", checkpoint, "--run_dir", folder, "--trainer.enable_progress_bar", "false"),
                *("--trainer.accelerator", "cpu"),
            )
            found[stage] = {"test": numbers(json.loads((folder / "test.json").read_text()))}
            if stage != "understanding":
                out = Path("opened") / f"{stage}-images"
                command("generate", "--ckpt", checkpoint, "--emotion", "fear", "--num", 2, "--steps", 3, "--out", out)
                found[stage]["pixels"] = pixels(out)
    return found


def record():
    """Write values.json and the checkpoints."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        values = {"environment": environment()}
        values["losses"] = {str(seed): stages(root, seed) for seed in SEEDS}
        checkpoint = root / "joint-0" / "last.ckpt"
        values["test"] = tested(checkpoint, root / "test-joint")
        values["pixels"] = generated(root, checkpoint)
        values["evaluate"] = evaluated(root, root / "tree", root / "generated-0")
    if not CHECKPOINTS.is_dir():  # they stay those of the version that wrote them
        small_checkpoints()
    values["opened"] = opened()
    VALUES.write_text(json.dumps(values, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(record())
