"""Tiny runs of the baselines that draw images, on both kinds of Stable Diffusion."""

import atexit
import shutil
import tempfile
from functools import cache
from pathlib import Path

import yaml

from tests.tiny import tiny_diffusion
from tests.tiny_runs import assets
from tests.tiny_sdxl import tiny_sdxl
from uniemo.cli import main

METHODS = ("prompted", "textual_inversion", "dreambooth", "emogen")


@cache
def folder() -> Path:
    """Folder for what is made once: two diffusion models, overlays, runs."""
    root = Path(tempfile.mkdtemp(prefix="uniemo-drawing-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    tiny_diffusion(root / "sd")
    tiny_sdxl(root / "xl")
    return root


def recipe(method: str, kind: str = "sd") -> list[str]:
    """Words of a tiny fit, without a run folder."""
    clip = str(assets() / "clip")
    overlay = {
        "model": {"init_args": {"diffusion": {"path": str(folder() / kind), "steps": 2}}},
        "data": {"init_args": {"root": str(assets() / "tree"), "image_size": 32, "batch_size": 16}},
        "trainer": {"log_every_n_steps": 1, "enable_progress_bar": False},
        "generation_metrics": {"clip": clip, "test_images": 2, "steps": 2},
    }
    if method != "prompted":
        overlay["trainer"]["max_epochs"] = 1
        overlay["generation_metrics"]["every_n_epochs"] = 0
    if method == "emogen":
        overlay["model"]["init_args"]["encoder"] = {"clip": clip, "hidden": 8}
    file = folder() / f"{method}_{kind}.yaml"
    file.write_text(yaml.safe_dump(overlay))
    return ["fit", "--config", f"baselines/{method}.yaml", "--config", str(file)]


@cache
def trained(method: str, kind: str = "sd") -> Path:
    """Run folder of a method."""
    run = folder() / "runs" / f"{method}_{kind}"
    assert main([*recipe(method, kind), "--run_dir", str(run)]) == 0
    return run
