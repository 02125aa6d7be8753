"""The expert query encoder: a CLIP ViT whose layers are shared with scene and object queries (eq. 1 to 3)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from uniemo.errors import Count, Range, UniEmoError, Width, check_ranges
from uniemo.models.clip import ClipParts, load_clip
from uniemo.models.interactive import InteractiveBlock, ReleasedInteractiveBlock


@dataclass
class EncoderConfig:
    """What the encoder is made of.

    Attributes:
        clip: name of the CLIP, see :func:`uniemo.models.clip.load_clip`.
        query_length: Q, queries in each of the two sets.
        queries: ``multi_stage`` (scene queries from the input, object queries from layer L1 on), ``single_step`` (both
            sets from the input; each still interacts and is read where multi_stage does it), ``none``, or
            ``class_token`` (none, and the class token stands for the scene and the object feature).
        scene_queries: have the scene set.
        object_queries: have the object set.
        interactive: ``paper`` (eq. 2 and 3) or ``released`` (the authors' code).
        num_layers: layers of the paper's interactive block; the released one always has one.
        stages: (L1, L2), layers after which scene and object queries interact; None is the rounded thirds.
        beta_init: first value of β in eq. 3.
        checkpointing: recompute the activations of CLIP's layers in the backward pass: less memory, a third more time.
    """

    clip: str = "miniature:clip"
    query_length: Width = 32
    queries: Literal["multi_stage", "single_step", "none", "class_token"] = "multi_stage"
    scene_queries: bool = True
    object_queries: bool = True
    interactive: Literal["paper", "released"] = "paper"
    num_layers: Annotated[int, Range(1, 100)] = 2
    stages: tuple[Count, Count] | None = None
    beta_init: Annotated[float, Range(-1e3, 1e3)] = 0.1
    checkpointing: bool = False

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.encoder.")


@dataclass
class EmotionFeatures:
    """What the encoder sees in B images; D its width, Q queries per set, P patches.

    Attributes:
        cls: (B, D) class token after ``ln_post``.
        scene: (B, D) mean of the scene queries at L1, None without that set.
        object: (B, D) mean of the object queries at L2, None without that set.
        patches: (B, P, D) patch tokens of the last layer, without ``ln_post``; None when not asked for.
        scene_queries: (B, Q, D) scene queries at L1 (Q̂ of eq. 3).
        object_queries: (B, Q, D) object queries at L2.
        scene_attention: (B, Q, P) attention of the last interactive layer at L1, mean over heads, rows sum to one;
            None when not asked for.
        object_attention: the same at L2.
    """

    cls: Tensor
    scene: Tensor | None = None
    object: Tensor | None = None
    patches: Tensor | None = None
    scene_queries: Tensor | None = None
    object_queries: Tensor | None = None
    scene_attention: Tensor | None = None
    object_attention: Tensor | None = None


class VisualTower(nn.Module):
    """The parts of an open_clip ViT that the encoder runs, under OpenAI's names; its projection is left out."""

    conv1: nn.Conv2d
    class_embedding: Tensor
    positional_embedding: Tensor
    resblocks: nn.ModuleList

    def __init__(self, visual: Any) -> None:  # noqa: ANN401 - open_clip is not typed
        super().__init__()
        self.conv1 = visual.conv1
        self.class_embedding = visual.class_embedding
        self.positional_embedding = visual.positional_embedding
        self.ln_pre = visual.ln_pre
        self.resblocks = visual.transformer.resblocks
        self.ln_post = visual.ln_post

    def embed(self, images: Tensor) -> Tensor:
        """Turn (B, 3, R, R) images into the (B, 1 + P, D) tokens that enter the first layer."""
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, P, D)
        first = self.class_embedding.expand(len(patches), 1, -1)  # (B, 1, D)
        return self.ln_pre(torch.cat([first, patches], dim=1) + self.positional_embedding)

    def last(self, x: Tensor, keep: int) -> Tensor:
        """Run the last layer on all T tokens but return only the first ``keep``: (B, T, D) -> (B, keep, D).

        No later layer reads the others, so that their half of the layer's work is saved; the result is the same.
        """
        block: Any = self.resblocks[-1]
        tokens = block.ln_1(x)
        read = block.attn(tokens[:, :keep], tokens, tokens, need_weights=False)[0]
        x = x[:, :keep] + block.ls_1(read)
        return x + block.ls_2(block.mlp(block.ln_2(x)))


