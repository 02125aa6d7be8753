"""Stable Diffusion XL at tiny size: what its UNet sees, and diffusers' own pipeline as the reference."""

import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLPipeline, UniPCMultistepScheduler
from tiny_sdxl import WIDTHS
from training_steps import condition_of, training_batch

from uniemo.cli import main
from uniemo.models.diffusion import DiffusionConfig, load_diffusion


@pytest.fixture
def backbone(sdxl_folder):
    return load_diffusion(DiffusionConfig(path=sdxl_folder, steps=3))


@pytest.fixture
def reference(sdxl_folder):
    """Diffusers' pipeline, with a function that writes a condition over the placeholder's rows."""
    pipeline = StableDiffusionXLPipeline.from_pretrained(sdxl_folder, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)

    def learn(condition, row=0):
        encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
        for tokenizer, encoder, own in zip(
            (pipeline.tokenizer, pipeline.tokenizer_2), encoders, condition, strict=True
        ):
            star = tokenizer("*", add_special_tokens=False).input_ids[0]
            with torch.no_grad():
                encoder.get_input_embeddings().weight[star] = own[row]

    return pipeline, learn


def test_conditioning_is_the_pipelines_own(backbone, reference):
    """Both hidden states and the pooled embedding equal those of encoders whose tables hold the condition."""
    pipeline, learn = reference
    condition = condition_of(backbone, 2)
    prompts = ["a dark {} forest", "{}"]
    ours = backbone.embed(prompts, condition)
    for row, prompt in enumerate(prompts):
        learn(condition, row)
        states, _, pooled, _ = pipeline.encode_prompt(prompt.replace("{}", "*"), do_classifier_free_guidance=False)
        assert torch.allclose(ours.states[row], states[0], atol=1e-5)
        assert torch.allclose(ours.pooled[row], pooled[0], atol=1e-5)
    assert not torch.allclose(ours.pooled[0], ours.pooled[1], atol=1e-2)


@pytest.mark.parametrize(
    ("guidance", "negative", "scheduler"),
    [(1.0, "", DDIMScheduler), (5.0, "", UniPCMultistepScheduler), (5.0, "dark sewer", UniPCMultistepScheduler)],
)
def test_same_image_as_the_pipeline(backbone, reference, guidance, negative, scheduler):
    """The same token embeddings, noise, scheduler and guidance give diffusers' own image."""
    pipeline, learn = reference
    pipeline.scheduler = scheduler.from_config(pipeline.scheduler.config)
    condition = condition_of(backbone, 2, seed=3)
    ours = backbone.generate(
        condition,
        ["a {} room", "{}"],
        [5, 6],
        guidance=guidance,
        negative_prompt=negative,
        scheduler=scheduler.__name__,
        batch_size=1,  # the same sums in the same order: unequal rounding grows with guidance
    )
    for row, (prompt, seed) in enumerate([("a * room", 5), ("*", 6)]):
        learn(condition, row)
        theirs = pipeline(
            prompt,
            negative_prompt=negative or None,
            num_inference_steps=3,
            guidance_scale=guidance,
            generator=[torch.Generator().manual_seed(seed)],
            output_type="pt",
        ).images
        assert torch.allclose(ours[row], theirs[0], atol=1e-5)
    assert not torch.allclose(ours[0], ours[1], atol=1e-2)


def test_loss_by_hand(backbone, reference):
    pipeline, learn = reference
    latents, noise, timesteps = training_batch(1)
    condition = condition_of(backbone, 1)
    learn(condition)
    states, _, pooled, _ = pipeline.encode_prompt("*", do_classifier_free_guidance=False)
    share = torch.cumprod(1 - torch.linspace(0.0001**0.5, 0.02**0.5, 100, dtype=torch.float64) ** 2, 0)[timesteps]
    noisy = (share**0.5).float() * latents + ((1 - share) ** 0.5).float() * noise
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[32.0, 32, 0, 0, 32, 32]])}
    with torch.no_grad():
        predicted = pipeline.unet(noisy, timesteps, encoder_hidden_states=states, added_cond_kwargs=added).sample
    loss = backbone.loss(latents, condition, noise, timesteps)
    assert float(loss) == pytest.approx(float((predicted - noise).square().mean()), rel=1e-4)


def test_dropped_samples_see_zeros(backbone):
    seen = []
    handle = backbone.unet.register_forward_pre_hook(lambda module, args, kwargs: seen.append(kwargs), with_kwargs=True)
    latents, noise, timesteps = training_batch(2)
    backbone.loss(latents, condition_of(backbone, 2), noise, timesteps, drop=torch.tensor([True, False]))
    handle.remove()
    pooled, states = seen[0]["added_cond_kwargs"]["text_embeds"], seen[0]["encoder_hidden_states"]
    assert not pooled[0].any()
    assert not states[0].any()
    assert pooled[1].any()
    assert seen[0]["added_cond_kwargs"]["time_ids"].tolist() == [[32, 32, 0, 0, 32, 32]] * 2


def test_a_model_has_a_mapper_and_a_prototype_for_each_text_encoder(build, images, emotion, sdxl_folder):
    model = build(diffusion=DiffusionConfig(path=sdxl_folder, steps=2))
    condition = model.condition(model.features(images), emotion)
    assert [own.shape for own in condition] == [(6, width) for width in WIDTHS]
    assert [own.shape[1] for own in model.condition_loss.prototypes] == list(WIDTHS)
    state = model.trained_state_dict()
    for index, width in enumerate(WIDTHS):
        assert state[f"fusion.mappers.cls.{index}.2.weight"].shape[0] == width
    assert not any(name.startswith("diffusion.") for name in state)


def test_train_and_generate_from_the_checkpoint(sdxl_folder, tmp_path, monkeypatch):
    from tests.tiny_runs import assets, recipe

    monkeypatch.setenv("UNIEMO_CACHE", str(assets() / "cache"))
    monkeypatch.chdir(tmp_path)
    options = ["--model.diffusion.path", sdxl_folder, "--trainer.limit_train_batches", "1"]
    assert main([*recipe("joint"), *options, "--run_dir", "run", "--generation_metrics.every_n_epochs", "0"]) == 0
    args = ["generate", "--ckpt", "run/best.ckpt", "--emotion", "awe", "--num", "2", "--steps", "2"]
    assert main([*args, "--prompt", "a {} room", "--out", "out"]) == 0
    assert len(list((tmp_path / "out/awe").glob("*.png"))) == 2
