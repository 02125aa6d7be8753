"""Export: nothing is lost, and plain diffusers generates the same image, for Stable Diffusion 1 and XL."""

import json
import re
import runpy
import shutil
from types import SimpleNamespace

import diffusers
import numpy as np
import pytest
import torch
from convert.joint_files import GUIDANCE, STEPS, write
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file
from tiny import VOCABULARY
from tiny_sdxl import WIDTHS, tiny_sdxl

from tests.refusals import refused
from uniemo.checkpoint import load_model, read_checkpoint
from uniemo.cli import main
from uniemo.convert.export import export_diffusers
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

KEYS = ("clip_l", "clip_g")


def edit(path, **values):
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    """A tiny XL whose text encoders pool at the highest id, as the published ones do."""
    folder = tiny_sdxl(tmp_path_factory.mktemp("sdxl"))
    for encoder in ("text_encoder", "text_encoder_2"):
        edit(folder / encoder / "config.json", eos_token_id=2)
    return folder


def exported_by_command(checkpoint):
    folder = checkpoint.parent / "emotions"
    args = ["convert", "--to", "diffusers", str(checkpoint), "--output", str(folder), "--draws", "2"]
    assert main(args) == 0
    return SimpleNamespace(checkpoint=checkpoint, folder=folder)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return exported_by_command(write(tmp_path_factory.mktemp("sd") / "best.ckpt"))


@pytest.fixture(scope="module")
def large(sdxl, tmp_path_factory):
    return exported_by_command(write(tmp_path_factory.mktemp("xl") / "best.ckpt", path=str(sdxl), lora_rank=2))


@pytest.fixture(params=["small", "large"])
def exported(request):
    return request.getfixturevalue(request.param)


def plain(folder, word, prompt, seed, scheduler=None, **options):
    """What a script with diffusers alone generates, (3, H, W) in [0, 1]."""
    file = folder / f"conditions/{word[1:-1]}.safetensors"
    if "XL" in json.loads((folder / "model_index.json").read_text())["_class_name"]:
        pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(folder, add_watermarker=False)
        parts = ((pipeline.text_encoder, pipeline.tokenizer), (pipeline.text_encoder_2, pipeline.tokenizer_2))
        for key, (encoder, tokenizer) in zip(KEYS, parts, strict=True):
            pipeline.load_textual_inversion(load_file(file)[key], token=word, text_encoder=encoder, tokenizer=tokenizer)
    else:
        pipeline = diffusers.StableDiffusionPipeline.from_pretrained(folder)
        pipeline.load_textual_inversion(str(file))
    pipeline.set_progress_bar_config(disable=True)
    if scheduler is not None:
        pipeline.scheduler = getattr(diffusers, scheduler).from_config(pipeline.scheduler.config)
    settings = {"num_inference_steps": STEPS, "guidance_scale": GUIDANCE, "output_type": "pt", **options}
    return pipeline(prompt, generator=torch.Generator().manual_seed(seed), **settings).images[0]


def psnr(a, b):
    return float(-10 * (a - b).square().mean().log10())


def script(folder):
    """The lines in a folder's README, as they stand."""
    return re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL).group(1)


def test_safetensors(small, tmp_path, capsys):
    output = tmp_path / "best.safetensors"
    assert main(["convert", "--to", "safetensors", str(small.checkpoint), "--output", str(output)]) == 0
    content, info = read_checkpoint(small.checkpoint)
    written = load_file(output)
    assert {f"model.{name}" for name in written} == set(content["state_dict"])
    assert all(torch.equal(value, content["state_dict"][f"model.{name}"]) for name, value in written.items())
    with safe_open(output, "pt") as file:
        about = json.loads(file.metadata()["uniemo"])
    assert about["stage"] == "joint"
    assert about["model"] == info.model
    assert len(written["space.mixture_emotion"]) >= len(info.vocabulary.emotions)
    load_model(small.checkpoint, generation=True)[0].load_trained_state_dict(written)
    assert f"wrote {len(written)} tensors" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("prompt", "scheduler"),
    [("{}", None), ("a {} room", "EulerDiscreteScheduler")],
)
def test_plain_diffusers_generates_the_same_image(exported, prompt, scheduler):
    """A sampled condition's word, with its seed, is ``uniemo generate --seed``; adapters are in the UNet."""
    model, _ = load_model(exported.checkpoint, generation=True)
    ours = model.generate({1: 1.0}, [1], prompts=prompt, scheduler=scheduler)[0]
    theirs = plain(exported.folder, "<fear-1>", prompt.replace("{}", "<fear-1>"), 1, scheduler)
    assert psnr(ours, theirs) > 60
    other = plain(exported.folder, "<fear-0>", prompt.replace("{}", "<fear-0>"), 1, scheduler)
    assert psnr(ours, other) < 50


def test_negative_prompt_and_mean(exported):
    model, _ = load_model(exported.checkpoint, generation=True)
    mean = tuple(own.mean(dim=0, keepdim=True) for own in model.sample_condition({0: 1.0}, list(range(64))))
    state = load_file(exported.folder / "conditions/awe.safetensors")
    keys = KEYS if len(mean) > 1 else ("<awe>",)
    assert all(torch.allclose(state[key], own, atol=1e-6) for key, own in zip(keys, mean, strict=True))
    ours = model.diffusion.generate(mean, ["a {} room"], [5], negative_prompt="dark sewer")[0]
    assert psnr(ours, plain(exported.folder, "<awe>", "a <awe> room", 5, negative_prompt="dark sewer")) > 60


