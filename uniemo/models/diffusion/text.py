"""The text encoders of a diffusion model: prompts with a condition become what its denoising network takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from uniemo.models.diffusion.config import DiffusionConfig
from uniemo.models.diffusion.prompts import EncodedPrompts, PromptTokenizer, embedding, encode_prompts
from uniemo.models.losses import Condition

_KEPT = 256  # plain prompts whose embeddings are kept; those of Stable Diffusion 3 are of 2.7 MB in half precision


class TextConditioned(nn.Module, ABC):
    """The frozen text encoders of a pipeline, always in eval mode.

    Args:
        config: the choices.
        pipeline: the loaded diffusers pipeline.

    Attributes:
        token_widths: W, width of the token embeddings, of each text encoder.
        token_norms: mean length of the token embeddings of each text encoder.

    Raises:
        UniEmoError: a placeholder that is not one token.
    """

    components: ClassVar[dict[str, str]]  # classes of diffusers or transformers by the pipeline's names, in load order
    lengths: ClassVar[tuple[int | None, ...] | None] = None  # most tokens for each tokenizer; None is its own length
    device: torch.device  # where the denoising network runs

    def __init__(self, config: DiffusionConfig, pipeline: Any) -> None:  # noqa: ANN401 - diffusers is imported late
        super().__init__()
        self.config = config
        names = [name for name in self.components if name.startswith("text_encoder")]
        dtype = getattr(torch, config.dtype)
        encoders = [getattr(pipeline, name).to(dtype).requires_grad_(False).eval() for name in names]
        self.text_encoders: Any = encoders if config.text_on_cpu else nn.ModuleList(encoders)  # a list is never moved
        self.tokenizers = [getattr(pipeline, name.replace("text_encoder", "tokenizer")) for name in names]
        if config.checkpointing:
            for encoder in encoders:
                encoder.gradient_checkpointing_enable({"use_reentrant": False})
        weights = [embedding(encoder).weight.float() for encoder in encoders]
        self.token_widths = tuple(weight.shape[1] for weight in weights)
        self.token_norms = tuple(float(weight.norm(dim=1).mean()) for weight in weights)
        self._tokenize = PromptTokenizer(self.tokenizers, config.placeholder, self.lengths)
        self._kept: dict[tuple[str, bool], EncodedPrompts] = {}  # plain prompts, where the text encoders are on the CPU

    def train(self, mode: bool = True) -> TextConditioned:
        """Stay in eval mode, whatever is asked.

        Where the text encoders' activations are recomputed, their layers alone say that they train, or transformers
        would not recompute; what is inside the layers (dropout) stays in eval mode.
        """
        from transformers.modeling_layers import GradientCheckpointingLayer

        del mode
        super().train(False)
        for encoder in self.text_encoders if self.config.checkpointing else ():
            for layer in encoder.modules():
                if isinstance(layer, GradientCheckpointingLayer):
                    layer.training = True
        return self

    @abstractmethod
    def embed(self, prompts: Sequence[str], condition: Condition | None = None) -> EncodedPrompts:
        """Encode prompts as the denoising network takes them, the condition in place of the placeholder's embedding.

        Args:
            prompts: B texts. Each ``{}`` is a placeholder token.
            condition: one (B, W) per text encoder, whose gradient is kept; None leaves the placeholder's own embedding.

        Raises:
            UniEmoError: a condition is given and a prompt has no ``{}``, or the prompt is cut off before it.
        """

    def unconditional(self, negative_prompt: str = "") -> EncodedPrompts:
        """Embed the prompt of the unconditional branch, for one image."""
        return self.embed([negative_prompt])

    def token_embedding(self, name: str) -> tuple[Tensor, ...]:
        """Return the mean token embedding of a name's tokens, one (W,) per text encoder."""
        found = []
        for tokenizer, encoder in zip(self.tokenizers, self.text_encoders, strict=True):
            weight = embedding(encoder).weight
            ids = tokenizer(name, add_special_tokens=False).input_ids
            found.append(weight[torch.tensor(ids, device=weight.device)].mean(dim=0))
        return tuple(found)

    def text_features(self, prompts: Sequence[str], condition: Condition | None = None) -> tuple[Tensor, ...]:
        """Return the text encoders' own summaries of prompts.

        Args:
            prompts: as in :meth:`embed`, as is ``condition``.
            condition: one (B, W) per text encoder, or None.

        Returns:
            One (B, P) per text encoder: of CLIP the projected embedding where it has a projection, else the last hidden
            state at the end token; of others the mean of the last hidden states over the prompt's tokens.
        """
        outputs = self.encode_text(prompts, condition)
        found = []
        for index, output in enumerate(outputs):
            if "text_embeds" in output or "pooler_output" in output:
                found.append(output.text_embeds if "text_embeds" in output else output.pooler_output)
                continue
            states = output.last_hidden_state  # (B, T, W)
            mask = torch.stack([self._tokenize(prompt)[index].mask for prompt in prompts]).to(states)  # (B, T)
            found.append(torch.einsum("btw,bt->bw", states, mask / mask.sum(dim=1, keepdim=True)))
        return tuple(found)

    def encode_text(
        self,
        prompts: Sequence[str],
        condition: Condition | None,
        tokenize: PromptTokenizer | None = None,
        masked: bool = False,
        **options: bool,
    ) -> list[Any]:
        """Return each text encoder's output; arguments as in :func:`uniemo.models.diffusion.prompts.encode_prompts`."""
        device = self.text_device()
        tokenize = tokenize or self._tokenize
        return encode_prompts(self.text_encoders, tokenize, prompts, condition, device, masked, **options)

    def text_device(self) -> torch.device:
        """Return where the text encoders run."""
        device: torch.device = embedding(self.text_encoders[0]).weight.device
        return device

    def _text(self, prompts: Sequence[str], condition: Condition | None) -> EncodedPrompts:
        """Embed prompts where the denoising network is; on the CPU plain ones are embedded once each."""
        if not self.config.text_on_cpu:
            return self.embed(prompts, condition)
        if condition is not None:
            return self.embed(prompts, condition).to(self.device)
        return EncodedPrompts.concatenate([self._keep(prompt, False) for prompt in prompts])

    def _empty(self, negative_prompt: str = "") -> EncodedPrompts:
        """Embed the prompt of the unconditional branch where the denoising network is."""
        return self._keep(negative_prompt, True) if self.config.text_on_cpu else self.unconditional(negative_prompt)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _keep(self, prompt: str, negative: bool) -> EncodedPrompts:
        """Embed one plain prompt, or take what it was before."""
        key = (prompt, negative)
        if key not in self._kept:
            if len(self._kept) >= _KEPT:
                self._kept.clear()
            self._kept[key] = (self.unconditional(prompt) if negative else self.embed([prompt])).to(self.device)
        return self._kept[key]
