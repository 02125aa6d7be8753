"""A vision-language model of transformers that answers questions: likelihoods of names, or its own words."""

from __future__ import annotations

import copy
import inspect
import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from uniemo.data.transforms import denormalise
from uniemo.errors import UniEmoError, first_line
from uniemo.miniature.paths import resolve
from uniemo.models.diffusion.components import quiet

_STEM = 3  # letters that a word must share with a name to mean it: sad, sadly and sadness
_TOKENS = 12  # of an answer
_REASON = 96  # of a reason
_EMPTY = (0, 128, 255)  # grey levels of the images without content: black, grey, white


class QuestionModel(nn.Module):
    """A frozen vision-language model, a causal decoder.

    Args:
        path: of the model.
        emotions: C names.
        question: with ``{}`` for the names.
        answer: see :class:`uniemo.baselines.vision_language.VisionLanguage`.
        calibrate: likewise.
        dtype: of the weights.
        trust: run the Python files that lie beside the weights.
    """

    def __init__(
        self,
        path: str,
        emotions: Sequence[str],
        question: str,
        answer: Literal["likelihood", "text"],
        calibrate: bool,
        dtype: Literal["auto", "float32", "bfloat16", "float16"],
        trust: bool = False,
    ) -> None:
        super().__init__()
        self.processor, self.language = load(path, dtype, trust)
        self.emotions = tuple(emotions)
        self.question = question
        self.answer = answer
        self.calibrate = calibrate
        self.unnamed = 0  # answers so far that named no emotion
        self.priors: dict[int, Tensor] = {}  # log-probabilities (C,) without an image, by its size
        self.names, self.name_mask = self.tokens(emotions)
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) scores of CLIP-normalised images (B, 3, R, R); their softmax is over the names."""
        pictures = to_pictures(images)
        if self.answer == "text":
            return self._named(self.say(pictures, [self.question] * len(pictures), _TOKENS), images.device)
        scores = self._likelihoods(pictures)
        return scores - self._prior(images.shape[-1]).to(scores) if self.calibrate else scores

    def train(self, mode: bool = True) -> QuestionModel:
        """Stay in eval mode."""
        return super().train(False)

    @torch.no_grad()
    def say(self, pictures: Sequence[Image.Image], questions: Sequence[str], length: int) -> list[str]:
        """Return the model's own answers of at most so many tokens, one to each image and question."""
        inputs = self.inputs(pictures, questions)
        pad = self.processor.tokenizer.pad_token_id
        ids = self.language.generate(**inputs, max_new_tokens=length, do_sample=False, pad_token_id=pad)
        texts: list[str] = self.processor.tokenizer.batch_decode(
            ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
        )
        return texts

    def prompt(self, question: str) -> str:
        """Return the text before the answer, ``{}`` being the emotions' names."""
        question = question.replace("{}", ", ".join(self.emotions))
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            chat = [{"role": "user", "content": content}]
            text: str = self.processor.apply_chat_template(chat, add_generation_prompt=True)
            return text
        return f"{getattr(self.processor, 'image_token', '')}\n{question} Answer:"

    def tokens(self, answers: Sequence[str], end: bool = False) -> tuple[Tensor, Tensor]:
        """Return token ids of n answers (n, L), padded on the right, and 1 where they are theirs.

        Args:
            answers: texts.
            end: whether the token that ends an answer follows.
        """
        tokenizer = self.processor.tokenizer
        space = "" if getattr(self.processor, "chat_template", None) else " "
        last = [tokenizer.eos_token_id] if end else []
        rows = [tokenizer(space + answer, add_special_tokens=False).input_ids + last for answer in answers]
        ids = pad_sequence([torch.tensor(row) for row in rows], True, padding_value=tokenizer.pad_token_id)
        mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in rows], True)
        return ids, mask

    def inputs(self, pictures: Sequence[Image.Image], questions: Sequence[str]) -> dict[str, Tensor]:
        """Return what the model takes for B images with a question each, texts padded on the left."""
        prompts = [self.prompt(question) for question in questions]
        start = self.processor.tokenizer.bos_token
        inputs = self.processor(
            text=prompts,
            images=[[picture] for picture in pictures],
            add_special_tokens=not (start and prompts[0].startswith(start)),
            padding=True,
            padding_side="left",  # answers follow at once
            return_tensors="pt",
        )
        return dict(inputs.to(self.language.device, self.language.dtype))

    def _likelihoods(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the mean log-probability of each name's tokens (B, C).

        Image and question pass through the model once; each name goes on from their keys and values. Images of one size
        with one question are alike in length: nothing is padded.
        """
        inputs = self.inputs(pictures, [self.question] * len(pictures))
        output = self.language(**inputs, use_cache=True, **self.keep(1))
        key = "cache" if "cache" in output else "past_key_values"  # transformers' name from 5.24 on, and before
        if output.get(key) is None:
            raise UniEmoError(
                "model.path must be a decoder that goes on from cached keys and values, for answers by likelihood; "
                f"{type(self.language).__name__} is none: add --model.answer text, or give another"
            )
        first = output.logits[:, -1:]  # (B, 1, V)
        columns = []
        for ids, length in zip(self.names.to(first.device), self.name_mask.sum(dim=1).tolist(), strict=True):
            name = ids[:length].expand(len(first), -1)  # (B, L)
            logits = first
            if length > 1:
                rest = self.language(input_ids=name[:, :-1], **{key: copy.deepcopy(output[key])}, use_cache=True).logits
                logits = torch.cat([first, rest], dim=1)  # (B, L, V)
            columns.append(log_probability(logits, name).mean(dim=1))
        return torch.stack(columns, dim=1)

    def _prior(self, size: int) -> Tensor:
        """Return the log-probabilities of the names (C,) for images without content, mean over black, grey and white.

        Subtracting them is contextual calibration (Zhao et al., "Calibrate Before Use", ICML 2021), with an image in
        place of a text without content.
        """
        if size not in self.priors:
            pictures = [Image.new("RGB", (size, size), (level,) * 3) for level in _EMPTY]
            self.priors[size] = self._likelihoods(pictures).softmax(dim=1).mean(dim=0).log()
        return self.priors[size]

    def keep(self, count: int) -> dict[str, int]:
        """Return the argument by which a model computes the logits of the last tokens alone, where it has one."""
        name = "logits_to_keep"
        return {name: count} if name in inspect.signature(self.language.forward).parameters else {}

    def _named(self, texts: Sequence[str], device: torch.device) -> Tensor:
        """Return scores (B, C) of the names in the model's own answers; equal ones for an answer without a name."""
        scores = torch.zeros(len(texts), len(self.emotions), device=device)
        for row, text in zip(scores, texts, strict=True):
            index = named(text, self.emotions)
            if index is None:
                self.unnamed += 1
            else:
                row[index] = 10.0  # a softmax of more than 0.999
        return scores

    def reasons(self, images: Tensor, question: str, emotions: Sequence[str]) -> list[str]:
        """Return the model's own answers about images (B, 3, R, R); ``{emotion}`` in the question is each image's."""
        questions = [question.replace("{emotion}", emotion) for emotion in emotions]
        return self.say(to_pictures(images), questions, _REASON)


def to_pictures(images: Tensor) -> list[Image.Image]:
    """Return CLIP-normalised images (B, 3, R, R) as pictures of 8 bits."""
    pixels = (denormalise(images) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return [Image.fromarray(one) for one in pixels]


def log_probability(logits: Tensor, ids: Tensor) -> Tensor:
    """Return log-probabilities (B, L) of tokens (B, L) under logits (B, L, V)."""
    return logits.float().log_softmax(dim=-1).gather(-1, ids[..., None])[..., 0]


def named(answer: str, emotions: Sequence[str]) -> int | None:
    """Return which of C emotions an answer names first, adjectives included; None for none.

    A word means the name with which it shares the longest beginning, of three letters at least.
    """
    for word in re.findall(r"[a-z]+", answer.lower()):
        shared = [_common(word, name.lower()) for name in emotions]
        if max(shared) >= _STEM:
            return shared.index(max(shared))
    return None


def _common(first: str, second: str) -> int:
    """Return how many letters two words begin with alike."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False)))


def load(path: str, dtype: str, trust: bool) -> tuple[Any, Any]:
    """Return processor and model of a folder or a name on the hub.

    Args:
        path: folder or name.
        dtype: of the weights.
        trust: run the Python files that lie beside the weights, where transformers has no classes of its own for them.

    Raises:
        UniEmoError: there is no such model here or on the hub.
    """
    from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

    try:
        with quiet():
            name = str(resolve(path))
            processor = AutoProcessor.from_pretrained(name, trust_remote_code=trust)
            kind = AutoModelForImageTextToText
            if trust:
                own = getattr(AutoConfig.from_pretrained(name, trust_remote_code=True), "auto_map", {})
                kind = kind if kind.__name__ in own or "AutoModel" not in own else AutoModel
            model = kind.from_pretrained(name, dtype=dtype, trust_remote_code=trust)
    except Exception as error:  # the files are anyone's
        raise UniEmoError(
            f"model.path must be a vision-language model of transformers, a folder or a name on the hub; {path!r} "
            f"could not be loaded ({first_line(error)}): fetch it with `hf download {path}`, or give another; a model "
            "that brings its own Python code needs --trust"
        ) from error
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token
    return processor, model
