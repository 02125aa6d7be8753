"""Builders of tiny real networks with random weights: the true classes and folders, built in a second."""

import json
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from uniemo.vocabulary import Vocabulary

START, END = "<|startoftext|>", "<|endoftext|>"
CORPUS = [
    *("a", "photo", "of", "an", "object", "in", "the", "scene", "painting", "with", "and", "on", "room", "*", ",", "."),
    *("amusement", "awe", "contentment", "excitement", "anger", "disgust", "fear", "sadness"),
    *("park", "mountain", "beach", "stadium", "battlefield", "sewer", "dark", "forest", "graveyard"),
    *("balloon", "cake", "rainbow", "eagle", "flower", "firework", "flame", "worm", "spider", "skull", "tombstone"),
]
CONTEXT = 16
VOCABULARY = Vocabulary(("awe", "fear", "anger"), ("park", "dark_forest"), ("balloon", "eagle", "skull"))


def tiny_tokenizer() -> CLIPTokenizer:
    """Train a byte-pair tokenizer of a few hundred entries in CLIP's form; the end token has the highest id."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    alphabet = list("abcdefghijklmnopqrstuvwxyz0123456789*.,-_")
    trainer = trainers.BpeTrainer(
        vocab_size=400, end_of_word_suffix="</w>", initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS * 4 + alphabet, trainer)
    state = json.loads(tokenizer.to_str())["model"]
    vocab = sorted(set(state["vocab"]) | {f"{letter}</w>" for letter in alphabet})
    vocab = {token: index for index, token in enumerate([*vocab, START, END])}
    return CLIPTokenizer(vocab=vocab, merges=[tuple(pair) for pair in state["merges"]], model_max_length=CONTEXT)


def tiny_clip(folder: str | Path, image_size: int = 32, seed: int = 0) -> Path:
    """Write an open_clip folder: 3 layers, width 32, 16 patches (at 32 px), embedding 16, random weights."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = tiny_tokenizer()
    tokenizer.save_pretrained(folder)
    config = {
        "embed_dim": 16,
        "vision_cfg": {"image_size": image_size, "patch_size": 8, "width": 32, "layers": 3, "head_width": 16},
        "text_cfg": {
            "context_length": CONTEXT,
            "vocab_size": len(tokenizer),
            "width": 32,
            "heads": 2,
            "layers": 1,
            "hf_tokenizer_name": "local",
        },
    }
    preprocess = {"mean": [0.48, 0.46, 0.41], "std": [0.27, 0.26, 0.28]}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(
            embed_dim=config["embed_dim"],
            vision_cfg=dict(config["vision_cfg"]),
            text_cfg={key: value for key, value in config["text_cfg"].items() if key != "hf_tokenizer_name"},
        )
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return folder


VAE = {
    "down_block_types": ("DownEncoderBlock2D",) * 3,
    "up_block_types": ("UpDecoderBlock2D",) * 3,
    "block_out_channels": (8, 8, 16),
    "norm_num_groups": 4,
    "latent_channels": 4,
    "sample_size": 32,
    "mid_block_add_attention": False,
}
UNET = {
    "sample_size": 8,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": (16, 16),
    "norm_num_groups": 4,
}


def text_config(tokenizer: CLIPTokenizer, width: int, layers: int, **options: object) -> CLIPTextConfig:
    """Return the configuration of a tiny text encoder."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=CONTEXT,
        **ids,
        **options,
    )


def tiny_diffusion(folder: str | Path, prediction_type: str = "v_prediction", seed: int = 0) -> Path:
    """Write a Stable Diffusion folder: 32 px images, 4-fold VAE with 4 channels, 8x8 latents, text width 32."""
    from diffusers import AutoencoderKL, DDPMScheduler, StableDiffusionPipeline, UNet2DConditionModel

    folder = Path(folder)
    tokenizer = tiny_tokenizer()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(**VAE)
        unet = UNet2DConditionModel(
            **UNET,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=32,
            attention_head_dim=8,
        )
        text_encoder = CLIPTextModel(text_config(tokenizer, 32, 1))
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=DDPMScheduler(
            num_train_timesteps=100,
            beta_schedule="scaled_linear",
            prediction_type=prediction_type,
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)
    return folder
