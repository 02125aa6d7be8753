"""Training of the miniature's diffusion model on latents and captions."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
    UniPCMultistepScheduler,
)
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from uniemo.miniature.recipe.store import EMPTY, Store
from uniemo.miniature.recipe.tokenizer import CONTEXT, OBJECT_TEMPLATES, SCENE_TEMPLATES, TEMPLATES, caption, words
from uniemo.miniature.recipe.training import Progress, cosine_rate
from uniemo.miniature.recipe.vae import small_views
from uniemo.miniature.table import OBJECTS, SCENES

PLACEHOLDER = "*"


def build_unet() -> UNet2DConditionModel:
    """Return an untrained denoiser for 8×8 latents of 8 channels, conditioned on 128-wide text states."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=8,
        out_channels=8,
        block_out_channels=(96, 128),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def text_encoder(clip_folder: Path) -> CLIPTextModel:
    """Return the miniature CLIP's text tower as the transformers model that diffusers expects."""
    state = load_file(clip_folder / "open_clip_model.safetensors")
    layers = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("transformer.resblocks."))
    vocab, width = state["token_embedding.weight"].shape
    config = CLIPTextConfig(
        vocab_size=vocab,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=4,
        max_position_embeddings=CONTEXT,
        hidden_act="gelu",
        projection_dim=128,
        bos_token_id=vocab - 2,
        eos_token_id=vocab - 1,
        pad_token_id=vocab - 1,
    )
    target = {
        "embeddings.token_embedding.weight": state["token_embedding.weight"],
        "embeddings.position_embedding.weight": state["positional_embedding"],
        "final_layer_norm.weight": state["ln_final.weight"],
        "final_layer_norm.bias": state["ln_final.bias"],
    }
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }
    for layer in range(layers):
        ours, theirs = f"transformer.resblocks.{layer}.", f"encoder.layers.{layer}."
        for old, new in names.items():
            for kind in ("weight", "bias"):
                target[f"{theirs}{new}.{kind}"] = state[f"{ours}{old}.{kind}"]
        for kind in ("weight", "bias"):
            parts = state[f"{ours}attn.in_proj_{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                target[f"{theirs}self_attn.{name}_proj.{kind}"] = part
    model = CLIPTextModel(config)
    expected = {key for key in model.state_dict() if "position_ids" not in key}
    prefix = "text_model." if any(key.startswith("text_model.") for key in expected) else ""
    model.load_state_dict({prefix + key: value.float() for key, value in target.items()}, strict=False)
    if expected != {prefix + key for key in target}:
        raise RuntimeError(f"text tower does not fit: {sorted(expected ^ {prefix + key for key in target})[:4]}")
    return model.eval().requires_grad_(False)


@torch.no_grad()
def text_states(encoder: CLIPTextModel, tokenizer: CLIPTokenizer) -> dict[str, Tensor]:
    """Return the text states (…, 16, 128) of every caption that training uses.

    ``pair`` (K, S, O, …) has the templates and, last, the placeholder alone with the sum of the names' token embeddings
    in its place: one token that carries a scene and an object is what the conditions of later stages are, and large
    text encoders know such tokens from their own training. ``scene`` (K, S, …), ``object`` (K, O, …), ``empty`` (…).
    """

    def encode(texts: list[str]) -> Tensor:
        ids = tokenizer(texts, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt").input_ids
        return torch.cat([encoder(part).last_hidden_state for part in ids.split(256)])

    scenes, things = range(len(SCENES)), range(len(OBJECTS))
    pair = torch.stack([torch.stack([encode([caption(t, s, o) for o in things]) for s in scenes]) for t in TEMPLATES])
    table = encoder.get_input_embeddings().weight

    def name_embedding(name: str) -> Tensor:
        return table[tokenizer(words(name), add_special_tokens=False).input_ids].mean(0)

    both = torch.stack([torch.stack([name_embedding(s) + name_embedding(o) for o in OBJECTS]) for s in SCENES])
    ids = tokenizer([PLACEHOLDER], padding="max_length", max_length=CONTEXT, return_tensors="pt").input_ids
    fused = torch.stack([_with_token(encoder, ids, embedding) for embedding in both.flatten(0, 1)])
    pair = torch.cat([pair, fused.view(1, len(SCENES), len(OBJECTS), *fused.shape[1:])])
    return {
        "pair": pair,
        "scene": torch.stack([encode([caption(t, s, 0) for s in scenes]) for t in SCENE_TEMPLATES]),
        "object": torch.stack([encode([caption(t, 0, o) for o in things]) for t in OBJECT_TEMPLATES]),
        "empty": encode([""])[0],
    }


def _with_token(encoder: CLIPTextModel, ids: Tensor, embedding: Tensor) -> Tensor:
    def replace(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        output = output.clone()
        output[:, 1] = embedding
        return output

    handle = encoder.get_input_embeddings().register_forward_hook(replace)
    try:
        return encoder(ids).last_hidden_state[0]
    finally:
        handle.remove()


def _choose_texts(states: dict[str, Tensor], scene: Tensor, thing: Tensor, generator: torch.Generator) -> Tensor:
    """Draw one caption a picture: 76 % name both, 6 % the scene, 6 % the object, 12 % nothing (for guidance)."""
    count = len(scene)
    kind = torch.rand(count, generator=generator)
    known = thing.clamp(max=len(OBJECTS) - 1)
    template = torch.randint(len(states["pair"]), (count,), generator=generator)
    texts = states["pair"][template, scene, known]
    one = torch.randint(2, (count,), generator=generator)
    only_scene = (thing == EMPTY) | (kind < 0.06)
    texts = torch.where(only_scene[:, None, None], states["scene"][one, scene], texts)
    only_object = (thing != EMPTY) & (kind >= 0.06) & (kind < 0.12)
    texts = torch.where(only_object[:, None, None], states["object"][one, known], texts)
    return torch.where((kind > 0.88)[:, None, None], states["empty"], texts)


@torch.no_grad()
def latent_store(vae: AutoencoderKL, store: Store, seed: int, path: Path, views: int) -> tuple[Tensor, Tensor]:
    """Return latents (views·N, 8, 8, 8) of random crops of every painting and the objects' share of each cell."""
    if path.is_file():
        saved = torch.load(path, weights_only=True)
        return saved["latents"].float(), saved["masks"].float()
    latents, masks = [], []
    for view in range(views):
        for index in torch.arange(len(store)).split(500):
            generator = torch.Generator().manual_seed(seed + view * 7919 + int(index[0]))
            images, mask = small_views(store, index, generator)
            latents.append(vae.encode(images).latent_dist.mean.half())
            masks.append(nn.functional.adaptive_avg_pool2d(mask, 8).half())
    torch.save({"latents": torch.cat(latents), "masks": torch.cat(masks)}, path)
    return torch.cat(latents).float(), torch.cat(masks).float()


def train_unet(
    store: Store,
    vae: AutoencoderKL,
    clip_folder: Path,
    folder: Path,
    work: Path,
    steps: int,
    batch: int,
    seed: int,
    rate: float = 1.5e-3,
) -> None:
    """Train the denoiser (v-prediction, min-SNR weights, objects weighing double) and write a Stable Diffusion folder.

    Args:
        store: paintings.
        vae: trained autoencoder.
        clip_folder: the miniature CLIP, whose text tower and tokenizer are used.
        folder: where the diffusers folder goes.
        work: folder for the resumable state.
        steps: of ``batch`` images.
        batch: images a step.
        seed: of weights and random numbers.
        rate: peak learning rate.
    """
    torch.manual_seed(seed)
    latents, masks = latent_store(vae, store, seed, work / "latents.pt", views=2)
    encoder = text_encoder(clip_folder)
    tokenizer = CLIPTokenizer.from_pretrained(clip_folder)
    states = text_states(encoder, tokenizer)
    unet = build_unet().to(memory_format=torch.channels_last)
    average = copy.deepcopy(unet).requires_grad_(False)
    noise_schedule = DDPMScheduler(
        1000, beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False
    )
    signal = noise_schedule.alphas_cumprod / (1 - noise_schedule.alphas_cumprod)
    weight_of_step = signal.clamp(max=5) / (signal + 1)  # min-SNR-5 for v-prediction (Hang et al., 2023)
    optimizer = torch.optim.AdamW(unet.parameters(), lr=rate, weight_decay=1e-2, betas=(0.9, 0.99))
    parts = {"model": unet, "average": average, "optimizer": optimizer}
    progress = Progress("UNet", work / "unet.pt", steps, parts)
    for step in progress:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        cosine_rate(optimizer, step, steps, rate, warmup=500)
        index = torch.randint(len(latents), (batch,), generator=generator)
        painting = index % len(store)
        texts = _choose_texts(states, store.scene[painting], store.object[painting], generator)
        noise = torch.randn(batch, *latents.shape[1:], generator=generator)
        time = torch.randint(1000, (batch,), generator=generator)
        clean = latents[index]
        noisy = noise_schedule.add_noise(clean, noise, time).contiguous(memory_format=torch.channels_last)
        target = noise_schedule.get_velocity(clean, noise, time)
        with torch.autocast("cpu", torch.bfloat16):
            predicted = unet(noisy, time, encoder_hidden_states=texts, return_dict=False)[0]
        error = (predicted.float() - target) ** 2 * (1 + masks[index])
        loss = (error.mean((1, 2, 3)) * weight_of_step[time]).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimizer.step()
        keep = min(0.9995, 1 - 10 / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(unet.parameters()), 1 - keep)
        progress.show(loss=loss.item(), plain=error.mean().item())
    save_pipeline(average, vae, encoder, tokenizer, noise_schedule, folder)


def save_pipeline(
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    encoder: CLIPTextModel,
    tokenizer: CLIPTokenizer,
    schedule: DDPMScheduler,
    folder: Path,
) -> None:
    """Write the parts as a Stable Diffusion folder in float16."""
    scheduler = UniPCMultistepScheduler.from_config(schedule.config)
    pipeline = StableDiffusionPipeline(
        vae,
        encoder,
        tokenizer,
        unet,
        scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(dtype=torch.float16, silence_dtype_warnings=True)
    pipeline.save_pretrained(folder)
    pipeline.to(dtype=torch.float32)
