"""Interactive blocks: expert queries read the image tokens by cross attention (eq. 2 and 3)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """The activation of OpenAI's CLIP, x·σ(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of ``x``, same shape."""
        return x * torch.sigmoid(1.702 * x)


class CrossAttention(nn.Module):
    """Multi-head attention A(Q, K) of queries over keys, which are the values too; no biases on q, k and v."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width, bias=False)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, query: Tensor, keys: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query: (B, Q, D).
            keys: (B, K, D).
            attention: return the attention map too.

        Returns:
            The (B, Q, D) result and, when asked for, the (B, Q, K) map, mean over heads, whose rows sum to one.
        """
        q, k, v = (self._split(x) for x in (self.q_proj(query), self.k_proj(keys), self.v_proj(keys)))
        if attention:
            weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)  # (B, h, Q, K)
            out, shown = weights @ v, weights.mean(dim=1)
        else:
            out, shown = F.scaled_dot_product_attention(q, k, v), None
        return self.proj(out.transpose(1, 2).flatten(2)), shown  # (B, Q, D)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, h, K, D/h)


class InteractiveLayer(nn.Module):
    """One layer of eq. 2 with pre-normalisation: q + A(norm(q), norm(keys)), then q + F(norm(q))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_query = nn.LayerNorm(width)
        self.norm_keys = nn.LayerNorm(width)
        self.norm_mlp = nn.LayerNorm(width)
        self.cross_attn = CrossAttention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, query: Tensor, keys: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """Return the (B, Q, D) refined queries and the (B, Q, K) attention map or None."""
        read, shown = self.cross_attn(self.norm_query(query), self.norm_keys(keys), attention)
        query = query + read
        return query + self.mlp(self.norm_mlp(query)), shown


class InteractiveBlock(nn.Module):
    """The paper's block: Q̃ from ``num_layers`` layers of eq. 2, then Q̂ = Q + β·Q̃ (eq. 3), β one number per channel.

    The queries read patch tokens only. Inputs of A and F are layer-normalised, as in the ViT around them; the paper
    leaves that open. The residual path is eq. 2's, without a norm.
    """

    def __init__(self, width: int, heads: int, num_layers: int = 2, beta_init: float = 0.1) -> None:
        super().__init__()
        self.layers = nn.ModuleList(InteractiveLayer(width, heads) for _ in range(num_layers))
        self.beta = nn.Parameter(torch.full((width,), beta_init))

    def forward(self, query: Tensor, tokens: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """Refine queries.

        Args:
            query: Q, (B, Q, D).
            tokens: class token and patches, (B, 1 + P, D).
            attention: return the last layer's attention map too.

        Returns:
            Q̂ (B, Q, D) and the (B, Q, P) map or None.
        """
        patches = tokens[:, 1:]  # (B, P, D)
        refined, shown = query, None
        for layer in self.layers:
            refined, shown = layer(refined, patches, attention)
        return query + self.beta * refined, shown


class ReleasedInteractiveBlock(nn.Module):
    """The block of the authors' released code: one layer, keys are the normalised [cls, patches], queries replaced.

    With x = [cls, patches]: v = norm(x); q + CrossAttn(norm1(q), v, v); then q + MLP(norm3(q)) with quick-GELU.
    Parameter names are those of the released ``query_decoder.0``, so that its weights fit.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.norm1 = nn.LayerNorm(width)
        self.norm3 = nn.LayerNorm(width)
        self.cross_attn = CrossAttention(width, heads)
        # positions 0 and 3 as in the released checkpoint; position 2 was its dropout, which is zero
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), QuickGELU(), nn.Identity(), nn.Linear(4 * width, width))

    def forward(self, query: Tensor, tokens: Tensor, attention: bool = False) -> tuple[Tensor, Tensor | None]:
        """Refine queries; as :meth:`InteractiveBlock.forward`.

        The map covers patches only: the class token's column is left out and the rows are scaled to sum to one again.
        """
        read, shown = self.cross_attn(self.norm1(query), self.norm(tokens), attention)
        query = query + read
        if shown is not None:
            shown = shown[..., 1:] / shown[..., 1:].sum(dim=-1, keepdim=True)  # (B, Q, P)
        return query + self.mlp(self.norm3(query)), shown
