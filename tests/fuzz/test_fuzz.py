"""Random configuration values and random bytes in every kind of file that is read, for ``FUZZ_SECONDS`` each.

Any outcome is exit 0, or exit 2 with one line on stderr; never a traceback, and no file outside the working folder.
"""

import itertools
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from tests.tiny_runs import assets, recipe, trained
from tests.watching import watched
from uniemo.checkpoint import load_model, read_checkpoint
from uniemo.cli import main
from uniemo.data.latent_cache import CachedLatents
from uniemo.errors import UniEmoError
from uniemo.metrics.classifier import ClassifierOrigin, EmotionClassifier
from uniemo.models.clip import load_clip
from uniemo.models.diffusion import DiffusionConfig, load_diffusion

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0.5"))
FIRST = int(os.environ.get("FUZZ_SEED", "0"))  # another one tries other values
ROUND = settings(max_examples=20, deadline=None, database=None, suppress_health_check=list(HealthCheck))


def fuzz(body, strategy):
    """Call ``body`` with random values until the time is over, in rounds of a seed each."""
    end = time.monotonic() + SECONDS

    def timed(value):
        if time.monotonic() < end:
            body(value)

    for number in itertools.count(FIRST):
        seed(number)(ROUND(given(strategy)(timed)))()
        if time.monotonic() >= end:
            return


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(capsys, folder, action, what):
    """Run a command, or a function that raises UniEmoError, and check how it ends."""
    capsys.readouterr()
    with watched(folder, assets(), Path(tempfile.gettempdir()) / "tmp") as seen:
        try:
            code = action()
        except (UniEmoError, OSError):
            code = 0
    assert not seen, what
    error = capsys.readouterr().err
    assert code in (0, 1, 2), what
    if code == 2:
        assert sum(line.startswith("error: ") for line in error.splitlines()) == 1, (what, error)
    assert "Traceback" not in error, what


# Configurations.

# number of processes, machines and workers are decided by the machine; the rest of a run is one batch (fast_dev_run)
LEFT_OUT = ("trainer.num_nodes", "trainer.devices", "data.num_workers", "trainer.fast_dev_run", "trainer.strategy")
NUMBERS = st.one_of(st.integers(), st.integers(-2, 3), st.floats(), st.sampled_from([1e308, 10**12, 0.5, 1e-300]))
TEXTS = st.one_of(
    st.text(max_size=12), st.sampled_from(["uniemo.data.EmoSet", "subprocess.Popen", "../x", "/dev/null", "nan", "x.y"])
)
PLAIN = st.one_of(NUMBERS, TEXTS, st.none(), st.booleans())
VALUES = st.recursive(
    PLAIN,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=4,
)


def keys(values, prefix=""):
    for name, value in values.items():
        key = prefix if name == "init_args" else f"{prefix}.{name}".lstrip(".")
        yield key
        if isinstance(value, dict):
            yield from keys(value, key)


def test_configuration_keys(folder, capsys):
    _, info = read_checkpoint(trained("understanding") / "best.ckpt")
    known = sorted({key for key in keys(yaml.safe_load(info.config)) if key and key not in LEFT_OUT})

    def body(choice):
        key, value = choice
        option = f"--{key}={json.dumps(value)}"
        args = [*recipe("understanding"), "--run_dir", "run", "--overwrite", option]
        check(capsys, folder, lambda: main([*args, "--trainer.fast_dev_run=1"]), option)

    fuzz(body, st.tuples(st.sampled_from(known), VALUES))


# Files.


def photograph(path, **options):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 56, 3), np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


def classifier(path):
    head = EmotionClassifier(16, 8, None, 0.0, ClassifierOrigin(tuple("abcdefgh"), "x", "y", {}))
    head.save(path)
    return path


def latents(path):
    np.savez(path, posteriors=np.ones((2, 2, 4, 8, 8), np.float16))
    return path


