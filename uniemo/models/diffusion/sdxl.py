"""Stable Diffusion XL: two text encoders, a pooled embedding, and the image's sizes as inputs of the UNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from uniemo.models.diffusion.base import DiffusionBackbone, Published
from uniemo.models.diffusion.config import DiffusionConfig
from uniemo.models.diffusion.prompts import EncodedPrompts
from uniemo.models.diffusion.stable_diffusion import SCHEDULE, TURBO, VAE, VIT_L_14
from uniemo.models.losses import Condition

BIG_G_14: dict[str, Any] = VIT_L_14 | {  # OpenCLIP's ViT-bigG-14
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "hidden_act": "gelu",
    "projection_dim": 1280,
}


class StableDiffusionXL(DiffusionBackbone):
    """Stable Diffusion XL, 1024 pixels, and its Turbo form, 512.

    Each text encoder has a condition of its own. The UNet takes two things more: the second encoder's pooled embedding,
    and original size, crop and target size of the image. Images are taken as what they are: of the model's own size,
    not cropped. An empty prompt means embeddings of zeros where the model's files say so.
    """

    pipeline_class = "StableDiffusionXLPipeline"
    components: ClassVar = {
        "vae": "AutoencoderKL",
        "unet": "UNet2DConditionModel",
        "text_encoder": "CLIPTextModel",
        "tokenizer": "CLIPTokenizer",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "tokenizer_2": "CLIPTokenizer",
    }
    pipeline_options: ClassVar = {"feature_extractor": None, "image_encoder": None, "add_watermarker": False}
    published: ClassVar = {
        "stabilityai/stable-diffusion-xl-base-1.0": Published("13.9 GB"),
        "stabilityai/sdxl-turbo": Published("13.9 GB", {"unet": {"sample_size": 64}, "scheduler": TURBO}),
    }
    published["sdxl"] = published["stabilityai/stable-diffusion-xl-base-1.0"]
    configs: ClassVar = {
        "vae": VAE | {"sample_size": 1024, "scaling_factor": 0.13025},
        "unet": {
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
        "text_encoder": VIT_L_14,
        "text_encoder_2": BIG_G_14,
        "tokenizer": {"pad_token": "<|endoftext|>"},
        "tokenizer_2": {"pad_token": "!"},
        "scheduler": SCHEDULE | {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"},
    }
    single_file_key = "conditioner.embedders.1.model.ln_final.weight"

    def __init__(self, config: DiffusionConfig, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is imported late
        super().__init__(config, pipeline)
        self.zeros_for_empty = bool(pipeline.config.force_zeros_for_empty_prompt)
        self.options["force_zeros_for_empty_prompt"] = self.zeros_for_empty

    def embed(self, prompts: Sequence[str], condition: Condition | None = None) -> EncodedPrompts:
        """Return both encoders' states before the last layer (B, T, W1 + W2), and the pooled embedding (B, P)."""
        outputs = self.encode_text(prompts, condition, output_hidden_states=True)
        states = torch.cat([output.hidden_states[-2] for output in outputs], dim=-1)
        return EncodedPrompts(states, outputs[-1][0])

    def unconditional(self, negative_prompt: str = "") -> EncodedPrompts:
        """Embed the prompt of the unconditional branch, for one image."""
        text = self.embed([negative_prompt])
        if negative_prompt or not self.zeros_for_empty or text.pooled is None:
            return text
        return EncodedPrompts(torch.zeros_like(text.states), torch.zeros_like(text.pooled))

    def denoise(self, noisy: Tensor, timesteps: Tensor, text: EncodedPrompts) -> Tensor:
        """Return the UNet's (B, *latent_shape) prediction for noisy latents at timesteps (B,)."""
        size = self.image_size
        sizes = noisy.new_tensor([[size, size, 0, 0, size, size]])  # original, crop, target
        sizes = sizes.to(text.states.dtype).expand(len(noisy), -1)  # (B, 6)
        return self.unet(
            noisy.to(getattr(torch, self.config.dtype)),
            timesteps,
            encoder_hidden_states=text.states,
            added_cond_kwargs={"text_embeds": text.pooled, "time_ids": sizes},
            return_dict=False,
        )[0]
