"""Schedulers by short names, no guidance, published LoRAs: images in a few steps, diffusers' own as the reference."""

import json

import diffusers
import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from training_steps import condition_of

from tests.refusals import one_line_error, refused
from uniemo.cli import main
from uniemo.errors import UniEmoError
from uniemo.models.diffusion import DiffusionConfig, load_diffusion
from uniemo.models.diffusion.schedulers import make_scheduler

PLAIN = "dark forest"


@pytest.fixture(scope="session")
def adapter(sdxl_folder, tmp_path_factory):
    """A LoRA file as others publish it."""
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(sdxl_folder, add_watermarker=False)
    torch.manual_seed(0)
    config = LoraConfig(r=2, lora_alpha=2, init_lora_weights=False, target_modules=["to_q", "to_k", "to_v"])
    pipeline.unet.add_adapter(config)
    folder = tmp_path_factory.mktemp("adapter")
    layers = get_peft_model_state_dict(pipeline.unet)
    diffusers.StableDiffusionXLPipeline.save_lora_weights(folder, unet_lora_layers=layers)
    (file,) = folder.glob("*.safetensors")
    return file


def plain_image(pipeline, steps, guidance):
    pipeline.set_progress_bar_config(disable=True)
    generator = [torch.Generator().manual_seed(5)]
    options = {"guidance_scale": guidance, "generator": generator, "output_type": "pt"}
    return pipeline(PLAIN, num_inference_steps=steps, **options).images[0]


@pytest.mark.parametrize(
    ("name", "scheduler", "options"),
    [
        ("lcm", diffusers.LCMScheduler, {}),
        ("turbo", diffusers.EulerAncestralDiscreteScheduler, {"timestep_spacing": "trailing"}),
        ("lightning", diffusers.EulerDiscreteScheduler, {"timestep_spacing": "trailing"}),
        ("dpm++", diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++"}),
        ("dpm++ karras", diffusers.DPMSolverMultistepScheduler, {"use_karras_sigmas": True}),
        ("dpm++ sde", diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "sde-dpmsolver++"}),
    ],
)
def test_few_steps_without_guidance(sdxl_folder, name, scheduler, options):
    """The same image as diffusers' pipeline with that scheduler, and the network runs once in each step."""
    backbone = load_diffusion(DiffusionConfig(path=sdxl_folder, scheduler=name, steps=2, guidance=0.0))
    seen = []
    handle = backbone.unet.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    ours = backbone.generate(None, [PLAIN], [5])[0]
    handle.remove()
    assert seen == [1, 1]
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(sdxl_folder, add_watermarker=False)
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config, **options)
    assert torch.allclose(ours, plain_image(pipeline, 2, 0.0), atol=1e-5)


def test_noise_of_a_step_is_the_images_own(sdxl_folder):
    backbone = load_diffusion(DiffusionConfig(path=sdxl_folder, scheduler="lcm", steps=3, guidance=0.0))
    condition = condition_of(backbone, 2)
    both = backbone.generate(condition, ["{}", "a {}"], [1, 2])
    alone = backbone.generate(tuple(own[1:] for own in condition), ["a {}"], [2])
    assert torch.allclose(both[1:], alone, atol=1e-4)


def test_unknown_names_and_conflicts_are_one_line():
    with pytest.raises(UniEmoError, match=r"or dpm\+\+, .* got 'dpm': try dpm\+\+"):
        make_scheduler("dpm", {})
    with one_line_error("must fit the model's own"):
        make_scheduler("dpm++ karras", {"use_exponential_sigmas": True})


def test_a_published_lora_is_merged(sdxl_folder, adapter):
    """The image of diffusers' pipeline with the LoRA loaded; no adapter is left to learn."""
    backbone = load_diffusion(DiffusionConfig(path=sdxl_folder, adapter=str(adapter), steps=2, guidance=0.0))
    assert not [name for name, _ in backbone.named_parameters() if "lora" in name]
    pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained(sdxl_folder, add_watermarker=False)
    pipeline.scheduler = diffusers.UniPCMultistepScheduler.from_config(pipeline.scheduler.config)
    without = plain_image(pipeline, 2, 0.0)
    pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    expected = plain_image(pipeline, 2, 0.0)
    assert torch.allclose(backbone.generate(None, [PLAIN], [5])[0], expected, atol=1e-5)
    assert not torch.allclose(without, expected, atol=1e-3)


def test_wrong_adapters_are_named(sdxl_folder, diffusion_folder, adapter, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"broken")
    for path, message in (("none.safetensors", "must be an existing"), (tmp_path / "x.safetensors", "must be a LoRA")):
        with one_line_error(message):
            load_diffusion(DiffusionConfig(path=sdxl_folder, adapter=str(path)))
    with one_line_error("must be a LoRA of this diffusion model"):
        load_diffusion(DiffusionConfig(path=diffusion_folder, adapter=str(adapter)))


def test_few_steps_by_command(sdxl_folder, adapter, tmp_path, monkeypatch, capsys):
    """A checkpoint of the plain model generates in few steps with a LoRA; the index says so."""
    from convert.joint_files import write

    monkeypatch.chdir(tmp_path)
    path = write(tmp_path / "best.ckpt", path=sdxl_folder)
    args = ["generate", "--ckpt", str(path), "--emotion", "awe", "--num", "2", "--device", "cpu"]
    few = ["--scheduler", "lcm", "--steps", "1", "--guidance", "0", "--adapter", str(adapter)]
    assert main([*args, *few, "--out", "out"]) == 0
    row = json.loads((tmp_path / "out/index.jsonl").read_text().splitlines()[0])
    assert (row["scheduler"], row["steps"], row["guidance"], row["adapter"]) == ("lcm", 1, 0.0, adapter.name)
    assert "must be an existing .safetensors" in refused(capsys, *args, "--adapter", "none.bin", "--out", "b")
    assert "--offload must come with a GPU" in refused(capsys, *args, "--offload", "model", "--out", "b")
