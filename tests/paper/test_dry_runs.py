"""The paper's configurations at true shapes, one step each with random weights; run on demand, minutes and gigabytes.

python -m pytest tests/paper -m slow -s
"""

import json
import math
import os
import re
import subprocess
import sys

import pytest

from tests.trees import painted_emoset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
MOST = 24  # GiB, of a machine that is to be enough
LOSSES = {"scene", "object", "emotion", "total"}
STEP = {
    "data.num_workers": 0,
    "data.eval_batch_size": 4,
    "trainer.accelerator": "cpu",
    "trainer.precision": "32-true",
    "trainer.max_steps": 1,
    "trainer.limit_val_batches": 1,
    "attention_maps.every_n_epochs": 0,
    "generation_metrics.every_n_epochs": 0,
}


@pytest.mark.parametrize(
    ("recipes", "batch", "losses"),
    [
        (("understanding", "vit_l14"), 4, LOSSES),
        (("joint", "vit_l14", "sd15", "literal/joint"), 2, LOSSES | {"condition", "diffusion"}),
        (("joint", "vit_l14", "sdxl", "released", "released_joint"), 1, LOSSES | {"condition", "diffusion"}),
    ],
)
def test_one_step_at_true_shapes(tmp_path, recipes, batch, losses):
    """``uniemo fit --weights random`` in a process of its own, so that peak memory is its own."""
    root = painted_emoset(tmp_path / "tree", train=8, val=4, test=4)
    options = STEP | {"data.root": root, "data.batch_size": batch}
    if "joint" in recipes:
        options["model.diffusion.checkpointing"] = "true"
    else:
        del options["generation_metrics.every_n_epochs"]
    args = [word for recipe in recipes for word in ("--config", f"paper/{recipe}.yaml")]
    args += [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    command = [sys.executable, "-m", "uniemo", "fit", *args, "--weights", "random", "--run_dir", str(tmp_path / "run")]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "UNIEMO_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = {name: float(value) for name, value in re.findall(r"loss/(\w+) +(\S+)", done.stdout)}
    facts = json.loads((tmp_path / "run/fit_environment.json").read_text())
    print(f"\n{recipes}: {found}, {facts['peak memory']}, {facts['seconds']} s")
    assert set(found) == losses
    assert all(math.isfinite(value) for value in found.values())
    assert float(facts["peak memory"].removesuffix(" GiB")) < MOST
