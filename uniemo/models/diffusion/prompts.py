"""Prompts with a place for the condition: token ids, and a hook that puts the condition into a text encoder."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

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
        pooled: (B, P) pooled embedding of the text encoders, None for models that take none.
        mask: (B, T), 0 where ``states`` are padding that the network does not look at; None where it looks at all.
    """

    states: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None

    def where(self, choose: Tensor, other: EncodedPrompts) -> EncodedPrompts:
        """Return these prompts, one for all, where ``choose`` (B,) is true, else the B ``other`` ones."""
        chosen: dict[str, Tensor] = {}
        for name, mine in self._given().items():
            theirs = getattr(other, name)
            places = choose.to(theirs.device).view(-1, *[1] * (theirs.ndim - 1))  # (B, 1, …)
            chosen[name] = torch.where(places, mine, theirs)
        return EncodedPrompts(**chosen)

    def to(self, device: torch.device) -> EncodedPrompts:
        """Return them on a device."""
        return EncodedPrompts(**{name: value.to(device) for name, value in self._given().items()})

    @staticmethod
    def concatenate(parts: Sequence[EncodedPrompts]) -> EncodedPrompts:
        """Return prompts one behind the other."""
        rows = {field.name: [getattr(part, field.name) for part in parts] for field in fields(EncodedPrompts)}
        return EncodedPrompts(**{name: torch.cat(own) for name, own in rows.items() if own[0] is not None})

    def arguments(self, prefix: str = "", count: int | None = None) -> dict[str, Tensor]:
        """Return them as diffusers' pipelines call them.

        Args:
            prefix: ``negative_`` for the unconditional branch.
            count: repeat one prompt so often.
        """
        names = {"states": "prompt_embeds", "pooled": "pooled_prompt_embeds", "mask": "prompt_attention_mask"}
        return {
            f"{prefix}{names[name]}": value if count is None else value.expand(count, *value.shape[1:])
            for name, value in self._given().items()
        }

    def _given(self) -> dict[str, Tensor]:
        """Return the tensors that are there, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


class Tokens(NamedTuple):
    """A prompt for one text encoder.

    Attributes:
        ids: (T,) token ids.
        slots: (T,) bool, where the condition goes.
        mask: (T,) bool, what is not padding.
        placeholders: how many slots there are.
    """

    ids: Tensor
    slots: Tensor
    mask: Tensor
    placeholders: int


class PromptTokenizer:
    """Turns a prompt into token ids and placeholder positions, for each of a model's tokenizers.

    The text around the placeholders is tokenized piece by piece, so that neighbouring characters cannot change the
    placeholder's token. Start and end tokens are those that a tokenizer sets itself.

    Args:
        tokenizers: transformers' tokenizers.
        placeholder: word whose single token stands where the condition goes.
        lengths: tokens of a prompt for each tokenizer; None takes the tokenizer's own.
        prefix: text before every prompt.

    Raises:
        UniEmoError: the placeholder is not one token of a tokenizer, or a tokenizer has no length.
    """

    def __init__(
        self,
        tokenizers: Sequence[Any],
        placeholder: str,
        lengths: Sequence[int | None] | None = None,
        prefix: str = "",
    ) -> None:
        self._tokenizers = tokenizers
        self._prefix = prefix
        self._placeholders = []
        self._lengths = []
        for tokenizer, length in zip(tokenizers, lengths or [None] * len(tokenizers), strict=True):
            ids = tokenizer(placeholder, add_special_tokens=False).input_ids
            start = tokenizer.convert_ids_to_tokens(ids)[:1] == ["▁"]  # SentencePiece's mark of a word's start
            if len(ids) != 1 + start or ids[-1] in tokenizer.all_special_ids:
                raise UniEmoError(
                    f"diffusion.placeholder must be one token of the tokenizer; {placeholder!r} is {len(ids)} "
                    f"or unknown, take a short common word"
                )
            self._placeholders.append(ids)
            if length is None and tokenizer.model_max_length > _LONGEST:
                raise UniEmoError(
                    f"diffusion.path must have a tokenizer with a length of at most {_LONGEST} tokens; that of "
                    f"{tokenizer.name_or_path!r} has none: copy its tokenizer_config.json there anew"
                )
            self._lengths.append(length or tokenizer.model_max_length)
        self._cache: dict[str, list[Tokens]] = {}

    def __call__(self, prompt: str) -> list[Tokens]:
        """Return a prompt's tokens for each tokenizer."""
        if prompt not in self._cache:
            parts = zip(self._tokenizers, self._placeholders, self._lengths, strict=True)
            found = [self._tokens(self._prefix + prompt, *part) for part in parts]
            if len(self._cache) >= _CACHED:
                self._cache.clear()
            self._cache[prompt] = found
        return self._cache[prompt]

    @staticmethod
    def _tokens(text: str, tokenizer: Any, placeholder: list[int], length: int) -> Tokens:  # noqa: ANN401
        special = tokenizer("").input_ids
        start = special[:1] if special[:1] == [tokenizer.bos_token_id] else []
        end = special[len(start) :]
        ids: list[int] = list(start)
        slots: list[int] = []
        pieces = text.split(SLOT)
        for number, piece in enumerate(pieces):
            if number:
                ids += placeholder
                slots.append(len(ids) - 1)
            if number + 1 < len(pieces):
                piece = piece.rstrip()  # the space belongs to the placeholder
            ids += tokenizer(piece, add_special_tokens=False).input_ids if piece.strip() else []
        ids = [*ids[: length - len(end)], *end]
        slots = [slot for slot in slots if slot < length - len(end)]
        padded = torch.full((length,), tokenizer.pad_token_id)
        padded[: len(ids)] = torch.tensor(ids)
        places = torch.arange(length)
        return Tokens(padded, torch.isin(places, torch.tensor(slots, dtype=torch.int64)), places < len(ids), len(slots))


