"""Sizes of the published Stable Diffusion models by hub name, for dry runs and single files: no download needed.

Numbers are those of the repositories' own config.json files.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from uniemo.errors import UniEmoError

SD15, SDXL = "stable-diffusion-v1-5/stable-diffusion-v1-5", "stabilityai/stable-diffusion-xl-base-1.0"
SIZES = {SD15: "4.3 GB", SDXL: "13.9 GB"}  # of the files in float32
SEED = 23372  # of random weights: a checkpoint finds the same ones again

_VAE = {
    "_class_name": "AutoencoderKL",
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "act_fn": "silu",
}
_TEXT = {  # OpenAI's ViT-L/14
    "architectures": ["CLIPTextModel"],
    "model_type": "clip_text_model",
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "bos_token_id": 0,
    "eos_token_id": 2,  # transformers takes the highest id for the end then, as OpenAI does
    "pad_token_id": 1,
}
_SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
_UNET = {
    "_class_name": "UNet2DConditionModel",
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-5,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "center_input_sample": False,
    "downsample_padding": 1,
    "mid_block_scale_factor": 1,
}
_SHAPES: dict[str, dict[str, dict[str, Any]]] = {
    SD15: {
        "unet": _UNET
        | {
            "sample_size": 64,
            "block_out_channels": [320, 640, 1280, 1280],
            "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
            "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        "vae": _VAE | {"sample_size": 512, "scaling_factor": 0.18215},
        "text_encoder": _TEXT,
        "scheduler": _SCHEDULE | {"_class_name": "PNDMScheduler"},
    },
    SDXL: {
        "unet": _UNET
        | {
            "sample_size": 128,
            "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, 2, 10],
            "cross_attention_dim": 2048,
            "attention_head_dim": [5, 10, 20],
            "use_linear_projection": True,
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        "vae": _VAE | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
        "text_encoder": _TEXT,
        "text_encoder_2": _TEXT  # OpenCLIP's ViT-bigG-14
        | {
            "architectures": ["CLIPTextModelWithProjection"],
            "hidden_size": 1280,
            "intermediate_size": 5120,
            "num_hidden_layers": 32,
            "num_attention_heads": 20,
            "hidden_act": "gelu",
            "projection_dim": 1280,
        },
        "scheduler": _SCHEDULE
        | {
            "_class_name": "EulerDiscreteScheduler",
            "prediction_type": "epsilon",
            "timestep_spacing": "leading",
            "interpolation_type": "linear",
            "use_karras_sigmas": False,
        },
    },
}
_ALIASES = {"sd15": SD15, "sdxl": SDXL, "runwayml/stable-diffusion-v1-5": SD15}
_PADDING = {"tokenizer": "<|endoftext|>", "tokenizer_2": "!"}


def known_shape(name: str) -> str | None:
    """Return the hub name whose sizes are known, None for another name; ``sd15`` and ``sdxl`` are short for two."""
    name = _ALIASES.get(name, name)
    return name if name in _SHAPES else None


def repository_files(name: str) -> tuple[list[str], list[str]]:
    """Return the files of a Stable Diffusion repository that are needed, and those that are taken where it has them.

    Of an unknown repository those of version 1 are needed, and XL's second text encoder is taken too.
    """
    known = known_shape(name)
    files, more = ["model_index.json", "scheduler/scheduler_config.json"], []
    for part in _SHAPES[SDXL]:
        if part.startswith("text_encoder"):
            tokenizer = part.replace("text_encoder", "tokenizer")
            own = [f"{tokenizer}/vocab.json|{tokenizer}/tokenizer.json"]
            own += [f"{part}/config.json", f"{part}/model.safetensors"]
            extra = ("merges.txt", "tokenizer_config.json", "special_tokens_map.json")
            if part in _SHAPES[known or SD15]:
                files += own
                more += [f"{tokenizer}/{file}" for file in extra]
            elif known is None:
                more += [path for entry in own for path in entry.split("|")]
                more += [f"{tokenizer}/{file}" for file in extra]
        elif part in ("unet", "vae"):
            files += [f"{part}/config.json", f"{part}/diffusion_pytorch_model.safetensors"]
    return files, more


def write_configs(name: str, folder: Path) -> None:
    """Write a known model's configurations and OpenAI's tokenizer as a folder in diffusers' layout, without weights."""
    parts = _SHAPES[name]
    index: dict[str, Any] = {"_class_name": "StableDiffusionXLPipeline" if name == SDXL else "StableDiffusionPipeline"}
    for part, config in parts.items():
        (folder / part).mkdir(parents=True)
        file = "scheduler_config.json" if part == "scheduler" else "config.json"
        (folder / part / file).write_text(json.dumps(config, indent=1))
        library = "transformers" if part.startswith("text_encoder") else "diffusers"
        index[part] = [library, config.get("_class_name") or config["architectures"][0]]
        if part.startswith("text_encoder"):
            tokenizer = part.replace("text_encoder", "tokenizer")
            openai_tokenizer(_PADDING[tokenizer]).save_pretrained(folder / tokenizer)
            index[tokenizer] = ["transformers", "CLIPTokenizer"]
    if name == SDXL:
        index["force_zeros_for_empty_prompt"] = True
    (folder / "model_index.json").write_text(json.dumps(index, indent=1))


def openai_tokenizer(padding: str) -> Any:  # noqa: ANN401 - transformers is imported late
    """Return OpenAI's CLIP tokenizer in transformers' form, made of the vocabulary that comes with open_clip."""
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    simple = SimpleTokenizer()
    names = {simple.sot_token_id: "<|startoftext|>", simple.eot_token_id: "<|endoftext|>"}
    vocabulary = {names.get(index, token): index for token, index in simple.encoder.items()}
    return CLIPTokenizer(vocab=vocabulary, merges=list(simple.bpe_ranks), model_max_length=77, pad_token=padding)


def random_parts(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Build a folder's networks with random weights, always the same; no weight file is looked at.

    Args:
        folder: in diffusers' layout; configurations, tokenizers and scheduler are read.
        dtype: of all weights but those of a VAE that must stay in float32.

    Returns:
        The pipeline's parts by name.

    Raises:
        UniEmoError: a configuration that makes no network.
    """
    import diffusers
    import transformers

    kinds = {"text_encoder": "CLIPTextModel", "text_encoder_2": "CLIPTextModelWithProjection"}
    parts: dict[str, Any] = {}
    before = torch.get_default_dtype()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            vae = diffusers.AutoencoderKL
            parts["vae"] = vae.from_config(vae.load_config(str(folder / "vae")))
            torch.set_default_dtype(dtype)  # half precision is never held twice
            unet = diffusers.UNet2DConditionModel
            parts["unet"] = unet.from_config(unet.load_config(str(folder / "unet")))
            for part, kind in kinds.items():
                if (folder / part).is_dir():
                    config = transformers.CLIPTextConfig.from_pretrained(str(folder / part))
                    parts[part] = getattr(transformers, kind)(config)
                    tokenizer = part.replace("text_encoder", "tokenizer")
                    parts[tokenizer] = transformers.CLIPTokenizer.from_pretrained(str(folder / tokenizer))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UniEmoError(
            f"diffusion.path must hold readable configurations; {str(folder)!r} does not "
            f"({str(error).splitlines()[0]}), copy its files there anew"
        ) from error
    finally:
        torch.set_default_dtype(before)
    scheduler = json.loads((folder / "scheduler" / "scheduler_config.json").read_text())
    parts["scheduler"] = getattr(diffusers, scheduler["_class_name"]).from_config(scheduler)
    return parts
