"""Export: nothing is lost, and plain diffusers draws the same image."""

import json
import re
import runpy

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import VOCABULARY

from uniemo import __version__
from uniemo.checkpoint import load_model, plain_config, read_checkpoint
from uniemo.cli import main
from uniemo.convert.export import export_diffusers
from uniemo.models.attributes import AttributeConfig
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpaceConfig
from uniemo.models.encoder import EncoderConfig
from uniemo.models.fusion import FusionConfig
from uniemo.models.head import HeadConfig
from uniemo.models.losses import ConditionLossConfig
from uniemo.models.uniemo import GenerationParts, UniEmoModel

STEPS, GUIDANCE = 3, 4.0


def write(path, stage="joint", **diffusion):
    """A checkpoint of the joint stage on the miniature, untrained, with an emotion space and any adapters moved."""
    torch.manual_seed(0)
    parts = {
        "encoder": EncoderConfig(query_length=2),
        "head": HeadConfig(hidden=8),
        "attributes": AttributeConfig(),
        "fusion": FusionConfig(),
        "condition": ConditionLossConfig(),
        "diffusion": DiffusionConfig(steps=STEPS, guidance=GUIDANCE, scheduler="DDIMScheduler", **diffusion),
        "space": EmotionSpaceConfig(),
    }
    generation = GenerationParts(parts["fusion"], parts["diffusion"], parts["space"], parts["condition"])
    model = UniEmoModel.build(VOCABULARY, parts["encoder"], parts["head"], generation=generation)
    width = model.encoder.width
    model.space.fit({kind: torch.randn(30, width) for kind in model.space.kinds}, torch.arange(30) % 3)
    for name, value in model.diffusion.named_parameters():
        if "lora_up" in name:
            torch.nn.init.normal_(value, std=0.05)
    about = {
        "version": __version__,
        "stage": stage,
        "vocabulary": VOCABULARY.to_dict(),
        "model": {name: plain_config(part) for name, part in parts.items()},
        "backbones": {},
        "config": "",
    }
    state = {f"model.{name}": value for name, value in model.trained_state_dict().items()}
    torch.save({"state_dict": state, "uniemo": about}, path)
    return path


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


def test_adapters_are_merged(tmp_path):
    checkpoint = write(tmp_path / "best.ckpt", lora_rank=2)
    export_diffusers(checkpoint, tmp_path / "out", draws=1)
    model, _ = load_model(checkpoint, generation=True)
    ours = model.generate({2: 1.0}, [0])[0]
    assert torch.allclose(ours, plain(tmp_path / "out", "<anger-0>", "<anger-0>", 0), atol=1e-5)


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
    assert "| `<anger-1>` | anger | drawn, seed 1 | conditions/anger-1.safetensors |" in text


def test_words(exported):
    names = {path.stem for path in (exported / "conditions").iterdir()}
    assert names == {f"{name}{end}" for name in VOCABULARY.emotions for end in ("", "-0", "-1")}


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