def encode_prompts(
    encoders: Iterable[Any],
    tokenize: PromptTokenizer,
    prompts: Sequence[str],
    condition: Sequence[Tensor] | None,
    device: torch.device,
    masked: bool = False,
    **options: Any,  # noqa: ANN401
) -> list[Any]:
    """Run text encoders on prompts, with a condition in place of the placeholder token's embedding.

    The condition enters through a hook on the encoder's token embedding, with its gradient attached, before positions
    are added.

    Args:
        encoders: transformers' text encoders.
        tokenize: of their tokenizers.
        prompts: B texts.
        condition: one (B, W) per text encoder; None leaves the placeholder's own embedding.
        device: where the encoders run.
        masked: keep the encoders from looking at padding.
        options: of the encoders' forward.

    Returns:
        The output of each encoder.

    Raises:
        UniEmoError: a condition is given and a prompt has no ``{}``, or the prompt is cut off before it.
    """
    outputs = []
    for index, encoder in enumerate(encoders):
        layer = embedding(encoder)
        tokens = [tokenize(prompt)[index] for prompt in prompts]
        ids = torch.stack([own.ids for own in tokens]).to(device)  # (B, T)
        hook: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if condition is not None:
            lacking = next((prompt for prompt, own in zip(prompts, tokens, strict=True) if not own.placeholders), None)
            if lacking is not None:
                raise UniEmoError(
                    f"a prompt must hold {SLOT} where the emotion goes, within {ids.shape[1] - 2} tokens; "
                    f'got {lacking!r}, write for example "a {SLOT} room"'
                )
            hook = replaced(layer, torch.stack([own.slots for own in tokens]), condition[index])
        if masked:
            options["attention_mask"] = torch.stack([own.mask for own in tokens]).to(device)  # (B, T)
        with hook:
            outputs.append(encoder(input_ids=ids, **options))
    return outputs


def embedding(encoder: Any) -> nn.Embedding:  # noqa: ANN401 - transformers is imported late
    """Return the token embedding that a text encoder runs; T5 has it a second time, with the same weights."""
    inner = getattr(getattr(encoder, "encoder", None), "embed_tokens", None)
    return inner if inner is not None else encoder.get_input_embeddings()


@contextlib.contextmanager
def replaced(layer: nn.Module, slots: Tensor, condition: Tensor) -> Iterator[None]:
    """Make an embedding layer look up ``condition`` (B, W) where ``slots`` (B, T) is true.

    A condition stands for a row of the layer's table; Gemma's layer multiplies the rows that it looks up.
    """
    scale = torch.tensor(getattr(layer, "scalar_embed_scale", 1.0))

    def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        rows = condition.to(output) * scale.to(output)  # (B, W)
        return torch.where(slots.to(output.device).unsqueeze(-1), rows.unsqueeze(1), output)  # (B, T, W)

    handle = layer.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
