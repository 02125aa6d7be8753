"""A tiny Stable Diffusion XL folder with random weights: two text encoders of different width, XL's own UNet inputs."""

from pathlib import Path

import torch
from tiny import UNET, VAE, text_config, tiny_tokenizer
from transformers import CLIPTextModel, CLIPTextModelWithProjection

WIDTHS, POOLED = (32, 24), 16  # of the text encoders, of the pooled embedding
TIME_WIDTH = 8  # of each of the six time ids


def tiny_sdxl(folder: str | Path, prediction_type: str = "epsilon", seed: int = 0) -> Path:
    """Write the folder: 32 px images, 4-fold VAE with 4 channels that must stay in float32, 8x8 latents."""
    from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel

    folder = Path(folder)
    tokenizer, tokenizer_2 = tiny_tokenizer(), tiny_tokenizer()
    tokenizer_2.pad_token = "."  # XL's second tokenizer pads with an ordinary token too
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(**VAE, scaling_factor=0.13025, force_upcast=True)
        unet = UNet2DConditionModel(
            **UNET,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2),
            attention_head_dim=(2, 2),
            cross_attention_dim=sum(WIDTHS),
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=TIME_WIDTH,
            projection_class_embeddings_input_dim=POOLED + 6 * TIME_WIDTH,
        )
        kinds = zip((CLIPTextModel, CLIPTextModelWithProjection), WIDTHS, ("quick_gelu", "gelu"), strict=True)
        encoders = [
            kind(text_config(tokenizer, width, 2, projection_dim=POOLED, hidden_act=activation))
            for kind, width, activation in kinds
        ]
        for encoder in encoders:  # fresh ones are so even that no prompt would matter
            for parameter in encoder.parameters():
                if parameter.ndim > 1:
                    parameter.data *= 8
    pipeline = StableDiffusionXLPipeline(
        vae=vae,
        text_encoder=encoders[0],
        text_encoder_2=encoders[1],
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=EulerDiscreteScheduler(
            num_train_timesteps=100,
            beta_schedule="scaled_linear",
            prediction_type=prediction_type,
            timestep_spacing="leading",
            steps_offset=1,
        ),
        add_watermarker=False,
    )
    pipeline.save_pretrained(folder)
    return folder
