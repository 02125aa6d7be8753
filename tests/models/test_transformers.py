"""Stable Diffusion 3 and Sana at tiny size: diffusers' own pipelines as the reference, flow matching by hand."""

import inspect
import math

import pytest
import torch
from diffusers import (
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    SanaPipeline,
    StableDiffusion3Pipeline,
    UniPCMultistepScheduler,
)
from training_steps import condition_of, training_batch

from uniemo.cli import main
from uniemo.errors import UniEmoError
from uniemo.models.diffusion import DiffusionConfig, load_diffusion

FLOW = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": 3.0}
OURS = ["a dark {} forest", "{}"]


@pytest.fixture(params=["sd3", "sana"])
def kind(request):
    return request.param


@pytest.fixture
def folder(kind, request):
    return request.getfixturevalue(f"{kind}_folder")


@pytest.fixture
def backbone(folder):
    return load_diffusion(DiffusionConfig(path=folder, steps=3))


@pytest.fixture
def reference(folder, kind):
    """Diffusers' pipeline, and a function that writes a condition over the placeholder's rows of its tables."""
    pipeline = (StableDiffusion3Pipeline if kind == "sd3" else SanaPipeline).from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    ends = ["", "_2", "_3"] if kind == "sd3" else [""]

    def learn(condition, row=0):
        for end, own in zip(ends, condition, strict=True):
            tokenizer, encoder = getattr(pipeline, f"tokenizer{end}"), getattr(pipeline, f"text_encoder{end}")
            for text in ("*", "a *"):  # with and without a space before it
                star = tokenizer(text, add_special_tokens=False).input_ids[-1]
                with torch.no_grad():
                    encoder.get_input_embeddings().weight[star] = own[row]

    return pipeline, learn


def encode(pipeline, prompt):
    """Return what the pipeline makes of a prompt."""
    if isinstance(pipeline, StableDiffusion3Pipeline):
        states, _, pooled, _ = pipeline.encode_prompt(prompt, None, None, do_classifier_free_guidance=False)
        return {"states": states, "pooled": pooled}
    text = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    states, mask, _, _ = pipeline.encode_prompt(prompt, False, complex_human_instruction=text)
    return {"states": states, "mask": mask}


def test_conditioning_is_the_pipelines_own(backbone, reference):
    """What the network takes equals that of encoders whose tables hold the condition."""
    pipeline, learn = reference
    condition = condition_of(backbone, 2)
    found = backbone.embed(OURS, condition)
    for row, prompt in enumerate(OURS):
        learn(condition, row)
        for name, expected in encode(pipeline, prompt.replace("{}", "*")).items():
            own = getattr(found, name)[row]
            if name == "states" and found.mask is not None:  # what padding says is not looked at
                own, expected = own[found.mask[row]], expected[:, found.mask[row]]
            assert torch.allclose(own.float(), expected[0].float(), atol=1e-5)
    assert not torch.allclose(found.states[0], found.states[1], atol=1e-2)


@pytest.mark.parametrize(
    ("guidance", "negative", "name", "scheduler"),
    [
        (1.0, "", "FlowMatchEulerDiscreteScheduler", lambda c: FlowMatchEulerDiscreteScheduler(100, shift=3.0)),
        (4.5, "dark sewer", "dpm++", lambda c: DPMSolverMultistepScheduler(100, **FLOW)),
        (4.5, "", "UniPCMultistepScheduler", lambda c: UniPCMultistepScheduler(100, **FLOW)),
    ],
)
def test_same_image_as_the_pipeline(backbone, reference, kind, guidance, negative, name, scheduler):
    """The same token embeddings, noise, scheduler and guidance give diffusers' own image."""
    pipeline, learn = reference
    pipeline.scheduler = scheduler(pipeline.scheduler.config)
    condition = condition_of(backbone, 2, seed=3)
    options = {"guidance": guidance, "negative_prompt": negative, "scheduler": name, "batch_size": 1}
    ours = backbone.generate(condition, OURS, [5, 6], **options)
    extra = {"use_resolution_binning": False} if kind == "sana" else {}
    for row, seed in enumerate((5, 6)):
        learn(condition, row)
        theirs = pipeline(
            OURS[row].replace("{}", "*"),
            negative_prompt=negative,
            num_inference_steps=3,
            guidance_scale=guidance,
            height=32,
            width=32,
            generator=[torch.Generator().manual_seed(seed)],
            output_type="pt",
            **extra,
        ).images
        assert torch.allclose(ours[row], theirs[0], atol=1e-5)
    assert not torch.allclose(ours[0], ours[1], atol=1e-2)


