"""An instruction-tuned vision-language model, asked for the emotion. Nothing is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import Any, Literal

import torch
from PIL import Image
from torch import Tensor, nn

from uniemo.baselines.base import ClassifierBaseline
from uniemo.data.transforms import denormalise
from uniemo.errors import Seed, UniEmoError, first_line
from uniemo.miniature.paths import resolve
from uniemo.models.diffusion.components import quiet
from uniemo.modules.accuracy import print_once
from uniemo.vocabulary import Vocabulary

QUESTION = "Which of these emotions does this image evoke: {}? Answer with one word."  # ours
_STEM = 3  # letters that a word must share with a name to mean it: sad, sadly and sadness
_TOKENS = 12  # of an answer


class QuestionModel(nn.Module):
    """A frozen vision-language model, a causal decoder; arguments as in :class:`VisionLanguage`."""

    def __init__(
        self,
        path: str,
        emotions: Sequence[str],
        question: str,
        answer: Literal["likelihood", "generate"],
        dtype: Literal["auto", "float32", "bfloat16", "float16"],
    ) -> None:
        super().__init__()
        self.processor, self.language = load(path, dtype)
        self.emotions = tuple(emotions)
        self.answer = answer
        self.unnamed = 0  # answers so far that named no emotion
        self.prompt, space = self._prompt(question.replace("{}", ", ".join(emotions)))
        tokenizer = self.processor.tokenizer
        self.names = [tokenizer(f"{space}{name}", add_special_tokens=False).input_ids for name in emotions]
        self.requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return (B, C) scores of CLIP-normalised images (B, 3, R, R); their softmax is over the names."""
        inputs = self._inputs(images)
        return self._likelihoods(inputs) if self.answer == "likelihood" else self._answers(inputs)

    def train(self, mode: bool = True) -> QuestionModel:
        """Stay in eval mode."""
        return super().train(False)

    def _prompt(self, question: str) -> tuple[str, str]:
        """Return the text before the answer, and what stands between both."""
        if getattr(self.processor, "chat_template", None):
            content = [{"type": "image"}, {"type": "text", "text": question}]
            chat = [{"role": "user", "content": content}]
            return self.processor.apply_chat_template(chat, add_generation_prompt=True), ""
        return f"{getattr(self.processor, 'image_token', '')}\n{question} Answer:", " "

    def _inputs(self, images: Tensor) -> dict[str, Tensor]:
        """Return what the model takes for B images and the prompt, alike in length."""
        pixels = (denormalise(images) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        start = self.processor.tokenizer.bos_token
        inputs = self.processor(
            text=[self.prompt] * len(pixels),
            images=[[Image.fromarray(one)] for one in pixels],
            add_special_tokens=not (start and self.prompt.startswith(start)),
            return_tensors="pt",
        )
        return dict(inputs.to(images.device, self.language.dtype))

    def _likelihoods(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the mean log-probability of each name's tokens (B, C)."""
        columns = []
        for name in self.names:
            logits = self.language(**continued(inputs, name)).logits[:, -len(name) - 1 : -1]  # (B, tokens, V)
            tokens = torch.tensor(name, device=logits.device).expand(len(logits), -1)[..., None]
            columns.append(logits.float().log_softmax(dim=-1).gather(-1, tokens).mean(dim=(1, 2)))
        return torch.stack(columns, dim=1)

    def _answers(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return scores (B, C) of the names in the model's own answers; equal ones for an answer without a name."""
        tokenizer = self.processor.tokenizer
        filler = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
        ids = self.language.generate(**inputs, max_new_tokens=_TOKENS, do_sample=False, pad_token_id=filler)
        texts = tokenizer.batch_decode(ids[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        scores = torch.zeros(len(texts), len(self.emotions), device=ids.device)
        for row, text in zip(scores, texts, strict=True):
            index = named(text, self.emotions)
            if index is None:
                self.unnamed += 1
            else:
                row[index] = 10.0  # a softmax of more than 0.999
        return scores


def continued(inputs: dict[str, Tensor], name: Sequence[int]) -> dict[str, Tensor]:
    """Return a model's inputs with the token ids of a name behind the text (B, L)."""
    ids = inputs["input_ids"]
    result = dict(inputs)
    for key, value in inputs.items():
        if value.shape == ids.shape:  # the mask continues with ones, kinds of tokens with text's zeros
            more = torch.full((len(ids), len(name)), int(key == "attention_mask"), dtype=value.dtype)
            result[key] = torch.cat([value, more.to(value.device)], dim=1)
    result["input_ids"][:, ids.shape[1] :] = torch.tensor(list(name), device=ids.device)
    return result


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


def load(path: str, dtype: str) -> tuple[Any, Any]:
    """Return processor and model of a folder or a name on the hub.

    Raises:
        UniEmoError: there is no such model here or on the hub.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    try:
        with quiet():
            name = str(resolve(path))
            own = {"trust_remote_code": False}
            processor = AutoProcessor.from_pretrained(name, **own)
            return processor, AutoModelForImageTextToText.from_pretrained(name, dtype=dtype, **own)
    except Exception as error:  # the files are anyone's
        raise UniEmoError(
            f"model.path must be a vision-language model of transformers, a folder or a name on the hub; {path!r} "
            f"could not be loaded ({first_line(error)}): fetch it with `hf download {path}`, or give another"
        ) from error


class VisionLanguage(ClassifierBaseline):
    """Ask a vision-language model of transformers for the emotion.

    It sees the images as the data module cuts them: set ``data.image_size`` to what the model takes.

    Args:
        path: folder, or name on the hub, for example ``llava-hf/llava-1.5-7b-hf``.
        question: ``{}`` stands for the names of the emotions.
        answer: ``likelihood`` compares the names' mean log-probability per token, so that long names are not at a
            disadvantage, in one pass per emotion; ``generate`` looks for a name in the model's own answer. An answer
            that names none counts as the first emotion and is counted on screen.
        dtype: of the weights; "auto" takes that of the files.
        seed: without effect, nothing is random.

    Raises:
        UniEmoError: no path, or a question without ``{}``.
    """

    method = "vision_language"
    trains = False
    model: QuestionModel

    def __init__(
        self,
        path: str | None = None,
        question: str = QUESTION,
        answer: Literal["likelihood", "generate"] = "likelihood",
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        seed: Seed = 0,
    ) -> None:
        if path is None:
            raise UniEmoError(
                "model.path must name a vision-language model; got null: "
                "set --model.path to a folder or to a name on the hub such as llava-hf/llava-1.5-7b-hf"
            )
        if "{}" not in question:
            raise UniEmoError(f"model.question must hold {{}} for the emotions; got {question!r}")
        super().__init__({"path": path, "question": question, "answer": answer, "dtype": dtype}, None, seed)

    def make_model(self, vocabulary: Vocabulary) -> QuestionModel:
        """Load the model."""
        own = self.hparams
        return QuestionModel(own.path, vocabulary.emotions, own.question, own.answer, own.dtype)

    def backbones(self) -> dict[str, str]:
        """Return the model's name."""
        return {"vision_language": self.hparams.path}

    def on_test_epoch_end(self) -> None:
        """Print how many answers named no emotion, and log the accuracy."""
        if self.model.unnamed:
            first = self.vocabulary.emotions[0]
            print_once(f"{self.model.unnamed} answers of this process named no emotion; they count as {first}")
        super().on_test_epoch_end()
