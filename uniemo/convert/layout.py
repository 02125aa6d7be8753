"""Sizes and names of the released code's checkpoints.

The released class splits its N layers at N/3 and 2N/3. Its published towers have 12 or 24 layers, where both are whole;
here they are ``N // 3`` and ``2 * N // 3`` for any N, not the rounded thirds of a new model.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from uniemo.convert.reading import check_complete, check_shape
from uniemo.data.emotions import MIKELS_8
from uniemo.errors import UniEmoError
from uniemo.models.clip_shapes import HEAD_WIDTH, ClipShape

WHAT = "released checkpoint"
MARK = "visual.conv1.weight"
_BLOCKS, _INTERACT = "visual.transformer.resblocks.", "visual.transformer.visual_query_interact."
LATER = re.compile(rf"{re.escape(_INTERACT)}(?:[2-9]|\d+\.query_decoder\.[1-9])")  # more blocks or layers than known
TEXT_BLOCKS = "transformer.resblocks."
_TOKENS = "token_embedding.weight"
_TEXT = ("transformer.", "token_embedding.", "ln_final.")
_TEXT_ALONE = ("positional_embedding", "text_projection")
UNUSED = {  # belong to the released class, take no part in what it computes from an image
    "logit_scale",
    "logit_scale_object",
    "logit_scale_last",
    "logit_scale_object_last",
    "visual_query_scene_proj",
    "visual_query_object_proj",
    "visual_query_scene_last_proj",
    "visual_query_object_last_proj",
    "visual.proj",
    *(f"{_INTERACT}{i}.query_alpha" for i in (0, 1)),
}


@dataclass(frozen=True)
class ReleasedSizes:
    """Sizes of a released checkpoint, read off its tensors.

    Attributes:
        shape: of CLIP's image tower: width D, layers N, patch and image size, embedding size E.
        heads: D / 64.
        query_length: Q.
        hidden: hidden units of the emotion classifier; 768 where the file has none.
        num_emotions: its classes; 8 where the file has none.
        text_width: width of CLIP's text tower; None, as the next, where the file has none.
        vocab_size: tokens that it knows.
    """

    shape: ClipShape
    heads: int
    query_length: int
    hidden: int
    num_emotions: int
    text_width: int | None
    vocab_size: int | None

    @property
    def stages(self) -> tuple[int, int]:
        """Layers after which the scene and the object queries interact."""
        return self.shape.layers // 3, 2 * self.shape.layers // 3

    def describe(self) -> str:
        """Return one line."""
        shape, (first, second) = self.shape, self.stages
        text = f", text width {self.text_width}, {self.vocab_size} tokens" if self.text_width else ""
        return (
            f"{shape.layers} layers of width {shape.width} with {self.heads} heads, patches of {shape.patch} in "
            f"{shape.image_size} pixels, embedding {shape.embed_dim}{text}; {self.query_length} queries, interaction "
            f"after layers {first} and {second}; {self.hidden} hidden units, {self.num_emotions} emotions"
        )


def read_sizes(model: dict[str, Tensor], classifier: dict[str, Tensor] | None, path: Path) -> ReleasedSizes:
    """Read sizes off a file's tensors.

    Raises:
        UniEmoError: a tensor is missing, or it is no ViT that the encoder can run.
    """

    def shape(state: dict[str, Tensor], name: str, dimensions: int) -> torch.Size:
        check_complete(state, [name], path)
        found = state[name].shape
        if len(found) != dimensions or 0 in found:
            raise UniEmoError(f"{name} of {path} must have {dimensions} dimensions from 1; got {tuple(found)}")
        return found

    width, _, patch, _ = shape(model, MARK, 4)
    tokens, _ = shape(model, "visual.positional_embedding", 2)
    grid = math.isqrt(tokens - 1)
    layers = count_layers(model, _BLOCKS)
    if width % HEAD_WIDTH or grid**2 != tokens - 1 or grid == 0 or layers < 3:
        raise UniEmoError(
            f"{WHAT} must be a ViT of at least 3 layers with heads of {HEAD_WIDTH} channels and square images; "
            f"{path} has {layers} layers, width {width} and {tokens - 1} patches"
        )
    embeds = [name for name in ("visual.proj", "visual_query_scene_proj", "text_projection") if name in model]
    embed_dim = shape(model, embeds[0] if embeds else "visual.proj", 2)[1]
    hidden, num_emotions = 768, len(MIKELS_8)
    if classifier is not None:
        hidden, num_emotions = shape(classifier, "fc0.weight", 2)[0], shape(classifier, "fc1.weight", 2)[0]
    text = shape(model, _TOKENS, 2) if _TOKENS in model else None
    sizes = ReleasedSizes(
        shape=ClipShape(width, layers, patch, grid * patch, embed_dim),
        heads=width // HEAD_WIDTH,
        query_length=shape(model, "visual.visual_query_scene.weight", 2)[0],
        hidden=hidden,
        num_emotions=num_emotions,
        text_width=None if text is None else text[1],
        vocab_size=None if text is None else text[0],
    )
    _check_bounds(model, classifier, sizes, path)
    return sizes


def _check_bounds(
    model: dict[str, Tensor], classifier: dict[str, Tensor] | None, sizes: ReleasedSizes, path: Path
) -> None:
    """Raise unless a file is complete and as large as its sizes say: no network is built that is larger than it."""
    width, patch = sizes.shape.width, sizes.shape.patch
    check_complete(model, encoder_names(sizes).values(), path)
    check_shape(model, MARK, (width, 3, patch, patch), path)
    check_shape(model, "visual.visual_query_scene.weight", (sizes.query_length, width), path)
    check_blocks(model, _BLOCKS, sizes.shape.layers, width, path)
    if classifier is not None:
        check_complete(classifier, head_names(), path)
        check_shape(classifier, "fc0.weight", (sizes.hidden, width), path)
        check_shape(classifier, "fc1.weight", (sizes.num_emotions, sizes.hidden), path)


def check_blocks(state: dict[str, Tensor], prefix: str, layers: int, width: int, path: Path) -> None:
    """Raise unless transformer blocks are of a width."""
    for layer in range(layers):
        check_shape(state, f"{prefix}{layer}.attn.in_proj_weight", (3 * width, width), path)


def encoder_names(sizes: ReleasedSizes) -> dict[str, str]:
    """Return the released name of each of our encoder's tensors."""
    pair = ("weight", "bias")
    inner = _block_names()
    names = {"scene_query": "visual.visual_query_scene.weight", "object_query": "visual.visual_query_object.weight"}
    single = ("conv1.weight", "class_embedding", "positional_embedding")
    names |= {f"visual.{name}": f"visual.{name}" for name in single}
    names |= {f"visual.{norm}.{end}": f"visual.{norm}.{end}" for norm in ("ln_pre", "ln_post") for end in pair}
    names |= {
        f"visual.resblocks.{i}.{name}": f"{_BLOCKS}{i}.{name}" for i in range(sizes.shape.layers) for name in inner
    }
    decoder = [f"cross_attn.{letter}_proj.weight" for letter in "qkv"]
    decoder += [f"{layer}.{end}" for layer in ("cross_attn.proj", "norm1", "norm3", "mlp.0", "mlp.3") for end in pair]
    for index, block in enumerate(("scene_block", "object_block")):
        names |= {f"{block}.norm.{end}": f"{_INTERACT}{index}.norm.{end}" for end in pair}
        names |= {f"{block}.{name}": f"{_INTERACT}{index}.query_decoder.0.{name}" for name in decoder}
    return names


