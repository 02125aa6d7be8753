import copy
import shutil

import pytest
import torch
from tiny import tiny_diffusion

from uniemo.errors import UniEmoError
from uniemo.models.diffusion import DiffusionConfig, load_diffusion


def condition_of(batch, seed=0):
    return (torch.randn(batch, 32, generator=torch.Generator().manual_seed(seed)) * 0.1,)


def training_batch(batch=4):
    generator = torch.Generator().manual_seed(1)
    latents, noise = torch.randn(2, batch, 4, 8, 8, generator=generator)
    return latents, noise, torch.tensor([3, 40, 77, 99])[:batch]


def test_facts(backbone):
    assert backbone.image_size == 32
    assert backbone.latent_shape == (4, 8, 8)
    assert backbone.token_widths == (32,)
    weight = backbone.text_encoders[0].get_input_embeddings().weight
    assert backbone.token_norms[0] == pytest.approx(float(weight.norm(dim=1).mean()))
    ids = backbone.tokenizers[0]("dark forest", add_special_tokens=False).input_ids
    assert len(ids) > 1
    assert torch.allclose(backbone.token_embedding("dark forest")[0], weight[ids].mean(0))


def test_frozen_and_in_eval_mode_for_ever(backbone):
    backbone.train()
    assert not any(module.training for module in backbone.modules())
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    holder = torch.nn.ModuleList([backbone]).train()
    assert holder.training
    assert not any(module.training for module in backbone.modules())


def test_condition_is_the_placeholders_embedding(backbone):
    """The hook equals a text encoder whose embedding table holds the condition."""
    condition = condition_of(2)
    states = backbone.embed(["a dark {} forest", "{}"], condition).states
    for row, prompt in enumerate(["a dark * forest", "*"]):
        tokenizer = backbone.tokenizers[0]
        encoder = copy.deepcopy(backbone.text_encoders[0])
        with torch.no_grad():
            star = tokenizer("*", add_special_tokens=False).input_ids[0]
            encoder.get_input_embeddings().weight[star] = condition[0][row]
        ids = tokenizer(prompt, padding="max_length", max_length=16, return_tensors="pt").input_ids
        assert torch.allclose(states[row], encoder(ids)[0][0], atol=1e-5)


def test_plain_prompts_are_the_pipelines_own(backbone):
    prompts = ["a dark forest", ""]
    tokenizer = backbone.tokenizers[0]
    ids = tokenizer(prompts, padding="max_length", max_length=16, return_tensors="pt").input_ids
    assert torch.allclose(backbone.embed(prompts).states, backbone.text_encoders[0](ids)[0], atol=1e-6)


def test_neighbouring_characters_do_not_change_the_placeholder(backbone):
    condition = condition_of(1)
    assert not torch.equal(
        backbone.embed(["{}."], condition).states, backbone.embed(["{}."], condition_of(1, 9)).states
    )
    ids, slots = backbone._tokenize("a{}, b")[0]
    star = backbone.tokenizers[0]("*", add_special_tokens=False).input_ids[0]
    assert ids[slots].tolist() == [star]


def test_each_sample_has_its_own_condition_and_prompt(backbone):
    condition = condition_of(3)
    prompts = ["{}", "a {} room", "dark {}"]
    whole = backbone.embed(prompts, condition).states
    for row in range(3):
        alone = backbone.embed(prompts[row : row + 1], (condition[0][row : row + 1],)).states
        assert torch.allclose(whole[row], alone[0], atol=1e-5)


def test_loss_reaches_the_condition_and_no_weight(backbone):
    condition = condition_of(4)[0].requires_grad_()
    latents, noise, timesteps = training_batch()
    loss = backbone.loss(latents, (condition,), noise, timesteps)
    assert loss.shape == (4,)
    loss.mean().backward()
    assert (condition.grad.abs().sum(1) > 0).all()
    assert all(parameter.grad is None for parameter in backbone.parameters())


def test_a_samples_loss_does_not_depend_on_the_batch(backbone):
    condition = condition_of(4)
    latents, noise, timesteps = training_batch()
    whole = backbone.loss(latents, condition, noise, timesteps)
    for row in range(4):
        part = slice(row, row + 1)
        alone = backbone.loss(latents[part], (condition[0][part],), noise[part], timesteps[part])
        assert torch.allclose(whole[part], alone, rtol=1e-4)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_target_follows_the_prediction_type(tmp_path, kind):
    backbone = load_diffusion(DiffusionConfig(path=str(tiny_diffusion(tmp_path / "sd", kind))))
    latents, noise, timesteps = training_batch()
    backbone.unet.forward = lambda x, t, encoder_hidden_states, return_dict: (torch.zeros_like(x),)
    loss = backbone.loss(latents, condition_of(4), noise, timesteps)
    share = torch.cumprod(1 - torch.linspace(0.0001**0.5, 0.02**0.5, 100, dtype=torch.float64) ** 2, 0)
    for row, t in enumerate(timesteps.tolist()):
        a, s = share[t] ** 0.5, (1 - share[t]) ** 0.5
        target = {"epsilon": noise[row], "v_prediction": a * noise[row] - s * latents[row], "sample": latents[row]}[
            kind
        ]
        assert float(loss[row]) == pytest.approx(float(target.square().mean()), rel=1e-4)


