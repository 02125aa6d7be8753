"""What every diffusion family does, at tiny size."""

import copy
import json
import shutil

import pytest
import torch
from tiny import tiny_diffusion
from training_steps import condition_of, training_batch

from tests.refusals import one_line_error
from uniemo.errors import UniEmoError
from uniemo.models.diffusion import DiffusionConfig, load_diffusion


@pytest.fixture(params=["diffusion", "sdxl", "sd3", "sana"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture
def model(folder):
    return load_diffusion(DiffusionConfig(path=folder, steps=3))


def test_facts(model):
    assert model.image_size == 32
    assert model.latent_shape == (4, 8, 8)
    for index, (tokenizer, encoder) in enumerate(zip(model.tokenizers, model.text_encoders, strict=True)):
        ids = tokenizer("dark forest", add_special_tokens=False).input_ids
        assert len(ids) > 1
        weight = encoder.get_input_embeddings().weight
        assert model.token_widths[index] == weight.shape[1]
        assert model.token_norms[index] == pytest.approx(float(weight.norm(dim=1).mean()))
        assert torch.allclose(model.token_embedding("dark forest")[index], weight[ids].mean(0))


def test_frozen_and_in_eval_mode_for_ever(model):
    holder = torch.nn.ModuleList([model]).train()
    assert holder.training
    assert not any(module.training for module in model.modules())
    assert not any(parameter.requires_grad for parameter in model.parameters())


def test_condition_is_the_placeholders_embedding(backbone):
    """The hook equals a text encoder whose embedding table holds the condition."""
    condition = condition_of(backbone, 2)
    states = backbone.embed(["a dark {} forest", "{}"], condition).states
    tokenizer = backbone.tokenizers[0]
    for row, prompt in enumerate(["a dark * forest", "*"]):
        encoder = copy.deepcopy(backbone.text_encoders[0])
        with torch.no_grad():
            star = tokenizer("*", add_special_tokens=False).input_ids[0]
            encoder.get_input_embeddings().weight[star] = condition[0][row]
        ids = tokenizer(prompt, padding="max_length", max_length=16, return_tensors="pt").input_ids
        assert torch.allclose(states[row], encoder(ids)[0][0], atol=1e-5)


def test_neighbouring_characters_do_not_change_the_placeholder(model):
    first, second = (model.embed(["{}."], condition_of(model, 1, seed)).states for seed in (0, 9))
    assert not torch.equal(first, second)
    ids, slots, *_ = model._tokenize("a{}, b")[0]
    assert ids[slots].tolist() == model.tokenizers[0]("*", add_special_tokens=False).input_ids


def test_samples_do_not_depend_on_the_batch(model):
    condition, prompts = condition_of(model, 4), ["{}", "a {} room", "dark {}", "{}"]
    latents, noise, timesteps = training_batch()
    states = model.embed(prompts, condition).states
    losses = model.loss(latents, condition, noise, timesteps)
    assert losses.shape == (4,)
    for row in range(4):
        part = slice(row, row + 1)
        own = tuple(c[part] for c in condition)
        assert torch.allclose(states[row], model.embed(prompts[part], own).states[0], atol=1e-5)
        assert torch.allclose(losses[part], model.loss(latents[part], own, noise[part], timesteps[part]), rtol=1e-4)


@pytest.mark.parametrize("dropped", [[False] * 4, [False, True, False, True]])
def test_loss_reaches_the_conditions_that_are_not_dropped_and_no_weight(model, dropped):
    condition, drop = condition_of(model, 4, gradient=True), torch.tensor(dropped)
    latents, noise, timesteps = training_batch()
    model.loss(latents, condition, noise, timesteps, drop=drop).mean().backward()
    for own in condition:
        assert torch.equal(own.grad.abs().sum(1) > 0, ~drop)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_target_follows_the_prediction_type(tmp_path, kind):
    backbone = load_diffusion(DiffusionConfig(path=str(tiny_diffusion(tmp_path / "sd", kind))))
    latents, noise, timesteps = training_batch()
    backbone.unet.forward = lambda x, t, encoder_hidden_states, return_dict: (torch.zeros_like(x),)
    loss = backbone.loss(latents, condition_of(backbone, 4), noise, timesteps)
    share = torch.cumprod(1 - torch.linspace(0.0001**0.5, 0.02**0.5, 100, dtype=torch.float64) ** 2, 0)
    for row, t in enumerate(timesteps.tolist()):
        a, s = share[t] ** 0.5, (1 - share[t]) ** 0.5
        velocity = a * noise[row] - s * latents[row]
        target = {"epsilon": noise[row], "v_prediction": velocity, "sample": latents[row]}[kind]
        assert float(loss[row]) == pytest.approx(float(target.square().mean()), rel=1e-4)


def test_encode_scales_and_samples(model):
    images, noise = torch.rand(2, 3, 32, 32) * 2 - 1, torch.randn(2, *model.latent_shape)
    found = model.vae.encode(images)
    config = model.vae.config
    if "latent_dist" not in found:  # one latent for an image, no distribution
        assert torch.allclose(model.encode(images, noise), found.latent * config.scaling_factor, atol=1e-6)
        return
    posterior, shift = found.latent_dist, config.shift_factor or 0
    assert torch.allclose(model.encode(images), (posterior.mean - shift) * config.scaling_factor, atol=1e-6)
    sample = posterior.mean + posterior.std * noise
    assert torch.allclose(model.encode(images, noise), (sample - shift) * config.scaling_factor, atol=1e-6)


def test_an_image_depends_on_its_seed_only(model, capfd):
    condition, prompts = condition_of(model, 3), ["{}", "a {} room", "{}"]
    whole = model.generate(condition, prompts, [1, 2, 3], guidance=3.0)
    assert whole.shape == (3, 3, 32, 32)
    assert whole.dtype == torch.float32
    assert 0 <= float(whole.min()) <= float(whole.max()) <= 1
    by_two = model.generate(condition, prompts, [1, 2, 3], guidance=3.0, batch_size=2)
    alone = model.generate(tuple(c[1:2] for c in condition), prompts[1:2], [2], guidance=3.0)
    assert torch.allclose(whole, by_two, atol=1e-3)
    assert torch.allclose(whole[1:2], alone, atol=1e-3)
    assert not torch.allclose(whole[0], model.generate(condition, prompts, [7, 2, 3], guidance=3.0)[0], atol=1e-2)
    assert capfd.readouterr() == ("", "")


def test_the_unconditional_branch_never_sees_the_condition(backbone):
    seen = []
    handle = backbone.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    condition = condition_of(backbone, 2)
    backbone.generate(condition, ["{}", "{}"], [0, 1], steps=1, guidance=3.0)
    backbone.generate(condition, ["{}", "{}"], [0, 1], steps=1, guidance=1.0)
    handle.remove()
    assert torch.allclose(seen[0][:2], backbone.embed([""]).states.expand(2, -1, -1), atol=1e-6)
    assert torch.allclose(seen[0][2:], backbone.embed(["{}", "{}"], condition).states, atol=1e-6)
    assert len(seen[-1]) == 2  # without guidance there is no second branch


@pytest.mark.parametrize(
    "scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"]
)
def test_any_scheduler(backbone, scheduler):
    condition = condition_of(backbone, 2)
    images = backbone.generate(condition, ["{}", "{}"], [1, 2], scheduler=scheduler)
    again = backbone.generate((condition[0][1:],), ["{}"], [2], scheduler=scheduler)
    assert torch.allclose(images[1:], again, atol=1e-4)


def test_plain_generation_and_nothing(model):
    assert model.generate(None, ["dark forest"], [0], steps=1).shape == (1, 3, 32, 32)
    assert model.generate(None, [], []).shape == (0, 3, 32, 32)


def test_mistakes_are_named(backbone, diffusion_folder):
    condition = condition_of(backbone, 1)
    with pytest.raises(UniEmoError, match=r"a prompt must hold \{\}"):
        backbone.generate(condition, ["a room"], [0])
    with pytest.raises(UniEmoError, match="within 14 tokens"):
        backbone.embed(["dark " * 20 + "{}"], condition)
    with pytest.raises(UniEmoError, match="as many as seeds"):
        backbone.generate(condition, ["{}"], [0, 1])
    with pytest.raises(UniEmoError, match="scheduler must be"):
        backbone.generate(condition, ["{}"], [0], scheduler="NoScheduler")
    with pytest.raises(UniEmoError, match="placeholder must be one token"):
        load_diffusion(DiffusionConfig(path=diffusion_folder, placeholder="many words"))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_lora_starts_as_nothing_and_learns(model, folder, dtype):
    adapted = load_diffusion(DiffusionConfig(path=folder, lora_rank=2, dtype=dtype))
    latents, noise, timesteps = training_batch()
    condition = condition_of(model, 4)
    loss = adapted.loss(latents, condition, noise, timesteps)
    tolerance = 1e-4 if dtype == "float32" else 0.1
    assert torch.allclose(loss, model.loss(latents, condition, noise, timesteps), rtol=tolerance)
    loss.mean().backward()
    trained = {name: parameter for name, parameter in adapted.named_parameters() if parameter.requires_grad}
    assert trained
    assert all(".lora_" in name and parameter.dtype == torch.float32 for name, parameter in trained.items())
    assert {name for name, p in adapted.named_parameters() if p.grad is not None} == set(trained)
    assert adapted.generate(condition_of(model, 1), ["{}"], [0], steps=1).shape == (1, 3, 32, 32)


def test_checkpointing_changes_nothing_but_memory(model, folder):
    lean = load_diffusion(DiffusionConfig(path=folder, checkpointing=True))
    latents, noise, timesteps = training_batch()
    gradients = []
    for own in (model, lean):
        condition = condition_of(own, 4, gradient=True)
        own.loss(latents, condition, noise, timesteps).mean().backward()
        gradients.append([c.grad for c in condition])
    assert all(torch.allclose(a, b, rtol=1e-3, atol=1e-7) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_keeps_the_vae(model, folder, dtype):
    half = load_diffusion(DiffusionConfig(path=folder, dtype=dtype, steps=2))
    kinds = {name: {p.dtype for p in getattr(half, name).parameters()} for name in ("vae", "unet", "text_encoders")}
    assert kinds == {"vae": {torch.float32}, "unet": {getattr(torch, dtype)}, "text_encoders": {getattr(torch, dtype)}}
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(half.encode(images), model.encode(images))
    latents, noise, timesteps = training_batch()
    condition = condition_of(half, 4, gradient=True)
    loss = half.loss(latents, condition, noise, timesteps)
    assert loss.dtype == torch.float32
    assert torch.allclose(loss, model.loss(latents, condition, noise, timesteps), rtol=0.1)
    loss.mean().backward()
    assert all(torch.isfinite(c.grad).all() and c.grad.any() for c in condition)
    image = half.generate(condition_of(half, 1), ["{}"], [0])
    assert image.dtype == torch.float32
    assert torch.isfinite(image).all()


def test_mixed_precision_stays_out_of_the_vae(model):
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    plain = model.encode(images)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(model.encode(images), plain)


@pytest.mark.parametrize(
    ("kind", "file"),
    [
        ("sd", "model_index.json"),
        ("sd", "unet/diffusion_pytorch_model.safetensors"),
        ("sd", "vae/config.json"),
        ("sd", "text_encoder/model.safetensors"),
        ("sd", "tokenizer/tokenizer.json"),
        ("sd", "scheduler/scheduler_config.json"),
        ("xl", "text_encoder_2/model.safetensors"),
        ("xl", "tokenizer_2/tokenizer.json"),
    ],
)
def test_missing_file_is_named(diffusion_folder, sdxl_folder, tmp_path, kind, file):
    folder = shutil.copytree(diffusion_folder if kind == "sd" else sdxl_folder, tmp_path / "model")
    (folder / file).unlink()
    with pytest.raises(UniEmoError, match=file.split("/")[-1]):
        load_diffusion(DiffusionConfig(path=str(folder)))


def test_broken_folders_are_one_line(diffusion_folder, tmp_path):
    folder = shutil.copytree(diffusion_folder, tmp_path / "sd")
    config = json.loads((folder / "vae/config.json").read_text())
    (folder / "vae/config.json").write_text(json.dumps(config | {"latents_mean": [0.0] * 4}))
    with pytest.raises(UniEmoError, match="latents_mean"):
        load_diffusion(DiffusionConfig(path=str(folder)))
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    with one_line_error("must be readable"):
        load_diffusion(DiffusionConfig(path=str(folder)))
    (folder / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')
    with pytest.raises(UniEmoError, match="must hold a StableDiffusionXLPipeline or StableDiffusionPipeline"):
        load_diffusion(DiffusionConfig(path=str(folder)))
