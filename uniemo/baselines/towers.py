"""A CLIP's two towers as the baselines use them: image features, and text features of learned words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniemo.errors import UniEmoError
from uniemo.models.clip import ClipParts, TextEncoder
from uniemo.models.encoder import VisualTower


class ImageTower(nn.Module):
    """A CLIP's image tower; unless it ``learns`` it is frozen, in eval mode and run without gradient."""

    def __init__(self, clip: ClipParts, learns: bool = False) -> None:
        super().__init__()
        self.visual = VisualTower(clip.visual)
        self.register_buffer("projection", clip.visual.proj.detach())  # (D, E)
        self.image_size = clip.image_size
        self.learns = learns
        self.requires_grad_(learns)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, D) class tokens after ``ln_post`` of CLIP-normalised images (B, 3, R, R)."""
        with torch.set_grad_enabled(self.learns and torch.is_grad_enabled()):
            x = self.visual.embed(images)  # (B, 1 + P, D)
            for block in self.visual.resblocks[:-1]:
                x = block(x)
            cls: Tensor = self.visual.ln_post(self.visual.last(x, keep=1)[:, 0])
        return cls

    def embed(self, images: Tensor) -> Tensor:
        """Return (B, E) features of length one in the space that image and text share; arguments as above."""
        return F.normalize(self(images) @ self.projection, dim=-1)

    def train(self, mode: bool = True) -> ImageTower:
        """Set the mode of a tower that learns."""
        return super().train(mode and self.learns)


class PromptedText(nn.Module):
    """A CLIP's frozen text tower on "[context] <name>.", for C names and contexts of n = ``length`` vectors.

    Places behind the last end token are left out: a causal tower does not attend to them.

    Raises:
        UniEmoError: names and context do not fit the tower, or the tower is not OpenAI's kind.
    """

    start: Tensor
    rest: Tensor
    end: Tensor
    positions: Tensor
    mask: Tensor

    def __init__(self, text: TextEncoder, names: Sequence[str], length: int) -> None:
        super().__init__()
        model: Any = text.model
        ids = text.tokens([f"{name}." for name in names])  # (C, T), as CoOp writes a class
        end = end_places(model, ids)  # (C,)
        places = int(end.max()) + 1 + length
        if places > model.context_length:
            most = model.context_length - int(end.max()) - 1
            raise UniEmoError(
                f"model.context_length must be at most {most}, for names and context to fit the "
                f"{model.context_length} places of this CLIP's text tower; got {length}"
            )
        self.transformer, self.ln_final = model.transformer, model.ln_final
        self.width = int(model.token_embedding.embedding_dim)
        self.projection = model.text_projection
        embedded = model.token_embedding(ids).detach()  # (C, T, W)
        buffers = {
            "start": embedded[:, :1],
            "rest": embedded[:, 1 : places - length],
            "end": end + length,
            "positions": model.positional_embedding.detach()[:places],
            "mask": model.attn_mask[:places, :places],
        }
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)
        self.requires_grad_(False)

    def forward(self, context: Tensor) -> Tensor:
        """Return (N, C, E) text features of length one.

        Args:
            context: (N, C, n, W) or (N, 1, n, W), of N images or of all; its gradient is kept.
        """
        count, classes = len(context), len(self.start)
        parts = [
            self.start.expand(count, -1, -1, -1),
            context.expand(-1, classes, -1, -1),
            self.rest.expand(count, -1, -1, -1),
        ]
        x = torch.cat(parts, dim=2).flatten(0, 1) + self.positions  # (N * C, places, W)
        x = self.transformer(x, attn_mask=self.mask)
        x = self.ln_final(x[torch.arange(len(x), device=x.device), self.end.repeat(count)])  # (N * C, W)
        x = self.projection(x) if isinstance(self.projection, nn.Module) else x @ self.projection
        return F.normalize(x, dim=-1).unflatten(0, (count, classes))

    def train(self, mode: bool = True) -> PromptedText:
        """Stay in eval mode."""
        return super().train(False)


def end_places(model: Any, ids: Tensor) -> Tensor:  # noqa: ANN401 - open_clip is not typed
    """Return the (N,) places of the end tokens of (N, T) ids, whose features are the text's.

    Raises:
        UniEmoError: the text tower is of another kind than OpenAI's.
    """
    kind = getattr(model, "text_pool_type", None)
    if not isinstance(model, open_clip.CLIP) or kind not in ("argmax", "eos"):
        raise UniEmoError(
            "model.encoder.clip must have OpenAI's kind of text tower for learned contexts; this one has not: "
            "take ViT-B-32, ViT-B-16 or ViT-L-14"
        )
    return ids.argmax(dim=1) if kind == "argmax" else (ids == model.text_eos_id).int().argmax(dim=1)


def first_context(text: TextEncoder, length: int, words: str | None) -> Tensor:
    """Return (n, W) vectors to start from: the embeddings of words such as "a photo of a", then noise of CoOp's size.

    Raises:
        UniEmoError: ``length`` below one, or more words than that.
    """
    if length < 1:
        raise UniEmoError(f"model.context_length must be at least 1; got {length}")
    embedding = text.model.token_embedding
    context = 0.02 * torch.randn(length, embedding.embedding_dim)  # standard deviation of CoOp's code
    if words:
        ids = text.tokens([words])
        inner = ids[0, 1 : int(end_places(text.model, ids)[0])]  # without start and end
        if len(inner) > length:
            raise UniEmoError(
                f"model.context_init must be at most model.context_length = {length} tokens; {words!r} is {len(inner)}"
            )
        context[: len(inner)] = embedding(inner).detach()
    return context
