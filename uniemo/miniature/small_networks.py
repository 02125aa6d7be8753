"""The miniature's networks before training: tokenizer, CLIP, autoencoder and denoiser, and the texts to train with."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from open_clip.constants import OPENAI_DATASET_MEAN as CLIP_MEAN
from open_clip.constants import OPENAI_DATASET_STD as CLIP_STD
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from uniemo.miniature.pretraining_set import EMPTY, SIZE, SMALL
from uniemo.miniature.table import EMOTIONS, OBJECTS, SCENES

CONTEXT = 16  # tokens
LATENT = 8  # channels
START, END = "<|startoftext|>", "<|endoftext|>"
PLACEHOLDER = "*"
TEMPLATES = (  # o: object, s: scene
    "a {o} in a {s}",
    "a {o} at a {s}",
    "a {s} with a {o}",
    "{o} {s}",
    "{s} {o}",
    "a {o} and a {s}",
)
SCENE_TEMPLATES = ("{s}", "a {s}")
OBJECT_TEMPLATES = ("{o}", "a {o}")
_LITTLE_WORDS = ("a", "an", "the", "in", "at", "on", "with", "and", "of")
_NOUNS = ("image", "painting", "photo", "picture", "room", "bench", "book", "cup", "lamp", "sofa", "street", "empty")


def spelled(name: str) -> str:
    """Return an attribute name as a caption has it, without underscores."""
    return name.replace("_", " ")


def caption(template: str, scene: int, thing: int) -> str:
    """Fill a template with names by index."""
    return template.format(s=spelled(SCENES[scene]), o=spelled(OBJECTS[thing]))


def save_tokenizer(folder: Path) -> None:
    """Write a CLIPTokenizer whose words of the vocabulary are single tokens and which can spell any text in bytes."""
    names = {word for name in (*SCENES, *OBJECTS, *EMOTIONS) for word in spelled(name).split()}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, min_frequency=1, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator(sorted(names.union(_LITTLE_WORDS, _NOUNS)), trainer)
    trained = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in trained["merges"]]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += sorted({a + b for a, b in merges} - set(tokens))
    vocabulary = {token: index for index, token in enumerate([*tokens, START, END])}  # the end token has the highest id
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
    )
    tokenizer.save_pretrained(folder)


def clip_config(vocab_size: int) -> dict[str, dict[str, object]]:
    """Return open_clip's description of the miniature CLIP."""
    return {
        "model_cfg": {
            "embed_dim": 128,
            "vision_cfg": {"image_size": SIZE, "patch_size": 8, "width": 192, "layers": 6, "head_width": 32},
            "text_cfg": {
                "context_length": CONTEXT,
                "vocab_size": vocab_size,
                "width": 128,
                "heads": 4,
                "layers": 3,
                "hf_tokenizer_name": ".",
            },
        },
        "preprocess_cfg": {"mean": list(CLIP_MEAN), "std": list(CLIP_STD), "interpolation": "bicubic"},
    }


def build_vae() -> AutoencoderKL:
    """Return an autoencoder from 32 px pictures to 8×8 latents of 8 channels."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT,
        sample_size=SMALL,
        scaling_factor=1.0,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 48, 64),
        layers_per_block=1,
        norm_num_groups=16,
    )


def build_unet() -> UNet2DConditionModel:
    """Return a denoiser for 8×8 latents of 8 channels, conditioned on 128-wide text states."""
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=LATENT,
        out_channels=LATENT,
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
        for kind in ("weight", "bias"):
            for old, new in names.items():
                target[f"{theirs}{new}.{kind}"] = state[f"{ours}{old}.{kind}"]
            for name, part in zip("qkv", state[f"{ours}attn.in_proj_{kind}"].chunk(3), strict=True):
                target[f"{theirs}self_attn.{name}_proj.{kind}"] = part
    model = CLIPTextModel(config)
    model.load_state_dict({key: value.float() for key, value in target.items()})
    return model.eval().requires_grad_(False)


@torch.no_grad()
def text_states(encoder: CLIPTextModel, tokenizer: CLIPTokenizer) -> dict[str, Tensor]:
    """Return the text states (…, 16, 128) of every caption that the denoiser is trained with.

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
        return table[tokenizer(spelled(name), add_special_tokens=False).input_ids].mean(0)

    both = [name_embedding(s) + name_embedding(o) for s in SCENES for o in OBJECTS]
    ids = tokenizer([PLACEHOLDER], padding="max_length", max_length=CONTEXT, return_tensors="pt").input_ids
    fused = torch.stack([_with_token(encoder, ids, embedding) for embedding in both])
    return {
        "pair": torch.cat([pair, fused.view(1, *pair.shape[1:])]),
        "scene": torch.stack([encode([caption(t, s, 0) for s in scenes]) for t in SCENE_TEMPLATES]),
        "object": torch.stack([encode([caption(t, 0, o) for o in things]) for t in OBJECT_TEMPLATES]),
        "empty": encode([""])[0],
    }


def _with_token(encoder: CLIPTextModel, ids: Tensor, embedding: Tensor) -> Tensor:
    """Return the states (16, 128) of a text whose first word has the given embedding."""

    def replace(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        output = output.clone()
        output[:, 1] = embedding
        return output

    handle = encoder.get_input_embeddings().register_forward_hook(replace)
    try:
        return encoder(ids).last_hidden_state[0]
    finally:
        handle.remove()


def sample_texts(states: dict[str, Tensor], scene: Tensor, thing: Tensor, generator: torch.Generator) -> Tensor:
    """Sample a caption for each picture: 76 % name both, 6 % the scene, 6 % the object, 12 % nothing (for guidance).

    Args:
        states: of :func:`text_states`.
        scene: (B,) index.
        thing: (B,) index, ``EMPTY`` for none.
        generator: of random numbers.

    Returns:
        Text states (B, 16, 128).
    """
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