class ExpertQueryEncoder(nn.Module):
    """Image to emotion features through a CLIP ViT with two sets of learnable queries.

    Queries join the sequence after ``ln_pre``, behind the patches. At L1 the scene queries interact with the image
    tokens, are read, and go on refined; at L2 the object queries. The remaining layers run on everything.

    Args:
        config: the choices.
        clip: a loaded CLIP, whose image tower becomes part of this module; None loads ``config.clip``.

    Raises:
        UniEmoError: ``query_length`` or ``num_layers`` below one, or stages that do not fit the tower.
    """

    def __init__(self, config: EncoderConfig, clip: ClipParts | None = None) -> None:
        super().__init__()
        clip = clip or load_clip(config.clip)
        self.visual = VisualTower(clip.visual)
        self.width, self.embed_dim, self.image_size = clip.width, clip.embed_dim, clip.image_size
        patch = self.visual.conv1.kernel_size[0]
        self.grid = (clip.image_size // patch, clip.image_size // patch)
        self.stages = _stages(config.stages, len(self.visual.resblocks))
        self.single_step = config.queries == "single_step"
        self.checkpointing = config.checkpointing
        heads: int = clip.visual.transformer.resblocks[0].attn.num_heads
        with_queries = config.queries in ("multi_stage", "single_step")
        self.on_class_token = config.queries == "class_token"
        self.scene_query = self._queries(config) if with_queries and config.scene_queries else None
        self.object_query = self._queries(config) if with_queries and config.object_queries else None
        self.scene_block = self._block(config, heads) if self.scene_query is not None else None
        self.object_block = self._block(config, heads) if self.object_query is not None else None

    @property
    def features(self) -> tuple[str, ...]:
        """Which of the scene and the object feature it gives."""
        queries = {"scene": self.scene_query, "object": self.object_query}
        return tuple(kind for kind, query in queries.items() if query is not None or self.on_class_token)

    def forward(self, images: Tensor, attention: bool = False, patches: bool = True) -> EmotionFeatures:
        """Encode images.

        Args:
            images: (B, 3, R, R), normalised with CLIP's mean and standard deviation.
            attention: return attention maps too.
            patches: return patch tokens too; leaving them out saves most of the last layer.

        Raises:
            UniEmoError: the images have another size than the tower takes.
        """
        if images.shape[-2:] != (self.image_size, self.image_size):
            raise UniEmoError(
                f"images must be {self.image_size} x {self.image_size} pixels for this CLIP; got "
                f"{images.shape[-2]} x {images.shape[-1]}, set data.image_size to {self.image_size}"
            )
        first, second = self.stages
        blocks = self.visual.resblocks
        x = self.visual.embed(images)  # (B, 1 + P, D)
        base = x.shape[1]
        end = base if self.scene_query is None else base + len(self.scene_query)  # the object queries begin here
        scene = objects = scene_attention = object_attention = None

        x = _join(x, self.scene_query)
        if self.single_step:
            x = _join(x, self.object_query)
        for block in blocks[:first]:
            x = self._layer(block, x)  # eq. 1
        if self.scene_block is not None:
            scene, scene_attention = self.scene_block(x[:, base:end], x[:, :base], attention)
            x = torch.cat([x[:, :base], scene, x[:, end:]], dim=1)
        if not self.single_step:
            x = _join(x, self.object_query)

        for block in blocks[first:second]:
            x = self._layer(block, x)
        if self.object_block is not None:
            objects, object_attention = self.object_block(x[:, end:], x[:, :base], attention)
            x = torch.cat([x[:, :end], objects], dim=1)

        for block in blocks[second:-1]:
            x = self._layer(block, x)
        x = self.visual.last(x, base if patches else 1)
        cls = self.visual.ln_post(x[:, 0])
        stand_in = cls if self.on_class_token else None
        return EmotionFeatures(
            cls=cls,
            scene=stand_in if scene is None else scene.mean(dim=1),
            object=stand_in if objects is None else objects.mean(dim=1),
            patches=x[:, 1:] if patches else None,
            scene_queries=scene,
            object_queries=objects,
            scene_attention=scene_attention,
            object_attention=object_attention,
        )

    def clip_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters that came from CLIP."""
        yield from self.visual.parameters()

    def query_parameters(self) -> Iterator[nn.Parameter]:
        """Yield the parameters of queries and interactive blocks."""
        for name, parameter in self.named_parameters():
            if not name.startswith("visual."):
                yield parameter

    def _layer(self, block: nn.Module, x: Tensor) -> Tensor:
        """Run one of CLIP's layers on the (B, T, D) tokens."""
        if self.checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, use_reentrant=False)
        return block(x)

    def _queries(self, config: EncoderConfig) -> nn.Parameter:
        """Return new (Q, D) queries: noise of a tenth of a token's size, so that the image gives them their content."""
        ln_pre = self.visual.ln_pre
        scale = ln_pre.weight.detach().square().mean().sqrt().item() if isinstance(ln_pre, nn.LayerNorm) else 1.0
        return nn.Parameter(0.1 * scale * torch.randn(config.query_length, self.width))

    def _block(self, config: EncoderConfig, heads: int) -> nn.Module:
        if config.interactive == "released":
            return ReleasedInteractiveBlock(self.width, heads)
        return InteractiveBlock(self.width, heads, config.num_layers, config.beta_init)


def _join(x: Tensor, queries: Tensor | None) -> Tensor:
    """Append (Q, D) queries to every sequence of (B, T, D)."""
    if queries is None:
        return x
    return torch.cat([x, queries.to(x.dtype).expand(len(x), -1, -1)], dim=1)


def _stages(stages: tuple[int, int] | None, layers: int) -> tuple[int, int]:
    """Return (L1, L2), the rounded thirds when not given."""
    first, second = stages if stages is not None else (round(layers / 3), round(2 * layers / 3))
    if not 1 <= first < second < layers:
        raise UniEmoError(
            f"encoder.stages must be two layers with 1 <= L1 < L2 < {layers}, the depth of this CLIP; "
            f"got {first} and {second}"
        )
    return first, second
