"""Tiny networks, a tiny painted tree and trained runs, made once per test run."""

import atexit
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.tiny import tiny_clip, tiny_diffusion
from uniemo.cli import main
from uniemo.miniature.synthesis import synthesize_emoset


@cache
def assets() -> Path:
    """Folder with clip/, diffusion/, tree/, stage1.yaml and stage2.yaml (overlays that make the recipes tiny)."""
    root = Path(tempfile.mkdtemp(prefix="uniemo-tiny-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    tiny_clip(root / "clip")
    tiny_diffusion(root / "diffusion")
    synthesize_emoset(root / "tree", train=48, val=32, test=32, size=32, difficulty=0)
    clip = str(root / "clip")
    common = {
        "model": {"init_args": {"encoder": {"clip": clip, "query_length": 2}, "head": {"hidden": 16}}},
        "data": {"init_args": {"root": str(root / "tree"), "image_size": 32, "batch_size": 16}},
        "trainer": {"max_epochs": 1, "log_every_n_steps": 1, "enable_progress_bar": False},
        "attention_maps": {"every_n_epochs": 1},
        "generation_metrics": {"clip": clip, "every_n_epochs": 1, "val_images": 2, "test_images": 2, "steps": 2},
    }
    (root / "stage1.yaml").write_text(yaml.safe_dump(common))
    common["model"]["init_args"]["diffusion"] = {"path": str(root / "diffusion"), "steps": 2}
    common["explicit_feedback"] = {"clip": clip, "steps": 2, "num_per_emotion": 5}
    (root / "stage2.yaml").write_text(yaml.safe_dump(common))
    os.environ.setdefault("UNIEMO_CACHE", str(root / "cache"))
    return root


def recipe(stage: str) -> list[str]:
    """Arguments of a tiny fit, without a run folder."""
    overlay = "stage1.yaml" if stage == "understanding" else "stage2.yaml"
    return ["fit", "--config", f"{stage}.yaml", "--config", str(assets() / overlay)]


@cache
def trained(stage: str) -> Path:
    """Run folder of a stage, each trained from the one before."""
    folder = assets() / "runs" / stage
    args = [*recipe(stage), "--run_dir", str(folder)]
    before = {"joint": "understanding", "feedback": "joint"}.get(stage)
    if before is not None:
        args += ["--model.init_from", str(trained(before) / "best.ckpt")]
    assert main(args) == 0
    return folder


@pytest.fixture(autouse=True)
def run_folder(tmp_path, monkeypatch):
    """Run in an empty folder, with the cache that all tiny runs share."""
    monkeypatch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
    monkeypatch.chdir(tmp_path)
