"""Prompts with a place for the condition: token ids, and a hook that puts the condition into a text encoder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from uniemo.errors import UniEmoError

SLOT = "{}"  # where a prompt takes the condition
_LONGEST = 4096  # tokens of a prompt; transformers takes 1e30 where a folder does not say
_CACHED = 1024  # prompts whose ids are kept


@dataclass(frozen=True)
class EncodedPrompts:
    """Embeddings of B prompts, as the denoising network takes them.

    Attributes:
        states: (B, T, W) hidden states, those of several text encoders side by side.
        pooled: (B, P) pooled embedding of the last text encoder, None for models that take none.
    """

    states: Tensor
    pooled: Tensor | None = None

    def where(self, choose: Tensor, other: EncodedPrompts) -> EncodedPrompts:
        """Return these prompts, one for all, where ``choose`` (B,) is true, else the B ``other`` ones."""
        choose = choose.to(other.states.device)
        pooled = other.pooled
        if self.pooled is not None and pooled is not None:
            pooled = torch.where(choose[:, None], self.pooled, pooled)  # (B, P)
        return EncodedPrompts(torch.where(choose[:, None, None], self.states, other.states), pooled)


class PromptTokenizer:
    """Turns a prompt into token ids and placeholder positions, for each of a model's tokenizers.

    The text around the placeholders is tokenized piece by piece, so that neighbouring characters cannot change the
    placeholder's token.

    Args:
        tokenizers: transformers' CLIP tokenizers.
        placeholder: word whose single token stands where the condition goes.

    Raises:
        UniEmoError: the placeholder is not one token of a tokenizer.
    """

    def __init__(self, tokenizers: Sequence[Any], placeholder: str) -> None:
        self._tokenizers = tokenizers
        self._placeholders = []
        for tokenizer in tokenizers:
            ids = tokenizer(placeholder, add_special_tokens=False).input_ids
            if len(ids) != 1 or ids[0] in tokenizer.all_special_ids:
                raise UniEmoError(
                    f"diffusion.placeholder must be one token of the tokenizer; {placeholder!r} is {len(ids)} "
                    f"or unknown, take a short common word"
                )
            self._placeholders.append(ids[0])
            if tokenizer.model_max_length > _LONGEST:
                raise UniEmoError(
                    f"diffusion.path must have a tokenizer with a length of at most {_LONGEST} tokens; that of "
                    f"{tokenizer.name_or_path!r} has none: copy its tokenizer_config.json there anew"
                )
        self._cache: dict[str, list[tuple[Tensor, Tensor]]] = {}

    def __call__(self, prompt: str) -> list[tuple[Tensor, Tensor]]:
        """Return token ids (T,) and placeholder positions (T,) bool for each tokenizer."""
        if prompt not in self._cache:
            found = []
            for tokenizer, placeholder in zip(self._tokenizers, self._placeholders, strict=True):
                length = tokenizer.model_max_length
                ids: list[int] = []
                slots: list[int] = []
                for number, piece in enumerate(prompt.split(SLOT)):
                    if number:
                        slots.append(len(ids) + 1)  # behind the start token
                        ids.append(placeholder)
                    ids += tokenizer(piece, add_special_tokens=False).input_ids if piece.strip() else []
                ids = [tokenizer.bos_token_id, *ids[: length - 2], tokenizer.eos_token_id]
                ids += [tokenizer.pad_token_id] * (length - len(ids))
                mask = torch.zeros(length, dtype=torch.bool)
                mask[[slot for slot in slots if slot <= length - 2]] = True
                found.append((torch.tensor(ids), mask))
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[prompt] = found
        return self._cache[prompt]


def encode_prompts(
    encoders: Iterable[Any],
    tokenize: PromptTokenizer,
    prompts: Sequence[str],
    condition: Sequence[Tensor] | None,
    **options: bool,
) -> list[Any]:
    """Run text encoders on prompts, with a condition in place of the placeholder token's embedding.

    The condition enters through a hook on the encoder's token embedding, with its gradient attached, before positions
    are added.

    Args:
        encoders: transformers' text encoders.
        tokenize: of their tokenizers.
        prompts: B texts.
        condition: one (B, W) per text encoder; None leaves the placeholder's own embedding.
        options: of the encoders' forward.

    Returns:
        The output of each encoder.

    Raises:
        UniEmoError: a condition is given and a prompt has no ``{}``, or the prompt is cut off before it.
    """
    outputs = []
    for index, encoder in enumerate(encoders):
        layer = embedding(encoder)
        pairs = [tokenize(prompt)[index] for prompt in prompts]
        ids = torch.stack([ids for ids, _ in pairs]).to(layer.weight.device)  # (B, T)
        slots = torch.stack([slots for _, slots in pairs])  # (B, T)
        hook: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if condition is not None:
            lacking = next((prompt for prompt, row in zip(prompts, slots, strict=True) if not row.any()), None)
            if lacking is not None:
                raise UniEmoError(
                    f"a prompt must hold {SLOT} where the emotion goes, within {ids.shape[1] - 2} tokens; "
                    f'got {lacking!r}, write for example "a {SLOT} room"'
                )
            hook = replaced(layer, slots.to(ids.device), condition[index])
        with hook:
            outputs.append(encoder(input_ids=ids, **options))
    return outputs


def embedding(encoder: Any) -> nn.Embedding:  # noqa: ANN401 - transformers is imported late
    """Return a text encoder's token embedding."""
    return encoder.get_input_embeddings()


@contextlib.contextmanager
def replaced(layer: nn.Module, slots: Tensor, condition: Tensor) -> Iterator[None]:
    """Make an embedding layer return ``condition`` (B, W) where ``slots`` (B, T) is true."""

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.where(slots.unsqueeze(-1), condition.to(output.dtype).unsqueeze(1), output)  # (B, T, W)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
