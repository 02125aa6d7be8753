"""The shipped weights: their size, and a quick look at what their recipe's report says at length."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from uniemo.miniature.paths import resolve
from uniemo.miniature.pretraining_set import paint_set
from uniemo.miniature.quality import TARGETS, ZeroShot, accuracy
from uniemo.miniature.small_networks import caption
from uniemo.miniature.table import EMOTIONS, OBJECTS, SCENES
from uniemo.models.diffusion import DiffusionConfig, load_diffusion

WEIGHTS = resolve("miniature:clip").parent


@pytest.fixture(scope="module")
def held_out():
    return paint_set(128, seed=77_777)


@pytest.fixture(scope="module")
def classify():
    return ZeroShot(WEIGHTS / "clip")


@pytest.fixture(scope="module")
def diffusion():
    return load_diffusion(DiffusionConfig())


def test_weights_are_small_and_their_report_meets_the_targets():
    assert sum(file.stat().st_size for file in WEIGHTS.rglob("*") if file.is_file()) <= 24 * 2**20
    quality = json.loads((WEIGHTS / "quality.json").read_text())
    assert set(TARGETS) <= set(quality)
    for name, wanted in TARGETS.items():
        assert quality[name] >= wanted, name


def test_clip_classifies_held_out_paintings(classify, held_out):
    pixels = held_out.images.float() / 255
    for view in (pixels, F.interpolate(pixels, size=32, mode="area")):
        scene, thing = classify(view)
        assert accuracy(scene, held_out.scene) >= 0.95
        assert 0.65 <= accuracy(thing, held_out.object) <= 0.95  # there is something left to learn


def test_autoencoder_keeps_pictures_and_has_standardised_latents(classify, held_out, diffusion):
    small = F.interpolate(held_out.images.float() / 255, size=32, mode="area")
    latents = diffusion.encode(small * 2 - 1)
    assert latents.shape[1:] == diffusion.latent_shape == (8, 8, 8)
    assert latents.std(dim=(0, 2, 3)).sub(1).abs().max() < 0.2
    decoded = ((diffusion.vae.decode(latents).sample + 1) / 2).clamp(0, 1)
    error = ((decoded - small) ** 2).mean((1, 2, 3))
    assert -10 * error.log10().mean() > 23
    assert accuracy(classify(decoded)[1], held_out.object) >= 0.5


def test_captions_generate_their_scene(classify, diffusion):
    cells = [(number % len(SCENES), (5 * number) % len(OBJECTS)) for number in range(16)]
    prompts = [caption("a {o} in a {s}", scene, thing) for scene, thing in cells]
    images = diffusion.generate(None, prompts, list(range(16)), steps=12, guidance=3.0)
    scene, thing = classify(images)
    assert accuracy(scene, torch.tensor([cell[0] for cell in cells])) >= 0.8
    assert accuracy(thing, torch.tensor([cell[1] for cell in cells])) >= 0.4


def test_one_tokenizer_spells_names_as_single_tokens(diffusion):
    tokenizer = diffusion.tokenizers[0]
    for name in (*SCENES, *OBJECTS, *EMOTIONS):
        assert len(tokenizer(name.replace("_", " "), add_special_tokens=False).input_ids) == len(name.split("_"))
    ours = json.loads((Path(WEIGHTS) / "clip" / "tokenizer.json").read_text())["model"]["vocab"]
    assert ours == tokenizer.get_vocab()
