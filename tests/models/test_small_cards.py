"""What saves memory changes no result: text encoders on the CPU, offload, slices and tiles, compiled and recomputed."""

import pytest
import torch
from accelerate import cpu_offload
from diffusers import DiffusionPipeline
from training_steps import condition_of, training_batch

from uniemo.errors import UniEmoError
from uniemo.models.diffusion import DiffusionConfig, load_diffusion

PROMPTS = ["a {} room", "{}"]


@pytest.fixture(params=["sdxl", "sd3", "sana"])
def folder(request):
    return request.getfixturevalue(f"{request.param}_folder")


@pytest.fixture
def plain(folder):
    return load_diffusion(DiffusionConfig(path=folder, steps=2))


def error_and_gradients(model):
    """Return the loss of a batch and the gradients of its condition."""
    condition = condition_of(model, 4, gradient=True)
    latents, noise, timesteps = training_batch()
    loss = model.loss(latents, condition, noise, timesteps)
    loss.mean().backward()
    return [loss.detach(), *(own.grad for own in condition)]


def test_text_encoders_on_the_cpu(folder, plain):
    """They are no part of what moves to a device; a plain prompt is encoded once."""
    lean = load_diffusion(DiffusionConfig(path=folder, steps=2, text_on_cpu=True))
    assert not [name for name, _ in lean.named_parameters() if name.startswith("text_encoders")]
    assert not any(parameter.requires_grad for encoder in lean.text_encoders for parameter in encoder.parameters())
    for own, expected in zip(error_and_gradients(lean), error_and_gradients(plain), strict=True):
        assert torch.allclose(own, expected, rtol=1e-4, atol=1e-8)
    condition = condition_of(plain, 2)
    images = plain.generate(condition, PROMPTS, [1, 2], guidance=3.0)
    assert torch.allclose(lean.generate(condition, PROMPTS, [1, 2], guidance=3.0), images, atol=1e-5)
    calls = []
    lean.text_encoders[0].register_forward_hook(lambda *given: calls.append(1))
    latents, noise, timesteps = training_batch()
    prompts = ["dark forest", "park", "dark forest", "park"]
    losses = [lean.loss(latents, None, noise, timesteps, prompts) for _ in range(3)]
    assert len(calls) == 2
    assert torch.allclose(losses[-1], plain.loss(latents, None, noise, timesteps, prompts), rtol=1e-4)


@pytest.mark.parametrize("kind", ["model", "sequential"])
def test_offloaded_networks_generate_the_same(folder, plain, kind, monkeypatch):
    """Here from the CPU to the CPU: the hooks that bring networks to a device run."""

    def layer_by_layer(pipeline, device):  # diffusers calls the CPU "cpu:0" and takes it for another device
        for network in (part for part in pipeline.components.values() if isinstance(part, torch.nn.Module)):
            cpu_offload(network, device, offload_buffers=len(network._parameters) > 0)

    monkeypatch.setattr(DiffusionPipeline, "enable_sequential_cpu_offload", layer_by_layer)
    lean = load_diffusion(DiffusionConfig(path=folder, steps=2))
    lean.offload(kind, torch.device("cpu"))
    place = {parameter.device.type for parameter in lean.unet.parameters()}
    assert place == ({"meta"} if kind == "sequential" else {"cpu"})  # where each layer is fetched when it runs
    assert lean.to(torch.float64).unet.dtype == torch.float32  # nothing else moves or converts them any more
    condition = condition_of(plain, 2)
    for scheduler in ("dpm++", "UniPCMultistepScheduler"):
        options = {"guidance": 3.0, "scheduler": scheduler}
        expected = plain.generate(condition, PROMPTS, [1, 2], **options)
        assert torch.allclose(lean.generate(condition, PROMPTS, [1, 2], **options), expected, atol=1e-5)


def test_slices_and_tiles(folder, plain):
    images = torch.rand(3, 3, 32, 32) * 2 - 1
    sliced = load_diffusion(DiffusionConfig(path=folder, vae_slicing=True))
    seen = []
    sliced.vae.encoder.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    assert torch.allclose(sliced.encode(images), plain.encode(images), atol=1e-5)
    assert seen == [1, 1, 1]
    assert load_diffusion(DiffusionConfig(path=folder, vae_tiling=True)).vae.use_tiling


def test_a_compiled_network_computes_the_same(folder, plain):
    with torch.compiler.set_stance("force_eager"):  # compiling takes minutes
        compiled = load_diffusion(DiffusionConfig(path=folder, compile=True))
        assert compiled.unet._compiled_call_impl is not None
        assert compiled.state_dict().keys() == plain.state_dict().keys()
        for own, expected in zip(error_and_gradients(compiled), error_and_gradients(plain), strict=True):
            assert torch.allclose(own, expected, rtol=1e-4, atol=1e-8)


def test_layers_of_text_encoders_are_recomputed(folder, plain):
    """Each layer runs twice with checkpointing, and still without dropout."""
    for checkpointing, runs in ((False, 1), (True, 2)):
        model = load_diffusion(DiffusionConfig(path=folder, checkpointing=checkpointing)).train()
        for encoder in model.text_encoders:
            calls = []
            norms = [part for name, part in encoder.named_modules() if name.endswith("0.layer_norm1")]
            norms += [part for name, part in encoder.named_modules() if name.endswith("0.layer.0.layer_norm")]
            norms += [part for name, part in encoder.named_modules() if name.endswith("0.input_layernorm")]
            norms[0].register_forward_hook(lambda *given, calls=calls: calls.append(1))
            encoder.calls = calls
            assert not any(part.training for part in encoder.modules() if isinstance(part, torch.nn.Dropout))
        error_and_gradients(model)
        assert [len(encoder.calls) for encoder in model.text_encoders] == [runs] * len(model.text_encoders)


@pytest.mark.parametrize("size", [64, 96])
def test_other_sizes(folder, size):
    model = load_diffusion(DiffusionConfig(path=folder, steps=2, image_size=size))
    assert model.image_size == size
    assert model.latent_shape == (4, size // 4, size // 4)
    assert model.generate(condition_of(model, 1), ["{}"], [0]).shape == (1, 3, size, size)
    assert model.encode(torch.zeros(1, 3, size, size)).shape == (1, *model.latent_shape)


def test_impossible_sizes_are_named(folder):
    with pytest.raises(UniEmoError, match="image_size must be a multiple of 8 for this model; got 36: take 32"):
        load_diffusion(DiffusionConfig(path=folder, image_size=36))