def test_tokens(exported, large):
    names = {path.stem for path in (exported.folder / "conditions").iterdir()}
    assert names == {f"{name}{end}" for name in VOCABULARY.emotions for end in ("", "-0", "-1")}
    state = load_file(large.folder / "conditions/awe.safetensors")
    assert [tuple(state[key].shape) for key in KEYS] == [(1, width) for width in WIDTHS]
    with safe_open(exported.folder / "conditions/awe-1.safetensors", "pt") as file:
        about = file.metadata()
    assert about == {"format": "pt", "token": "<awe-1>", "emotion": "awe", "condition": "sampled, seed 1"}


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


def test_the_empty_prompt_stays_what_it_was(sdxl, tmp_path):
    """Embeddings of zeros or an encoded empty prompt: a choice of the model's folder that guidance sees."""
    other = shutil.copytree(sdxl, tmp_path / "other")
    edit(other / "model_index.json", force_zeros_for_empty_prompt=False)
    checkpoint = write(tmp_path / "best.ckpt", path=str(other))
    export_diffusers(checkpoint, tmp_path / "out", samples=1)
    assert json.loads((tmp_path / "out/model_index.json").read_text())["force_zeros_for_empty_prompt"] is False
    ours = load_model(checkpoint, generation=True)[0].generate({2: 1.0}, [0])[0]
    assert psnr(ours, plain(tmp_path / "out", "<anger-0>", "<anger-0>", 0)) > 60
    edit(tmp_path / "out/model_index.json", force_zeros_for_empty_prompt=True)
    assert psnr(ours, plain(tmp_path / "out", "<anger-0>", "<anger-0>", 0)) < 50


def test_readme_runs(exported, tmp_path, monkeypatch):
    """The lines in the folder's README, as they stand, in a fresh namespace beside the folder."""
    lines = script(exported.folder)
    assert "uniemo" not in lines
    assert "bfloat16" not in lines
    (tmp_path / "script.py").write_text(lines)
    (tmp_path / exported.folder.name).symlink_to(exported.folder)
    monkeypatch.chdir(tmp_path)
    runpy.run_path("script.py")
    assert np.asarray(Image.open("awe.png")).shape == (32, 32, 3)
    text = (exported.folder / "README.md").read_text()
    assert "| `<anger-1>` | anger | sampled, seed 1 | conditions/anger-1.safetensors |" in text


def test_half_precision_generates_nearly_the_same(sdxl, tmp_path, monkeypatch):
    """Exported in float32; the script computes in bfloat16, its VAE too."""
    checkpoint = write(tmp_path / "best.ckpt", path=str(sdxl), dtype="bfloat16")
    export_diffusers(checkpoint, tmp_path / "half", samples=1)
    weights = [value for file in (tmp_path / "half").glob("*/*.safetensors") for value in load_file(file).values()]
    assert {value.dtype for value in weights if value.is_floating_point()} == {torch.float32}
    ours = load_model(checkpoint, generation=True)[0].generate({0: 1.0}, [0])[0]
    lines = script(tmp_path / "half").replace("<awe>", "<awe-0>").replace("awe.safetensors", "awe-0.safetensors")
    assert "torch.bfloat16" in lines
    more = 'output_type="pt", generator=torch.Generator().manual_seed(0), guidance_scale'
    lines = lines.replace("guidance_scale", more).replace('image.save("awe.png")', "")
    (tmp_path / "script.py").write_text(lines)
    monkeypatch.chdir(tmp_path)
    assert psnr(ours, runpy.run_path("script.py")["image"].float()) > 40


def test_tokens_that_meet(tmp_path):
    checkpoint = write(tmp_path / "best.ckpt", vocabulary=Vocabulary(("joy", "joy 0"), (), ()))
    with pytest.raises(UniEmoError, match="two give <joy-0>: take --draws 0"):
        export_diffusers(checkpoint, tmp_path / "out", samples=1)
    assert export_diffusers(checkpoint, tmp_path / "out", samples=0) == ["<joy>", "<joy-0>"]


def test_overwrite(small, tmp_path, capsys):
    args = ["convert", "--to", "diffusers", str(small.checkpoint), "--draws", "0", "--output"]
    assert "add --overwrite" in refused(capsys, *args, str(small.folder))
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    assert "earlier export" in refused(capsys, *args, str(mine), "--overwrite")
    assert (mine / "thesis.txt").is_file()
    first = tmp_path / "first"
    assert main([*args, str(first)]) == 0
    (first / "old").write_text("x")
    assert main([*args, str(first), "--overwrite"]) == 0
    assert not (first / "old").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_an_understanding_checkpoint_has_no_conditions(tmp_path, capsys):
    checkpoint = write(tmp_path / "best.ckpt", stage="understanding")
    assert main(["convert", "--to", "diffusers", str(checkpoint), "--output", str(tmp_path / "x")]) == 2
    error = capsys.readouterr().err
    assert "must be of stage joint or feedback" in error
    assert error.count("\n") == 1
