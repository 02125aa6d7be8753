"""Checkpoints of the authors' released code: what is in one, its sizes and names."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniemo.convert.pickles import check_complete, check_shapes, fill, read_torch, tensors
from uniemo.errors import UniEmoError
from uniemo.models.clip import TextEncoder
from uniemo.models.clip_shapes import CONTEXT, HEAD_WIDTH, TOKENIZER, VOCABULARY, ClipShape, build_shape
from uniemo.taxonomy import MIKELS_8

STAGE2_WEIGHTS = "VIT_query.pth"  # encoder and classifier in a folder of stage 2
_WHAT = "released checkpoint"
_PATCHES, _QUERIES = "visual.conv1.weight", "visual.visual_query_scene.weight"
_BLOCKS, _INTERACT = "visual.transformer.resblocks.", "visual.transformer.visual_query_interact."
_LATER = re.compile(rf"{re.escape(_INTERACT)}(?:[2-9]|\d+\.query_decoder\.[1-9])")  # more blocks or layers than known
_TEXT_BLOCKS, _TOKENS = "transformer.resblocks.", "token_embedding.weight"
_TEXT_ALONE = ("positional_embedding", "text_projection")
_UNUSED = {  # belong to the released class, take no part in what it computes from an image
    *(f"logit_scale{kind}{end}" for kind in ("", "_object") for end in ("", "_last")),
    *(f"visual_query_{kind}{end}_proj" for kind in ("scene", "object") for end in ("", "_last")),
    *(f"{_INTERACT}{i}.query_alpha" for i in (0, 1)),
    "visual.proj",
}
_PAIR = ("weight", "bias")
HEAD_NAMES = {f"{layer}.{end}": f"{layer}.{end}" for layer in ("fc0", "fc1") for end in _PAIR}  # as ours


@dataclass(frozen=True)
class ReleasedSizes:
    """Sizes of a released checkpoint, read off its tensors.

    Attributes:
        shape: of CLIP's image tower: width D, layers N, patch and image size, embedding size E.
        query_length: Q.
        hidden: hidden units of the emotion classifier; 768 where the file has none.
        num_emotions: its classes; 8 where the file has none.
        text_width: width of CLIP's text tower; None, as the next, where the file has none.
        vocab_size: tokens that it knows.
    """

    shape: ClipShape
    query_length: int
    hidden: int
    num_emotions: int
    text_width: int | None
    vocab_size: int | None

    @property
    def heads(self) -> int:
        """Attention heads of the image tower."""
        return self.shape.width // HEAD_WIDTH

    @property
    def stages(self) -> tuple[int, int]:
        """Layers after which the scene and the object queries interact: N/3 and 2N/3, rounded down."""
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


@dataclass(frozen=True)
class ReleasedFile:
    """A released checkpoint that has been read.

    Attributes:
        path: the file.
        model: encoder and CLIP, float32, the file's names.
        classifier: emotion classifier; None where the file has none.
        sizes: of both.
        unknown: names of tensors that the released classes do not have; they are not used.
        about: epoch, best accuracy and the run's arguments, where the file has them; plain values.
    """

    path: Path
    model: dict[str, Tensor]
    classifier: dict[str, Tensor] | None
    sizes: ReleasedSizes
    unknown: tuple[str, ...]
    about: dict[str, Any]

    def notes(self) -> list[str]:
        """Return one line for each thing that a user should know."""
        found = []
        if self.unknown:
            found.append(f"{self.path} has {len(self.unknown)} tensors that are not used, first {self.unknown[0]!r}")
        if self.classifier is None:
            found.append(f"{self.path} has no Emo_classifier: the emotion head is untrained, its logits are all zero")
        if self.sizes.shape.layers % 3:
            first, second = self.sizes.stages
            found.append(
                f"{self.path} has {self.sizes.shape.layers} layers, no multiple of 3: the queries interact after "
                f"layers {first} and {second}"
            )
        return found

    def text_encoder(self) -> Callable[[Sequence[str]], Tensor]:
        """Return the file's text tower as a function from N strings to (N, E).

        Raises:
            UniEmoError: it has none, or not one for OpenAI's tokenizer.
        """
        state = {name: value for name, value in self.model.items() if _is_text(name)}
        depth = _count_layers(state, _TEXT_BLOCKS)
        position = state.get("positional_embedding", torch.empty(0))
        if not depth or (self.sizes.vocab_size, *position.shape[:1]) != (VOCABULARY, CONTEXT):
            raise UniEmoError(
                f"attribute names need the file's text tower, for OpenAI's tokenizer of {VOCABULARY} tokens; "
                f"{self.path} has none: leave --scenes and --objects out"
            )
        width = int(self.sizes.text_width or 0)
        names = [f"{_TEXT_BLOCKS}{i}.{name}" for i in range(depth) for name in _block_names()]
        names += [_TOKENS, "ln_final.weight", "ln_final.bias", *_TEXT_ALONE]
        check_complete(state, names, self.path)
        check_shapes(state, _block_shapes(_TEXT_BLOCKS, depth, width), self.path)
        model = build_shape(self.sizes.shape, width, depth)
        fill(model, state, {name: name for name in names}, self.path)
        return TextEncoder(model, TOKENIZER)


def read_released(path: str | Path) -> ReleasedFile:
    """Read ``best.pth``, or ``VIT_query.pth`` of a folder of stage 2, executing nothing in it.

    Raises:
        UniEmoError: no such file, one that is damaged or asks for anything to be run, or another kind of file.
    """
    path = Path(path).expanduser()
    path = path / STAGE2_WEIGHTS if path.is_dir() else path
    content = read_torch(path, _WHAT)
    if not isinstance(content, dict) or not (
        "model" in content or any(str(name).endswith(_PATCHES) for name in content)
    ):
        raise UniEmoError(f"{_WHAT} must have the key model; {path} has not: give a best.pth or VIT_query.pth")
    if "model" not in content:  # a state dict alone
        content = {"model": content}
    model = tensors(content["model"], path, _WHAT)
    classifier = content.get("Emo_classifier")
    classifier = None if classifier is None else tensors(classifier, path, _WHAT)
    later = next((name for name in sorted(model) if _LATER.match(name)), None)
    if later is not None:
        raise UniEmoError(
            f"{_WHAT} must have two interactive blocks of one layer; {path} has {later!r}: it is of another version"
        )
    sizes = _read_sizes(model, classifier, path)
    known = set(encoder_names(sizes.shape.layers).values()) | _UNUSED
    unknown = {name for name in model if name not in known and not _is_text(name)}
    unknown |= set(classifier or ()) - set(HEAD_NAMES)
    about = {name: content[name] for name in ("epoch", "max_accuracy") if name in content}
    if "config" in content:
        about["config"] = dict(getattr(content["config"], "__dict__", {}))
    return ReleasedFile(path, model, classifier, sizes, tuple(sorted(unknown)), about)


# sizes and names


def _read_sizes(model: dict[str, Tensor], classifier: dict[str, Tensor] | None, path: Path) -> ReleasedSizes:
    """Read sizes off a file's tensors; no network is built that is larger than these.

    Raises:
        UniEmoError: a tensor is missing or of another size than the rest, or it is no ViT that the encoder can run.
    """

    def shape(state: dict[str, Tensor], name: str, dimensions: int) -> torch.Size:
        check_complete(state, [name], path)
        found = state[name].shape
        if len(found) != dimensions or 0 in found:
            raise UniEmoError(f"{name} of {path} must have {dimensions} dimensions from 1; got {tuple(found)}")
        return found

    width, _, patch, _ = shape(model, _PATCHES, 4)
    tokens, _ = shape(model, "visual.positional_embedding", 2)
    grid = math.isqrt(tokens - 1)
    layers = _count_layers(model, _BLOCKS)
    if width % HEAD_WIDTH or grid**2 != tokens - 1 or grid == 0 or layers < 3:
        raise UniEmoError(
            f"{_WHAT} must be a ViT of at least 3 layers with heads of {HEAD_WIDTH} channels and square images; "
            f"{path} has {layers} layers, width {width} and {tokens - 1} patches"
        )
    embeds = [name for name in ("visual.proj", "visual_query_scene_proj", "text_projection") if name in model]
    queries = shape(model, _QUERIES, 2)[0]
    check_complete(model, encoder_names(layers).values(), path)
    bounds = {_PATCHES: (width, 3, patch, patch), _QUERIES: (queries, width)}
    check_shapes(model, bounds | _block_shapes(_BLOCKS, layers, width), path)
    hidden, num_emotions = 768, len(MIKELS_8)
    if classifier is not None:
        hidden, num_emotions = shape(classifier, "fc0.weight", 2)[0], shape(classifier, "fc1.weight", 2)[0]
        check_complete(classifier, HEAD_NAMES, path)
        check_shapes(classifier, {"fc0.weight": (hidden, width), "fc1.weight": (num_emotions, hidden)}, path)
    vocab_size, text_width = shape(model, _TOKENS, 2) if _TOKENS in model else (None, None)
    embed_dim = shape(model, embeds[0] if embeds else "visual.proj", 2)[1]
    tower = ClipShape(width, layers, patch, grid * patch, embed_dim)
    return ReleasedSizes(tower, queries, hidden, num_emotions, text_width, vocab_size)


def encoder_names(layers: int) -> dict[str, str]:
    """Return the released name of each of our encoder's tensors."""
    names = {"scene_query": _QUERIES, "object_query": "visual.visual_query_object.weight"}
    tower = ["conv1.weight", "class_embedding", "positional_embedding"]
    tower += [f"{norm}.{end}" for norm in ("ln_pre", "ln_post") for end in _PAIR]
    names |= {f"visual.{name}": f"visual.{name}" for name in tower}
    names |= {f"visual.resblocks.{i}.{name}": f"{_BLOCKS}{i}.{name}" for i in range(layers) for name in _block_names()}
    decoder = [f"cross_attn.{letter}_proj.weight" for letter in "qkv"]
    decoder += [f"{layer}.{end}" for layer in ("cross_attn.proj", "norm1", "norm3", "mlp.0", "mlp.3") for end in _PAIR]
    for index, block in enumerate(("scene_block", "object_block")):
        names |= {f"{block}.norm.{end}": f"{_INTERACT}{index}.norm.{end}" for end in _PAIR}
        names |= {f"{block}.{name}": f"{_INTERACT}{index}.query_decoder.0.{name}" for name in decoder}
    return names


def _block_names() -> list[str]:
    """Return the names inside one of OpenAI's transformer blocks."""
    layers = ("attn.out_proj", "ln_1", "mlp.c_fc", "mlp.c_proj", "ln_2")
    return ["attn.in_proj_weight", "attn.in_proj_bias", *(f"{layer}.{end}" for layer in layers for end in _PAIR)]


def _block_shapes(prefix: str, layers: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the shape by which a block's width is known, for each block."""
    return {f"{prefix}{layer}.attn.in_proj_weight": (3 * width, width) for layer in range(layers)}


def _is_text(name: str) -> bool:
    """Whether a tensor belongs to CLIP's text tower."""
    return name.startswith(("transformer.", "token_embedding.", "ln_final.")) or name in _TEXT_ALONE


def _count_layers(state: dict[str, Tensor], prefix: str) -> int:
    """Return how many numbered layers follow a prefix; a number beyond the tensors' number is none of a layer."""
    numbers = {name[len(prefix) :].partition(".")[0] for name in state if name.startswith(prefix)}
    return max((layer + 1 for layer in range(len(state)) if str(layer) in numbers), default=0)
