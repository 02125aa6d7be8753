"""Stable Diffusion 3 and 3.5: two CLIP text encoders and T5, a transformer over text and image, flow matching."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from uniemo.models.diffusion.base import DiffusionBackbone, Published
from uniemo.models.diffusion.prompts import EncodedPrompts
from uniemo.models.diffusion.sdxl import BIG_G_14
from uniemo.models.diffusion.stable_diffusion import VAE, VIT_L_14
from uniemo.models.losses import Condition

T5_XXL = {  # version 1.1
    "vocab_size": 32128,
    "d_model": 4096,
    "d_kv": 64,
    "d_ff": 10240,
    "num_layers": 24,
    "num_heads": 64,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
_LARGE = {"num_attention_heads": 38, "num_layers": 38, "caption_projection_dim": 2432, "pos_embed_max_size": 192}


class StableDiffusion3(DiffusionBackbone):
    """Stable Diffusion 3.5, 1024 pixels; medium with 2.5 billion weights in its transformer, large with 8.1.

    Each of the three text encoders has a condition of its own. The transformer attends to the CLIPs' states, side by
    side and filled up with zeros to T5's width, and behind them T5's; both CLIPs' pooled embeddings join the timestep.
    """

    pipeline_class = "StableDiffusion3Pipeline"
    components: ClassVar = {
        "vae": "AutoencoderKL",
        "transformer": "SD3Transformer2DModel",
        "text_encoder": "CLIPTextModelWithProjection",
        "tokenizer": "CLIPTokenizer",
        "text_encoder_2": "CLIPTextModelWithProjection",
        "tokenizer_2": "CLIPTokenizer",
        "text_encoder_3": "T5EncoderModel",
        "tokenizer_3": "T5TokenizerFast",
    }
    denoiser = "transformer"
    published: ClassVar = {
        "stabilityai/stable-diffusion-3.5-medium": Published("16 GB"),
        "stabilityai/stable-diffusion-3.5-large": Published(
            "28 GB", {"transformer": _LARGE | {"dual_attention_layers": []}}
        ),
    }
    published["sd35"] = published["stabilityai/stable-diffusion-3.5-medium"]
    configs: ClassVar = {
        "vae": VAE
        | {
            "sample_size": 1024,
            "latent_channels": 16,
            "scaling_factor": 1.5305,
            "shift_factor": 0.0609,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        },
        "transformer": {
            "sample_size": 128,
            "patch_size": 2,
            "in_channels": 16,
            "out_channels": 16,
            "num_layers": 24,
            "num_attention_heads": 24,
            "attention_head_dim": 64,
            "dual_attention_layers": list(range(13)),
            "joint_attention_dim": 4096,
            "caption_projection_dim": 1536,
            "pooled_projection_dim": 2048,
            "pos_embed_max_size": 384,
            "qk_norm": "rms_norm",
        },
        "text_encoder": VIT_L_14,
        "text_encoder_2": BIG_G_14,
        "text_encoder_3": T5_XXL,
        "tokenizer": {"pad_token": "<|endoftext|>"},
        "tokenizer_2": {"pad_token": "!"},
        "tokenizer_3": {"pad_token": "<|endoftext|>", "length": 512, "size": 32128},  # a stand-in
        "scheduler": {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0},
    }
    lengths = (None, None, 256)  # of T5, as the pipeline takes by itself

    def embed(self, prompts: Sequence[str], condition: Condition | None = None) -> EncodedPrompts:
        """Return CLIP's and then T5's states (B, T1 + T3, W3), and both CLIPs' pooled embeddings (B, P1 + P2)."""
        *clips, t5 = self.encode_text(prompts, condition, output_hidden_states=True)
        states = torch.cat([output.hidden_states[-2] for output in clips], dim=-1)  # (B, T1, W1 + W2)
        last = t5.last_hidden_state  # (B, T3, W3)
        states = F.pad(states, (0, last.shape[-1] - states.shape[-1]))  # (B, T1, W3)
        return EncodedPrompts(torch.cat([states, last], dim=1), torch.cat([output[0] for output in clips], dim=-1))

    def denoise(self, noisy: Tensor, timesteps: Tensor, text: EncodedPrompts) -> Tensor:
        """Return the transformer's (B, *latent_shape) velocity for noisy latents at its own timesteps (B,)."""
        return self.unet(
            noisy.to(getattr(torch, self.config.dtype)),
            encoder_hidden_states=text.states,
            pooled_projections=text.pooled,
            timestep=timesteps,
            return_dict=False,
        )[0]
