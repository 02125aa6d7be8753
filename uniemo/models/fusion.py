"""Fusion of emotion features into the condition of the diffusion model (eq. 6)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from uniemo.class_paths import import_class
from uniemo.errors import UniEmoError, Width, check_ranges

TOKENS = ("cls", "patch", "scene", "object")


@dataclass
class FusionConfig:
    """How features become a condition.

    Attributes:
        tokens: which features are fused, among ``cls``, ``patch`` (mean of the patches), ``scene`` and ``object``.
        correlation: weigh scene and object by their correlation coefficients; otherwise by one.
        hidden: units of each mapper's hidden layer; None is the encoder's width.
        normalize: layer-normalise features before they are mapped, without learned parameters: class token and queries
            come from different depths and differ in size. The released mappers take them as they are (False).
        implementation: class path of a :class:`ConditionFusion` of your own; None is the paper's (eq. 6).
    """

    tokens: tuple[str, ...] = ("cls", "scene", "object")
    correlation: bool = True
    hidden: Width | None = None
    normalize: bool = True
    implementation: str | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.fusion.")


class ConditionFusion(nn.Module):
    """c = M_cls(cls) + α_s·M_s(scene) + α_o·M_o(object), one c for each text encoder of the diffusion model.

    Each M is a two-layer ReLU MLP into the token-embedding space. The last layers start scaled so that for inputs of
    unit variance and α of one the mean length of c is that of the text encoder's token embeddings: a much shorter or
    longer c is a token the text encoder has never seen, and learning stalls.

    Args:
        config: the choices.
        width: D of the features.
        token_widths: W of each text encoder.
        token_norms: mean length of its token embeddings; None leaves the usual scale of linear layers.

    Raises:
        UniEmoError: ``tokens`` is empty or names something else.
    """

    def __init__(
        self,
        config: FusionConfig,
        width: int,
        token_widths: Sequence[int],
        token_norms: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.tokens = tuple(config.tokens)
        if not self.tokens or not set(self.tokens) <= set(TOKENS):
            raise UniEmoError(f"fusion.tokens must be some of {', '.join(TOKENS)}; got {list(self.tokens)}")
        self.correlation = config.correlation
        self.normalize = config.normalize
        hidden = config.hidden or width
        self.mappers = nn.ModuleDict(
            {
                token: nn.ModuleList(
                    nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, out)) for out in token_widths
                )
                for token in self.tokens
            }
        )
        if token_norms is not None:
            self._scale(width, token_norms)

    def forward(
        self,
        cls: Tensor | None = None,
        scene: Tensor | None = None,
        object: Tensor | None = None,
        patch: Tensor | None = None,
        alpha_scene: Tensor | None = None,
        alpha_object: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Fuse (B, D) features; those that ``tokens`` does not name are ignored.

        Args:
            cls: class token.
            scene: scene feature.
            object: object feature.
            patch: mean of the patch tokens.
            alpha_scene: (B,) correlation coefficient of the scene; None is one.
            alpha_object: the same of the object.

        Returns:
            c, one (B, W) per text encoder.
        """
        features = {"cls": cls, "scene": scene, "object": object, "patch": patch}
        alphas = {"scene": alpha_scene, "object": alpha_object} if self.correlation else {}
        total: list[Tensor] | None = None
        for token in self.tokens:
            x = features[token]
            if x is None:
                raise UniEmoError(f"fusion.tokens names {token!r}, which the encoder does not give; leave it out")
            if self.normalize:
                x = F.layer_norm(x, x.shape[-1:])
            alpha = alphas.get(token)
            mapped = [mapper(x) if alpha is None else alpha.unsqueeze(-1) * mapper(x) for mapper in self._of(token)]
            total = mapped if total is None else [a + b for a, b in zip(total, mapped, strict=True)]
        return tuple(total or ())

    @torch.no_grad()
    def _scale(self, width: int, token_norms: Sequence[float]) -> None:
        """Scale the last layers for a mean length of ``token_norms``, measured on unit Gaussian inputs."""
        for index, norm in enumerate(token_norms):
            last = []
            total = torch.zeros(())
            for token in self.tokens:
                mapper = self._of(token)[index]
                nn.init.zeros_(mapper[-1].bias)
                total = total + mapper(torch.randn(256, width))
                last.append(mapper[-1].weight)
            for weight in last:
                weight.mul_(norm / total.norm(dim=-1).mean())

    def _of(self, token: str) -> list[Any]:
        """Return a feature's mappers, one per text encoder."""
        return list(cast(nn.ModuleList, self.mappers[token]))


def build_fusion(
    config: FusionConfig, width: int, token_widths: Sequence[int], token_norms: Sequence[float] | None = None
) -> ConditionFusion:
    """Return the configured fusion; arguments as in :class:`ConditionFusion`.

    Raises:
        UniEmoError: ``implementation`` names no fusion.
    """
    if config.implementation is None:
        return ConditionFusion(config, width, token_widths, token_norms)
    kind = import_class(config.implementation, ConditionFusion, "fusion.implementation")
    return kind(config, width, token_widths, token_norms)