def text_names(layers: int) -> list[str]:
    """Return the released names of CLIP's text tower."""
    blocks = [f"{TEXT_BLOCKS}{i}.{name}" for i in range(layers) for name in _block_names()]
    return [*blocks, _TOKENS, "ln_final.weight", "ln_final.bias", *_TEXT_ALONE]


def _block_names() -> list[str]:
    """Return the names inside one of OpenAI's transformer blocks."""
    layers = ("attn.out_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2")
    return [
        "attn.in_proj_weight",
        "attn.in_proj_bias",
        *(f"{layer}.{end}" for layer in layers for end in ("weight", "bias")),
    ]


def head_names() -> dict[str, str]:
    """Return the classifier's names, which are ours."""
    return {name: name for name in ("fc0.weight", "fc0.bias", "fc1.weight", "fc1.bias")}


def is_text(name: str) -> bool:
    """Whether a tensor belongs to CLIP's text tower."""
    return name.startswith(_TEXT) or name in _TEXT_ALONE


def count_layers(state: dict[str, Tensor], prefix: str) -> int:
    """Return how many numbered layers follow a prefix; a number beyond the tensors' number is none of a layer."""
    numbers = {name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)}
    return max((layer + 1 for layer in range(len(state)) if str(layer) in numbers), default=0)
