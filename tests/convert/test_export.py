"""Export: nothing is lost, and plain diffusers draws the same image."""

import json
import re
import runpy

import numpy as np
import pytest
import torch
from convert.joint_files import GUIDANCE, STEPS, write
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import VOCABULARY

from uniemo.checkpoint import load_model, read_checkpoint
from uniemo.cli import main
from uniemo.convert.export import export_diffusers
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return write(tmp_path_factory.mktemp("runs") / "best.ckpt")


@pytest.fixture(scope="module")
def exported(checkpoint):
    folder = checkpoint.parent / "emotions"
    words = ["convert", "--to", "diffusers", str(checkpoint), "--output", str(folder), "--draws", "2"]
    assert main(words) == 0
    return folder


def test_safetensors(checkpoint, tmp_path, capsys):
    output = tmp_path / "best.safetensors"
    assert main(["convert", "--to", "safetensors", str(checkpoint), "--output", str(output)]) == 0
    content, info = read_checkpoint(checkpoint)
    written = load_file(output)
    assert {f"model.{name}" for name in written} == set(content["state_dict"])
    assert all(torch.equal(value, content["state_dict"][f"model.{name}"]) for name, value in written.items())
    with safe_open(output, "pt") as file:
        about = json.loads(file.metadata()["uniemo"])
    assert about["stage"] == "joint"
    assert about["model"] == info.model
    model, _ = load_model(checkpoint, generation=True)
    model.load_trained_state_dict(written)
    assert f"wrote {len(written)} tensors" in capsys.readouterr().out


def plain(folder, word, prompt, seed, scheduler=None):
    """What a script with diffusers alone draws, (3, H, W) in [0, 1]."""
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.load_textual_inversion(str(folder / "conditions" / f"{word[1:-1]}.safetensors"))
    if scheduler is not None:
        pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    return pipeline(
        prompt,
        num_inference_steps=STEPS,
        guidance_scale=GUIDANCE,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    ).images[0]


@pytest.mark.parametrize("prompt", ["{}", "a {} room", "{} , beach"])
@pytest.mark.parametrize("scheduler", [None, "UniPCMultistepScheduler"])
def test_plain_diffusers_draws_the_same_image(checkpoint, exported, prompt, scheduler):
    """A drawn condition's word, with its seed, is ``uniemo generate --seed``."""
    model, _ = load_model(checkpoint, generation=True)
    ours = model.generate({1: 1.0}, [1], prompts=prompt, scheduler=scheduler)[0]
    theirs = plain(exported, "<fear-1>", prompt.replace("{}", "<fear-1>"), 1, scheduler)
    assert torch.allclose(ours, theirs, atol=1e-5)
    other = plain(exported, "<fear-0>", prompt.replace("{}", "<fear-0>"), 1, scheduler)
    assert not torch.allclose(ours, other, atol=1e-3)


def test_mean_condition(checkpoint, exported):
    model, _ = load_model(checkpoint, generation=True)
    mean = model.sample_condition({0: 1.0}, list(range(64)))[0].mean(dim=0, keepdim=True)
    assert torch.allclose(load_file(exported / "conditions" / "awe.safetensors")["<awe>"], mean, atol=1e-6)
    ours = model.diffusion.generate((mean,), ["a {} room"], [5])[0]
    assert torch.allclose(ours, plain(exported, "<awe>", "a <awe> room", 5), atol=1e-5)


@pytest.mark.parametrize(("dtype", "adapters"), [("float32", 0.05), ("bfloat16", 1e-4)])
def test_adapters_are_merged(tmp_path, dtype, adapters):
    """In float32 whatever the checkpoint's precision: bfloat16 would round updates this small away."""
    checkpoint = write(tmp_path / "best.ckpt", lora_rank=2, dtype=dtype, adapters=adapters)
    export_diffusers(checkpoint, tmp_path / "out", samples=1)
    model, _ = load_model(checkpoint, generation=True, dtype="float32")
    ours = model.generate({2: 1.0}, [0])[0]
    assert torch.allclose(ours, plain(tmp_path / "out", "<anger-0>", "<anger-0>", 0), atol=1e-5)
    name = "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"
    layer = model.diffusion.unet.get_submodule(name)
    weight = load_file(tmp_path / "out/unet/diffusion_pytorch_model.safetensors")[f"{name}.weight"]
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    assert torch.allclose(weight - layer.base_layer.weight, up @ down, atol=1e-7)
    assert up.any()


def test_readme_runs(exported, tmp_path, monkeypatch):
    """The lines in the folder's README, as they stand, in a fresh namespace beside the folder."""
    text = (exported / "README.md").read_text()
    lines = re.search(r"```python\n(.*?)```", text, re.DOTALL).group(1)
    assert "uniemo" not in lines
    (tmp_path / "script.py").write_text(lines)
    (tmp_path / exported.name).symlink_to(exported)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("script.py")
    from PIL import Image

    assert np.asarray(Image.open("awe.png")).shape == (32, 32, 3)
    assert "| `<anger-1>` | anger | sampled, seed 1 | conditions/anger-1.safetensors |" in text


def test_words(exported):
    names = {path.stem for path in (exported / "conditions").iterdir()}
    assert names == {f"{name}{end}" for name in VOCABULARY.emotions for end in ("", "-0", "-1")}


def test_words_that_meet(tmp_path):
    checkpoint = write(tmp_path / "best.ckpt", vocabulary=Vocabulary(("joy", "joy 0"), (), ()))
    with pytest.raises(UniEmoError, match="two give <joy-0>: take --draws 0"):
        export_diffusers(checkpoint, tmp_path / "out", samples=1)
    assert export_diffusers(checkpoint, tmp_path / "out", samples=0) == ["<joy>", "<joy-0>"]


def test_overwrite(checkpoint, exported, tmp_path, capsys):
    words = ["convert", "--to", "diffusers", str(checkpoint), "--draws", "0", "--output"]
    assert main([*words, str(exported)]) == 2
    assert "add --overwrite" in capsys.readouterr().err
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    assert main([*words, str(mine), "--overwrite"]) == 2
    assert "earlier export" in capsys.readouterr().err
    assert (mine / "thesis.txt").is_file()
    first = tmp_path / "first"
    assert main([*words, str(first)]) == 0
    (first / "old").write_text("x")
    assert main([*words, str(first), "--overwrite"]) == 0
    assert not (first / "old").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_understanding_checkpoint_has_no_words(tmp_path, capsys):
    checkpoint = write(tmp_path / "best.ckpt", stage="understanding")
    assert main(["convert", "--to", "diffusers", str(checkpoint), "--output", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "must be of stage joint or feedback" in error
    assert error.count("\n") == 1