def test_dropped_samples_see_the_empty_prompt(backbone):
    condition = condition_of(4)[0].requires_grad_()
    latents, noise, timesteps = training_batch()
    drop = torch.tensor([False, True, False, True])
    backbone.loss(latents, (condition,), noise, timesteps, drop=drop).sum().backward()
    assert torch.equal(condition.grad.abs().sum(1) > 0, ~drop)


def test_encode_scales_and_draws(backbone):
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    posterior = backbone.vae.encode(images).latent_dist
    scale = backbone.vae.config.scaling_factor
    assert torch.allclose(backbone.encode(images), posterior.mean * scale, atol=1e-6)
    noise = torch.randn(2, *backbone.latent_shape)
    assert torch.allclose(backbone.encode(images, noise), (posterior.mean + posterior.std * noise) * scale, atol=1e-6)


def test_an_image_depends_on_its_seed_only(backbone, capfd):
    condition, prompts = condition_of(3), ["{}", "a {} room", "{}"]
    whole = backbone.generate(condition, prompts, [1, 2, 3])
    assert whole.shape == (3, 3, 32, 32)
    assert whole.dtype == torch.float32
    assert float(whole.min()) >= 0
    assert float(whole.max()) <= 1
    by_two = backbone.generate(condition, prompts, [1, 2, 3], batch_size=2)
    alone = backbone.generate((condition[0][1:2],), prompts[1:2], [2])
    assert torch.allclose(whole, by_two, atol=1e-4)
    assert torch.allclose(whole[1:2], alone, atol=1e-4)
    assert not torch.allclose(whole[0], backbone.generate(condition, prompts, [7, 2, 3])[0], atol=1e-2)
    assert capfd.readouterr() == ("", "")


def test_the_unconditional_branch_never_sees_the_condition(backbone):
    seen = []
    handle = backbone.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["encoder_hidden_states"]), with_kwargs=True
    )
    condition = condition_of(2)
    backbone.generate(condition, ["{}", "{}"], [0, 1], steps=1, guidance=3.0)
    backbone.generate(condition, ["{}", "{}"], [0, 1], steps=1, guidance=1.0)
    handle.remove()
    empty = backbone.embed([""]).states
    assert torch.allclose(seen[0][:2], empty.expand(2, -1, -1), atol=1e-6)
    assert torch.allclose(seen[0][2:], backbone.embed(["{}", "{}"], condition).states, atol=1e-6)
    assert len(seen[-1]) == 2  # without guidance there is no second branch


@pytest.mark.parametrize(
    "scheduler", ["DDIMScheduler", "EulerAncestralDiscreteScheduler", "DPMSolverMultistepScheduler"]
)
def test_any_scheduler(backbone, scheduler):
    images = backbone.generate(condition_of(2), ["{}", "{}"], [1, 2], scheduler=scheduler)
    again = backbone.generate((condition_of(2)[0][1:],), ["{}"], [2], scheduler=scheduler)
    assert torch.allclose(images[1:], again, atol=1e-4)


def test_plain_generation_and_nothing(backbone):
    assert backbone.generate(None, ["dark forest"], [0]).shape == (1, 3, 32, 32)
    assert backbone.generate(None, [], []).shape == (0, 3, 32, 32)


def test_mistakes_are_named(backbone, diffusion_folder):
    condition = condition_of(1)
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


@pytest.mark.parametrize(
    "file",
    [
        "model_index.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "scheduler/scheduler_config.json",
    ],
)
def test_missing_file_is_named(diffusion_folder, tmp_path, file):
    folder = tmp_path / "sd"
    shutil.copytree(diffusion_folder, folder)
    (folder / file).unlink()
    with pytest.raises(UniEmoError, match=file.split("/")[-1]):
        load_diffusion(DiffusionConfig(path=str(folder)))


def test_lora_starts_as_nothing_and_learns(backbone, diffusion_folder):
    adapted = load_diffusion(DiffusionConfig(path=diffusion_folder, lora_rank=2))
    latents, noise, timesteps = training_batch()
    condition = condition_of(4)
    loss = adapted.loss(latents, condition, noise, timesteps)
    assert torch.allclose(loss, backbone.loss(latents, condition, noise, timesteps), rtol=1e-4)
    trained = [name for name, parameter in adapted.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".lora_" in name for name in trained)
    loss.mean().backward()
    assert {name for name, p in adapted.named_parameters() if p.grad is not None} == set(trained)
    assert adapted.generate(condition, ["{}"] * 4, [0, 1, 2, 3], steps=1).shape == (4, 3, 32, 32)


def test_broken_folders_are_one_line(diffusion_folder, tmp_path):
    folder = tmp_path / "sd"
    shutil.copytree(diffusion_folder, folder)
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"broken")
    with pytest.raises(UniEmoError, match="must be readable") as error:
        load_diffusion(DiffusionConfig(path=str(folder)))
    assert "\n" not in str(error.value)
    (folder / "model_index.json").write_text('{"_class_name": "OtherPipeline"}')
    with pytest.raises(UniEmoError, match="must hold a StableDiffusionXLPipeline or StableDiffusionPipeline"):
        load_diffusion(DiffusionConfig(path=str(folder)))
