"""Tiny Stable Diffusion 3 and Sana folders with random weights: real classes, tokenizers and schedulers."""

import inspect
import json
from pathlib import Path

import torch
from diffusers import SanaPipeline
from tiny import CORPUS, VAE, text_config, tiny_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import (
    CLIPTextModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789*.,-_'\"()>:"
T5_LENGTH = 24  # tokens of a prompt


def t5_tokenizer() -> T5TokenizerFast:
    """Return a T5 tokenizer that knows the corpus' words, ``*`` among them, and letters."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(f"▁{word}", -3.0) for word in CORPUS] + [(letter, -9.0) for letter in LETTERS if letter not in CORPUS]
    return T5TokenizerFast(vocab=pieces, extra_ids=0, model_max_length=T5_LENGTH)


def gemma_tokenizer() -> GemmaTokenizerFast:
    """Train a Gemma tokenizer on the corpus and Sana's instruction; it sets no end token."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_next")
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    alphabet = [*LETTERS, *LETTERS.upper(), "▁", "\n"]
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    instruction = inspect.signature(SanaPipeline.__call__).parameters["complex_human_instruction"].default
    words = [*CORPUS, *(word for line in instruction for word in line.split())]
    tokenizer.train_from_iterator([f"▁{word}" for word in words] * 4, trainer)
    merges = [tuple(pair) for pair in json.loads(tokenizer.to_str())["model"]["merges"]]
    return GemmaTokenizerFast(vocab=tokenizer.get_vocab(), merges=merges, add_bos_token=True)


def uneven(*networks: torch.nn.Module) -> None:
    """Make fresh networks uneven enough that a prompt matters."""
    for network in networks:
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.data *= 8


def tiny_sd3(folder: str | Path, seed: int = 0) -> Path:
    """Write a Stable Diffusion 3 folder: 32 px, VAE of 4 px with 4 channels and a shift, three text encoders."""
    from diffusers import (
        AutoencoderKL,
        FlowMatchEulerDiscreteScheduler,
        SD3Transformer2DModel,
        StableDiffusion3Pipeline,
    )

    folder = Path(folder)
    tokenizers = tiny_tokenizer(), tiny_tokenizer()
    t5 = t5_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            **VAE, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False, use_post_quant_conv=False
        )
        transformer = SD3Transformer2DModel(
            sample_size=8,
            patch_size=2,
            in_channels=4,
            out_channels=4,
            num_layers=2,
            attention_head_dim=8,
            num_attention_heads=2,
            joint_attention_dim=64,
            caption_projection_dim=16,
            pooled_projection_dim=28,
            pos_embed_max_size=12,
            dual_attention_layers=(0,),
            qk_norm="rms_norm",
        )
        clips = [
            CLIPTextModelWithProjection(text_config(tokenizers[0], width, 2, projection_dim=pooled, hidden_act=act))
            for width, pooled, act in ((32, 16, "quick_gelu"), (24, 12, "gelu"))
        ]
        config = T5Config(
            vocab_size=len(t5), d_model=64, d_kv=8, d_ff=64, num_layers=2, num_heads=2, feed_forward_proj="gated-gelu"
        )
        text_encoder_3 = T5EncoderModel(config)
    uneven(*clips)
    pipeline = StableDiffusion3Pipeline(
        vae=vae,
        transformer=transformer,
        text_encoder=clips[0],
        tokenizer=tokenizers[0],
        text_encoder_2=clips[1],
        tokenizer_2=tokenizers[1],
        text_encoder_3=text_encoder_3.eval(),
        tokenizer_3=t5,
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=100, shift=3.0),
    )
    pipeline.save_pretrained(folder)
    return folder


def tiny_sana(folder: str | Path, seed: int = 0) -> Path:
    """Write a Sana folder: 32 px, VAE of 4 px with 4 channels, a Gemma of two layers."""
    from diffusers import AutoencoderDC, DPMSolverMultistepScheduler, SanaTransformer2DModel

    folder = Path(folder)
    tokenizer = gemma_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = {
            f"{side}_{name}": value
            for side in ("encoder", "decoder")
            for name, value in {
                "block_types": ("ResBlock", "ResBlock", "EfficientViTBlock"),
                "block_out_channels": (8, 8, 16),
                "layers_per_block": (1, 1, 1),
                "qkv_multiscales": ((), (), (5,)),
            }.items()
        }
        vae = AutoencoderDC(
            **sizes,
            latent_channels=4,
            attention_head_dim=4,
            downsample_block_type="Conv",
            upsample_block_type="interpolate",
            scaling_factor=0.41407,
        )
        transformer = SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_layers=2,
            num_attention_heads=2,
            attention_head_dim=8,
            num_cross_attention_heads=2,
            cross_attention_head_dim=8,
            cross_attention_dim=16,
            caption_channels=32,
            sample_size=8,
        )
        config = Gemma2Config(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=8,
            query_pre_attn_scalar=8,
        )
        text_encoder = Gemma2Model(config)
    pipeline = SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=vae,
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(
            num_train_timesteps=100, prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
        ),
    )
    pipeline.save_pretrained(folder)
    return folder
