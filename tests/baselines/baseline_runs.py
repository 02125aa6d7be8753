"""Tiny runs of all baselines; those that generate on both kinds of Stable Diffusion."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import yaml

from tests.baselines.tiny_vision_language import tiny_vision_language
from tests.tiny import tiny_diffusion
from tests.tiny_runs import assets
from tests.tiny_sdxl import tiny_sdxl
from uniemo.cli import main

CLASSIFIERS = ("zero_shot", "linear_probe", "fine_tune", "coop", "cocoop")
GENERATORS = ("prompted", "textual_inversion", "dreambooth", "emogen")
UNTRAINED = ("zero_shot", "vision_language", "prompted")


@cache
def folder() -> Path:
    """Folder for what is made once: two diffusion models, a vision-language model, overlays, runs."""
    root = Path(tempfile.mkdtemp(prefix="uniemo-baselines-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    tiny_diffusion(root / "sd")
    tiny_sdxl(root / "xl")
    return root


def recipe(method: str, kind: str = "sd") -> list[str]:
    """Arguments of a tiny fit, without a run folder."""
    clip = str(assets() / "clip")
    model = {"encoder": {"clip": clip}} if method in (*CLASSIFIERS, "emogen") else {}
    overlay = {
        "model": {"init_args": model},
        "data": {"init_args": {"root": str(assets() / "tree"), "image_size": 32, "batch_size": 16}},
        "trainer": {"log_every_n_steps": 1, "enable_progress_bar": False},
    }
    if method not in UNTRAINED:
        overlay["trainer"]["max_epochs"] = 1
    if method == "coop":
        model["context_length"] = 3
    if method.startswith("vision_language"):
        model["path"] = str(tiny_vision_language(folder() / "llava", "llava"))
    if method in GENERATORS:
        model["diffusion"] = {"path": str(folder() / kind), "steps": 2}
        overlay["generation_metrics"] = {"clip": clip, "test_images": 2, "steps": 2}
        if method != "prompted":
            overlay["generation_metrics"]["every_n_epochs"] = 0
    if method == "emogen":
        model["encoder"]["hidden"] = 8
    file = folder() / f"{method}_{kind}.yaml"
    file.write_text(yaml.safe_dump(overlay))
    return ["fit", "--config", f"baselines/{method}.yaml", "--config", str(file)]


def trained(method: str, kind: str = "sd") -> Path:
    """Run folder of a method."""
    return _trained(method, kind)


@cache
def _trained(method: str, kind: str) -> Path:
    run = folder() / "runs" / f"{method}_{kind}"
    assert main([*recipe(method, kind), "--run_dir", str(run)]) == 0
    return run


def best(method: str, kind: str = "sd") -> str:
    """Checkpoint of a method."""
    return str(trained(method, kind) / "best.ckpt")
