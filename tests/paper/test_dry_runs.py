"""The paper's configurations at true shapes, one step each with random weights; run on demand, minutes and gigabytes.

python -m pytest tests/paper -m slow -s
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
ROOT = Path(__file__).parent.parent.parent
MOST = 24  # GiB, of a machine that is to be enough


def dry_run(name):
    """Run one in a process of its own, so that peak memory is its own; print and return what it found."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-m", "tests.paper.dry_run", name]
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.strip().splitlines()[-1])
    print(f"\n{json.dumps(found)}")
    assert found["peak_gib"] < MOST
    return found


@pytest.mark.parametrize(
    ("name", "groups", "frozen"),
    [
        ("stage1", {"clip", "query", "head", "head_vectors"}, 0),
        ("stage2", {"clip", "query", "head", "head_vectors", "fusion"}, 1000),
        ("sdxl", {"query", "fusion"}, 3400),
    ],
)
def test_one_step_at_true_shapes(name, groups, frozen):
    """Forward, backward and optimiser reach every group; the loss is a number."""
    found = dry_run(name)
    assert math.isfinite(found["loss"])
    assert all(math.isfinite(value) for value in found["terms"].values())
    assert set(found["groups"]) == groups
    assert found["without_gradient"] == []
    assert set(found["changed"]) == groups
    assert found["all_millions"] - found["trained_millions"] >= frozen
    assert ("diffusion" in found["terms"]) == (name != "stage1")


def test_sdxl_on_the_meta_device():
    """Stage 2 with XL fits from the images to the loss and back to both conditions, without a byte of its UNet."""
    found = dry_run("sdxl_meta")
    assert found["terms"] == ["condition", "diffusion", "emotion", "object", "scene"]
    assert found["unet"] == {
        "latents": [[2, 4, 128, 128], "torch.bfloat16"],
        "states": [[2, 77, 768 + 1280], "torch.bfloat16"],  # both text encoders side by side
        "text_embeds": [[2, 1280], "torch.bfloat16"],  # the second one's pooled embedding
        "time_ids": [[2, 6], "torch.bfloat16"],
    }
    assert found["condition_gradients"] == [[2, 768], [2, 1280]]
    assert set(found["groups"]) == {"clip", "query", "head", "head_vectors", "fusion"}
    assert found["without_gradient"] == []
    assert found["vae"] == "torch.float32"
    assert found["unet_millions"] == pytest.approx(2567.5, abs=0.1)