def test_loss_by_hand(backbone):
    """The velocity from latents to noise, at the logit-normal's quantiles, shifted threefold."""
    latents, noise, timesteps = training_batch()
    condition = condition_of(backbone, 4)
    text = backbone.embed(["{}"] * 4, condition)
    losses = backbone.loss(latents, condition, noise, timesteps)
    for row, t in enumerate(timesteps.tolist()):
        level = 1 / (1 + math.exp(-math.sqrt(2) * torch.erfinv(torch.tensor(2 * (t + 0.5) / 100 - 1.0)).item()))
        sigma = 3 * level / (1 + 2 * level)
        noisy = (1 - sigma) * latents + sigma * noise
        with torch.no_grad():
            found = backbone.denoise(noisy, torch.full((4,), 100 * sigma), text)[row]
        assert float(losses[row]) == pytest.approx(float((found - noise[row] + latents[row]).square().mean()), rel=1e-3)


def test_noise_levels_are_those_of_diffusers_training_scripts(backbone):
    """They take the scheduler's own sigma at a place that is distributed as the logistic of a normal number."""
    sigmas = FlowMatchEulerDiscreteScheduler(1000, shift=3.0).sigmas
    normal = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    theirs = sigmas[(normal.sigmoid() * 1000).long()].quantile(torch.tensor([0.1, 0.5, 0.9]))
    ours = backbone.noise.sigmas.quantile(torch.tensor([0.1, 0.5, 0.9]))
    assert torch.allclose(ours, theirs, atol=5e-3)


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "lcm"])
def test_schedulers_for_other_models_are_refused(folder, scheduler):
    with pytest.raises(UniEmoError, match="scheduler must"):
        load_diffusion(DiffusionConfig(path=folder, scheduler=scheduler))


def test_flow_schedulers_are_refused_elsewhere(diffusion_folder):
    with pytest.raises(UniEmoError, match="must not be one for flow matching"):
        load_diffusion(DiffusionConfig(path=diffusion_folder, scheduler="FlowMatchEulerDiscreteScheduler"))


def test_names_are_summed_up(backbone):
    """Each encoder gives one vector for a name, also those without a pooled output, whatever the padding."""
    short, both = backbone.text_features(["dark forest"]), backbone.text_features(["awe", "dark forest"])
    assert len(short) == len(backbone.token_widths)
    for one, two in zip(short, both, strict=True):
        assert torch.allclose(one[0], two[1], atol=1e-5)
        assert not torch.allclose(two[0], two[1], atol=1e-3)


def test_train_generate_and_test(folder, tmp_path, monkeypatch):
    from tests.tiny_runs import assets, recipe

    monkeypatch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
    monkeypatch.chdir(tmp_path)
    options = ["--model.diffusion.path", folder, "--trainer.limit_train_batches", "1"]
    assert main([*recipe("joint"), *options, "--run_dir", "run", "--generation_metrics.every_n_epochs", "0"]) == 0
    args = ["generate", "--ckpt", "run/best.ckpt", "--emotion", "awe", "--num", "2", "--steps", "2"]
    assert main([*args, "--prompt", "a {} room", "--scheduler", "dpm++", "--out", "out"]) == 0
    assert len(list((tmp_path / "out/awe").glob("*.png"))) == 2
    assert main(["test", "--ckpt", "run/best.ckpt", "--generation_metrics.test_images", "2"]) == 0
