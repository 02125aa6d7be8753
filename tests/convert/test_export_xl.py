"""Export of Stable Diffusion XL: a word is an embedding for each text encoder, and plain diffusers draws the same."""

import json
import re
import runpy
import shutil

import diffusers
import numpy as np
import pytest
import torch
from convert.joint_files import GUIDANCE, STEPS, write
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tiny_sdxl import WIDTHS, tiny_sdxl

from uniemo.checkpoint import load_model
from uniemo.cli import main
from uniemo.convert.export import export_diffusers

ENCODERS = ("text_encoder", "text_encoder_2")


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A tiny XL whose text encoders pool at the highest id, as the published ones do."""
    folder = tiny_sdxl(tmp_path_factory.mktemp("sdxl"))
    for encoder in ENCODERS:
        edit(folder / encoder / "config.json", eos_token_id=2)
    return folder


@pytest.fixture(scope="module")
def checkpoint(base):
    return write(base.parent / "best.ckpt", path=str(base), lora_rank=2)


@pytest.fixture(scope="module")
def exported(checkpoint):
    folder = checkpoint.parent / "emotions"
    words = ["convert", "--to", "diffusers", str(checkpoint), "--output", str(folder), "--draws", "2"]
    assert main(words) == 0
    return folder


def plain(folder, word, prompt, seed, scheduler=None, change=(), **options):
    """What a script with diffusers alone draws, (3, H, W) in [0, 1]; ``change`` negates embeddings."""
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    state = load_file(folder / f"conditions/{word[1:-1]}.safetensors")
    state = {key: -value if key in change else value for key, value in state.items()}
    first = {"text_encoder": pipeline.text_encoder, "tokenizer": pipeline.tokenizer}
    second = {"text_encoder": pipeline.text_encoder_2, "tokenizer": pipeline.tokenizer_2}
    pipeline.load_textual_inversion(state["clip_l"], token=word, **first)
    pipeline.load_textual_inversion(state["clip_g"], token=word, **second)
    if scheduler is not None:
        pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    generator = torch.Generator().manual_seed(seed)
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "pt", **options}
    return pipeline(prompt, generator=generator, **settings).images[0]


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


@pytest.mark.parametrize(
    ("prompt", "scheduler"), [("{}", None), ("a {} room", "EulerDiscreteScheduler"), ("{} , beach", None)]
)
def test_plain_diffusers_draws_the_same_image(checkpoint, exported, prompt, scheduler):
    """A drawn condition's word, with its seed, is ``uniemo generate --seed``; adapters are in the UNet."""
    model, _ = load_model(checkpoint, generation=True)
    ours = model.generate({1: 1.0}, [1], prompts=prompt, scheduler=scheduler)[0]
    text = prompt.replace("{}", "<fear-1>")
    theirs = plain(exported, "<fear-1>", text, 1, scheduler)
    assert psnr(ours, theirs) > 60
    for change in ("clip_l", "clip_g"):
        assert psnr(ours, plain(exported, "<fear-1>", text, 1, scheduler, change)) < 50, change


def test_negative_prompt_and_mean(checkpoint, exported):
    model, _ = load_model(checkpoint, generation=True)
    drawn = model.sample_condition({0: 1.0}, list(range(64)))
    mean = tuple(own.mean(dim=0, keepdim=True) for own in drawn)
    state = load_file(exported / "conditions/awe.safetensors")
    assert [tuple(state[key].shape) for key in ("clip_l", "clip_g")] == [(1, width) for width in WIDTHS]
    assert all(torch.allclose(state[key], own, atol=1e-6) for key, own in zip(("clip_l", "clip_g"), mean, strict=True))
    ours = model.diffusion.generate(mean, ["a {} room"], [5], negative_prompt="dark sewer")[0]
    assert psnr(ours, plain(exported, "<awe>", "a <awe> room", 5, negative_prompt="dark sewer")) > 60
    with safe_open(exported / "conditions/awe-1.safetensors", "pt") as file:
        about = file.metadata()
    assert about == {"format": "pt", "token": "<awe-1>", "emotion": "awe", "condition": "sampled, seed 1"}


def test_the_empty_prompt_stays_what_it_was(base, tmp_path):
    """Embeddings of zeros or an encoded empty prompt: a choice of the model's folder that guidance sees."""
    other = shutil.copytree(base, tmp_path / "other")
    edit(other / "model_index.json", force_zeros_for_empty_prompt=False)
    checkpoint = write(tmp_path / "best.ckpt", path=str(other))
    export_diffusers(checkpoint, tmp_path / "out", samples=1)
    assert json.loads((tmp_path / "out/model_index.json").read_text())["force_zeros_for_empty_prompt"] is False
    model, _ = load_model(checkpoint, generation=True)
    ours = model.generate({2: 1.0}, [0])[0]
    theirs = plain(tmp_path / "out", "<anger-0>", "<anger-0>", 0)
    assert psnr(ours, theirs) > 60
    edit(tmp_path / "out/model_index.json", force_zeros_for_empty_prompt=True)
    assert psnr(ours, plain(tmp_path / "out", "<anger-0>", "<anger-0>", 0)) < 50


def script(folder):
    """The lines in a folder's README, as they stand."""
    text = (folder / "README.md").read_text()
    return re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_readme_runs(base, exported, tmp_path, monkeypatch, dtype):
    """Beside the folder, in a fresh namespace; a checkpoint in half precision is exported in float32 and says how."""
    folder = exported
    if dtype != "float32":
        folder = tmp_path / "half"
        export_diffusers(write(tmp_path / "best.ckpt", path=str(base), dtype=dtype), folder, samples=1)
        weights = [load_file(file) for file in folder.glob("*/*.safetensors")]
        assert {value.dtype for state in weights for value in state.values() if value.is_floating_point()} == {
            torch.float32
        }
    lines = script(folder)
    assert ("torch.bfloat16" in lines) == (dtype == "bfloat16")
    assert "uniemo" not in lines
    (tmp_path / "script.py").write_text(lines)
    (tmp_path / exported.name).symlink_to(exported)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("script.py")
    assert np.asarray(Image.open("awe.png")).shape == (32, 32, 3)


def test_half_precision_draws_nearly_the_same(base, tmp_path):
    """The script of a checkpoint in bfloat16 differs by its VAE, which is in bfloat16 there."""
    checkpoint = write(tmp_path / "best.ckpt", path=str(base), dtype="bfloat16")
    export_diffusers(checkpoint, tmp_path / "half", samples=1)
    model, _ = load_model(checkpoint, generation=True)
    ours = model.generate({0: 1.0}, [0])[0]
    lines = script(tmp_path / "half").replace("half", str(tmp_path / "half")).replace("<awe>", "<awe-0>")
    lines = lines.replace("awe.safetensors", "awe-0.safetensors").replace('image.save("awe.png")', "")
    more = 'output_type="pt", generator=torch.Generator().manual_seed(0), guidance_scale'
    lines = lines.replace("guidance_scale", more)
    (tmp_path / "script.py").write_text(lines)
    theirs = runpy.run_path(str(tmp_path / "script.py"))["image"].float()
    assert psnr(ours, theirs) > 40
