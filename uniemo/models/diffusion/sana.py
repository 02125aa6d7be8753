"""Sana: a language model as text encoder, a transformer with linear attention, latents of 32 pixels, flow matching."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from uniemo.models.diffusion.base import DiffusionBackbone, Published
from uniemo.models.diffusion.config import DiffusionConfig
from uniemo.models.diffusion.prompts import EncodedPrompts, PromptTokenizer
from uniemo.models.losses import Condition

_BLOCKS = ["ResBlock"] * 3 + ["EfficientViTBlock"] * 3
_SCALES: list[list[int]] = [[], [], [], [5], [5], [5]]
_LARGE = {
    "num_layers": 20,
    "num_attention_heads": 70,
    "num_cross_attention_heads": 20,
    "cross_attention_head_dim": 112,
    "cross_attention_dim": 2240,
}


class Sana(DiffusionBackbone):
    """Sana with 0.6 or 1.6 billion weights in its transformer, 1024 pixels (512 in files of their own).

    The text encoder is Gemma 2 with 2 billion weights, a decoder: the condition reaches its own token and those behind
    it. Prompts come behind the instruction that Sana was trained with, of which the transformer sees the first token
    alone; the unconditional branch has none. The VAE gives one latent for an image, no distribution.
    """

    pipeline_class = "SanaPipeline"
    components: ClassVar = {
        "vae": "AutoencoderDC",
        "transformer": "SanaTransformer2DModel",
        "text_encoder": "Gemma2Model",
        "tokenizer": "GemmaTokenizerFast",
    }
    denoiser = "transformer"
    published: ClassVar = {
        "Efficient-Large-Model/Sana_600M_1024px_diffusers": Published("9 GB"),
        "Efficient-Large-Model/Sana_600M_512px_diffusers": Published("9 GB", {"transformer": {"sample_size": 16}}),
        "Efficient-Large-Model/Sana_1600M_1024px_diffusers": Published("13 GB", {"transformer": _LARGE}),
        "Efficient-Large-Model/Sana_1600M_512px_diffusers": Published(
            "13 GB", {"transformer": _LARGE | {"sample_size": 16}}
        ),
    }
    published["sana"] = published["Efficient-Large-Model/Sana_600M_1024px_diffusers"]
    configs: ClassVar = {
        "vae": {
            "latent_channels": 32,
            "encoder_block_types": _BLOCKS,
            "decoder_block_types": _BLOCKS,
            "encoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
            "decoder_block_out_channels": [128, 256, 512, 512, 1024, 1024],
            "encoder_layers_per_block": [2, 2, 2, 3, 3, 3],
            "decoder_layers_per_block": [3] * 6,
            "encoder_qkv_multiscales": _SCALES,
            "decoder_qkv_multiscales": _SCALES,
            "downsample_block_type": "Conv",
            "upsample_block_type": "interpolate",
            "scaling_factor": 0.41407,
        },
        "transformer": {
            "sample_size": 32,
            "patch_size": 1,
            "in_channels": 32,
            "out_channels": 32,
            "num_layers": 28,
            "num_attention_heads": 36,
            "attention_head_dim": 32,
            "num_cross_attention_heads": 16,
            "cross_attention_head_dim": 72,
            "cross_attention_dim": 1152,
            "caption_channels": 2304,
        },
        "text_encoder": {"vocab_size": 256000},
        "tokenizer": {"pad_token": "<|endoftext|>"},  # a stand-in
        "scheduler": {
            "_class_name": "DPMSolverMultistepScheduler",
            "num_train_timesteps": 1000,
            "prediction_type": "flow_prediction",
            "use_flow_sigmas": True,
            "flow_shift": 3.0,
        },
    }
    lengths = (300,)  # as the pipeline takes by itself, without the instruction
    call_options: ClassVar = {"negative_prompt": None, "use_resolution_binning": False}

    def __init__(self, config: DiffusionConfig, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is imported late
        super().__init__(config, pipeline)
        call = inspect.signature(type(pipeline).__call__)
        instruction = "\n".join(call.parameters["complex_human_instruction"].default)
        length = len(self.tokenizers[0].encode(instruction)) + self.lengths[0] - 2
        self._instructed = PromptTokenizer(self.tokenizers, config.placeholder, (length,), instruction)

    def embed(self, prompts: Sequence[str], condition: Condition | None = None) -> EncodedPrompts:
        """Return Gemma's states of the first token and of the prompt's (B, T, W), and which are padding."""
        return self._embed(self._instructed, [prompt.lower().strip() for prompt in prompts], condition)

    def unconditional(self, negative_prompt: str = "") -> EncodedPrompts:
        """Embed the prompt of the unconditional branch, for one image."""
        return self._embed(self._tokenize, [negative_prompt.lower().strip()], None)

    def _embed(self, tokenize: PromptTokenizer, prompts: list[str], condition: Condition | None) -> EncodedPrompts:
        (output,) = self.encode_text(prompts, condition, tokenize, masked=True)
        states = output.last_hidden_state  # (B, instruction + T, W)
        mask = torch.stack([tokenize(prompt)[0].mask for prompt in prompts]).to(states.device)
        kept = [0, *range(1 - self.lengths[0], 0)]
        return EncodedPrompts(states[:, kept], mask=mask[:, kept])

    @torch.no_grad()
    def posterior(self, images: Tensor) -> Tensor:
        """Return the VAE's latents and deviations of zero, unscaled: (B, 2, *latent_shape) float32."""
        with self._vae_precision():
            latents = self.vae.encode(images.to(self.vae.dtype)).latent.float()
        return torch.stack([latents, torch.zeros_like(latents)], dim=1)

    def denoise(self, noisy: Tensor, timesteps: Tensor, text: EncodedPrompts) -> Tensor:
        """Return the transformer's (B, *latent_shape) velocity for noisy latents at its own timesteps (B,)."""
        return self.unet(
            noisy.to(getattr(torch, self.config.dtype)),
            encoder_hidden_states=text.states,
            encoder_attention_mask=text.mask,
            timestep=timesteps * self.unet.config.timestep_scale,
            return_dict=False,
        )[0]
