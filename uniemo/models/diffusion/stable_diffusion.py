"""Stable Diffusion 1 and 2: one CLIP text encoder, whose last hidden states the UNet attends to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from uniemo.models.diffusion.base import DiffusionBackbone, Published
from uniemo.models.diffusion.prompts import EncodedPrompts
from uniemo.models.losses import Condition

# What differs from the defaults of diffusers' and transformers' classes, as in the repositories' own config.json files.
VAE: dict[str, Any] = {
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
}
VIT_L_14: dict[str, Any] = {
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
SCHEDULE: dict[str, Any] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}


TURBO = {"_class_name": "EulerAncestralDiscreteScheduler", "timestep_spacing": "trailing"}
_VIT_H_14 = {  # OpenCLIP's, without its last layer
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
    "projection_dim": 512,
}
_UNET_2 = {"cross_attention_dim": 1024, "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True}
_BASE_2: dict[str, dict[str, Any]] = {"unet": _UNET_2, "text_encoder": _VIT_H_14, "tokenizer": {"pad_token": "!"}}
_VERSION_2 = _BASE_2 | {
    "unet": _UNET_2 | {"sample_size": 96, "upcast_attention": True},
    "scheduler": {"prediction_type": "v_prediction"},
}


class StableDiffusion(DiffusionBackbone):
    """Stable Diffusion 1.x and 2.x, 512 pixels, and 768 of the 2.x that predicts v."""

    pipeline_class = "StableDiffusionPipeline"
    components: ClassVar = {
        "vae": "AutoencoderKL",
        "unet": "UNet2DConditionModel",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
    }
    pipeline_options: ClassVar = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    published: ClassVar = {
        "stable-diffusion-v1-5/stable-diffusion-v1-5": Published("4.3 GB"),
        "runwayml/stable-diffusion-v1-5": Published("4.3 GB"),
        "stabilityai/stable-diffusion-2-1": Published("5.2 GB", _VERSION_2),
        "stabilityai/stable-diffusion-2-1-base": Published("5.2 GB", _BASE_2),
        "stabilityai/sd-turbo": Published("5.2 GB", _BASE_2 | {"scheduler": TURBO}),
    }
    published["sd15"] = published["stable-diffusion-v1-5/stable-diffusion-v1-5"]
    published["sd21"] = published["stabilityai/stable-diffusion-2-1"]
    configs: ClassVar = {
        "vae": VAE | {"sample_size": 512, "scaling_factor": 0.18215},
        "unet": {"sample_size": 64, "cross_attention_dim": 768},
        "text_encoder": VIT_L_14,
        "tokenizer": {"pad_token": "<|endoftext|>"},
        "scheduler": SCHEDULE | {"_class_name": "PNDMScheduler", "skip_prk_steps": True},
    }
    single_file_key = "cond_stage_model.transformer.text_model.final_layer_norm.weight"

    def embed(self, prompts: Sequence[str], condition: Condition | None = None) -> EncodedPrompts:
        """Return the text encoder's last hidden states (B, T, W)."""
        (output,) = self.encode_text(prompts, condition)
        return EncodedPrompts(output[0])

    def denoise(self, noisy: Tensor, timesteps: Tensor, text: EncodedPrompts) -> Tensor:
        """Return the UNet's (B, *latent_shape) prediction for noisy latents at timesteps (B,)."""
        dtype = getattr(torch, self.config.dtype)
        return self.unet(noisy.to(dtype), timesteps, encoder_hidden_states=text.states, return_dict=False)[0]