def copied(source, name):
    target = Path(name)
    (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    return target


def classify(*files):
    checkpoint = str(trained("understanding") / "best.ckpt")
    return lambda: main(["classify", "--ckpt", checkpoint, *map(str, files)])


def index(folder):
    Path(folder).mkdir()
    rows = [{"file": f"{number}.png", "emotion": "awe", "seed": number} for number in range(4)]
    Path(folder, "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        photograph(Path(folder, row["file"]))
    return Path(folder, "index.jsonl")


def kinds():
    """Yield each kind of file: its name, how it is made, and how it is opened."""
    understanding, joint = trained("understanding"), trained("joint")
    score = ["filter", "--generated", "gen", "--out", "out", "--clip", str(assets() / "clip"), "--data.root"]
    tree = str(assets() / "tree")
    yield "checkpoint", lambda: copied(joint / "best.ckpt", "x.ckpt"), lambda: load_model("x.ckpt") and 0
    yield "run", lambda: copied(understanding, "run") / "test.json", lambda: main(["report", "run"])
    yield "config", lambda: copied(understanding, "run") / "config.yaml", lambda: main(["report", "run"])
    yield "events", lambda: next(copied(joint, "run").glob("events*")), lambda: main(["report", "run"])
    yield "clip", lambda: copied(assets() / "clip", "c") / "open_clip_config.json", lambda: load_clip("c") and 0
    yield (
        "weights",
        lambda: copied(assets() / "clip", "c") / "open_clip_model.safetensors",
        lambda: load_clip("c") and 0,
    )
    for part in ("model_index.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"):
        yield (
            f"diffusion {Path(part).name}",
            lambda part=part: copied(assets() / "diffusion", "d") / part,
            lambda: load_diffusion(DiffusionConfig(path="d")) and 0,
        )
    yield "classifier", lambda: classifier(Path("x.safetensors")), lambda: EmotionClassifier.load("x.safetensors") and 0
    yield "jpeg", lambda: photograph(Path("x.jpg")), classify("x.jpg")
    yield "png", lambda: photograph(Path("x.png")), classify("x.png")
    yield "tiff", lambda: photograph(Path("x.tif")), classify("x.tif")
    yield "index", lambda: index("gen"), lambda: main([*score, tree])
    for name in ("info.json", "train.json"):
        yield name, lambda name=name: copied(assets() / "tree", "t") / name, lambda: main(["data", "check", "t"])
    yield "yaml", lambda: copied(assets() / "stage1.yaml", "x.yaml"), lambda: main(["fit", "--config", "x.yaml"])
    yield "latents", lambda: latents(Path("ab/abc.npz")), open_latents


def open_latents():
    CachedLatents(Path(), (4, 8, 8), np.array([b"abc"])).read(0, False)
    return 0


CHANGES = st.lists(
    st.tuples(st.sampled_from(["flip", "cut", "insert", "fill"]), st.floats(0, 1), st.binary(min_size=1, max_size=9)),
    min_size=1,
    max_size=4,
)


def changed(content, changes):
    for how, place, given_bytes in changes:
        at = int(place * len(content))
        if how == "cut":
            content = content[:at]
        elif how == "insert":
            content = content[:at] + given_bytes + content[at:]
        elif how == "fill":
            content = content[:at] + given_bytes + content[at + len(given_bytes) :]
        elif content:
            at = min(at, len(content) - 1)
            content = content[:at] + bytes([content[at] ^ (given_bytes[0] or 1)]) + content[at + 1 :]
    return content


KINDS = (
    *("checkpoint", "run", "config", "events", "clip", "weights", "classifier", "jpeg", "png", "tiff", "index", "yaml"),
    *("diffusion model_index.json", "diffusion config.json", "diffusion diffusion_pytorch_model.safetensors"),
    *("info.json", "train.json", "latents"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes(folder, capsys, kind):
    (folder / "ab").mkdir()
    make, action = next((make, action) for name, make, action in kinds() if name == kind)
    file = make()
    whole = file.read_bytes() if file.is_file() else b"{}"

    def body(changes):
        shutil.rmtree("out", ignore_errors=True)
        file.unlink(missing_ok=True)
        file.write_bytes(changed(whole, changes))
        check(capsys, folder, action, (kind, changes))

    fuzz(body, CHANGES)
