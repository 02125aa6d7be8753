"""Visual instruction tuning as EmoVIT does it (Xie et al., CVPR 2024), of adapters in any vision-language model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn

from uniemo.baselines.question_model import QuestionModel, log_probability, to_pictures
from uniemo.baselines.vision_language import QUESTION, QuestionBaseline
from uniemo.data.batch import EmotionBatch
from uniemo.distributed import batch_mean
from uniemo.errors import PartialShare, Seed, Share, UniEmoError, Width, first_line
from uniemo.modules.optim import RateConfig
from uniemo.modules.random import sample_uniform
from uniemo.vocabulary import Vocabulary, attribute_text

_OPTIMIZER = RateConfig(lr=2e-4, warmup=0.03)  # LLaVA's recipe for adapters
_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")  # of attention, as transformers' decoders call them
_IMAGE_TOWER = r".*(vision|visual).*"  # part of the names of its layers in transformers
_SLOTS = ("emotion", "scene", "objects")  # of templates
_TEMPLATE = 22  # stream of random numbers


@dataclass(frozen=True)
class Template:
    """A question and its answer in training.

    Attributes:
        question: ``{emotion}`` is the image's, ``{}`` the names of all emotions.
        answer: with ``{emotion}``, ``{scene}`` and ``{objects}``, the image's; one that lacks what a template names is
            not asked its question.

    Raises:
        UniEmoError: any other name in braces.
    """

    question: str
    answer: str

    def __post_init__(self) -> None:
        """Check the names in braces."""
        unknown = self.slots() - {*_SLOTS}
        if unknown:
            raise UniEmoError(
                f"model.templates may hold {{}} and {', '.join(f'{{{slot}}}' for slot in _SLOTS)}; got "
                f"{{{min(unknown)}}}: correct it"
            )

    def slots(self) -> set[str]:
        """Return the names in braces."""
        return set(re.findall(r"{(\w+)}", self.question + self.answer))


class TunedModel(QuestionModel):
    """A vision-language model with adapters on its decoder's attention, which alone learn.

    Args:
        path: of the model.
        emotions: C names.
        question: with ``{}`` for the names.
        answer: see :class:`uniemo.baselines.vision_language.VisionLanguage`.
        dtype: of the frozen weights; adapters are float32.
        trust: run the Python files that lie beside the weights.
        rank: of the adapters.
        alpha: their scale is alpha / rank.
        dropout: share of their inputs left out in training.
        checkpointing: recompute activations in the backward pass.

    Raises:
        UniEmoError: the decoder has none of these layers.
    """

    def __init__(
        self,
        path: str,
        emotions: Sequence[str],
        question: str,
        answer: Literal["likelihood", "text"],
        dtype: Literal["auto", "float32", "bfloat16", "float16"],
        trust: bool,
        rank: int,
        alpha: int,
        dropout: float,
        checkpointing: bool,
    ) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        super().__init__(path, emotions, question, answer, False, dtype, trust)
        adapters = LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=[*_PROJECTIONS],
            exclude_modules=_IMAGE_TOWER,
        )
        try:
            inject_adapter_in_model(adapters, self.language)
        except ValueError as error:
            raise UniEmoError(
                f"model.path must have a decoder with the layers {', '.join(_PROJECTIONS)} for adapters; {path!r} has "
                f"none ({first_line(error)}): give another"
            ) from error
        for parameter in self.language.parameters():
            if parameter.requires_grad:  # adapters learn in full precision where the frozen network is in half
                parameter.data = parameter.data.float()
        if checkpointing:
            self.language.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def train(self, mode: bool = True) -> TunedModel:
        """Switch the adapters' dropout and checkpointing; these decoders have no dropout of their own."""
        nn.Module.train(self, mode)
        return self

    def errors(self, pictures: Sequence[Image.Image], questions: Sequence[str], answers: Sequence[str]) -> Tensor:
        """Return the mean negative log-probability (B,) of each answer's tokens, its end included."""
        inputs = self.inputs(pictures, questions)
        ids, mask = (part.to(inputs["input_ids"].device) for part in self.tokens(answers, end=True))  # (B, L)
        length = ids.shape[1]
        logits = self.language(**continued(inputs, ids, mask), use_cache=False, **self.keep(length + 1)).logits
        log = log_probability(logits[:, -length - 1 : -1], ids)  # (B, L)
        return -(log * mask).sum(dim=1) / mask.sum(dim=1)


def continued(inputs: dict[str, Tensor], ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """Return a model's inputs (B, P) with answers (B, L) behind the questions; ``mask`` is 1 on the answers' tokens."""
    more = {"input_ids": ids, "attention_mask": mask}
    shape = inputs["input_ids"].shape
    return {  # whatever else there is for each token says what kind it is, and zero is text
        name: torch.cat([value, more.get(name, torch.zeros_like(ids)).to(value)], 1) if value.shape == shape else value
        for name, value in inputs.items()
    }


class VisionLanguageLora(QuestionBaseline):
    """Tune a vision-language model's adapters on questions about the training images.

    Each visit of an image asks ``question``, answered by the emotion's name, or one of ``templates``. EmoVIT's
    conversations and reasons were written by a language model from EmoSet's captions and attributes; here templates
    state the attributes. It tunes InstructBLIP's query transformer; adapters suit any decoder, and checkpoints hold
    them alone. The loss is on answers, never on questions; votes (``data.target``) take no part.

    Args:
        path: folder, or name on the hub.
        question: ``{}`` stands for the names of the emotions.
        templates: other questions and answers; null asks ``question`` alone.
        template_share: how often an image is asked one of them.
        optimizer: of the adapters.
        rank: of the adapters.
        alpha: their scale is alpha / rank.
        dropout: share of the adapters' inputs left out in training.
        checkpointing: recompute activations in the backward pass: less memory, a third more time.
        answer: in validation and test, see :class:`uniemo.baselines.vision_language.VisionLanguage`.
        reason: likewise.
        dtype: of the frozen weights; "auto" takes that of the files.
        seed: of first weights, dropout and the questions asked.

    Raises:
        UniEmoError: no path, or a question without ``{}``.
    """

    method = "vision_language_lora"
    model: TunedModel

    def __init__(
        self,
        path: str | None = None,
        question: str = QUESTION,
        templates: list[Template] | None = None,
        template_share: Share = 0.5,
        optimizer: RateConfig = _OPTIMIZER,
        rank: Width = 16,
        alpha: Width = 32,
        dropout: PartialShare = 0.05,
        checkpointing: bool = False,
        answer: Literal["likelihood", "text"] = "likelihood",
        reason: str | None = None,
        dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto",
        seed: Seed = 0,
    ) -> None:
        own = {
            "path": path,
            "question": question,
            "templates": [vars(template) for template in templates or []],
            "template_share": template_share,
            "rank": rank,
            "alpha": alpha,
            "dropout": dropout,
            "checkpointing": checkpointing,
            "answer": answer,
            "reason": reason,
            "dtype": dtype,
        }
        super().__init__(own, optimizer, seed)
        self.templates = templates or []

    def make_model(self, vocabulary: Vocabulary) -> TunedModel:
        """Load the model; its adapters alone learn."""
        own = self.hparams
        shape = (own.rank, own.alpha, own.dropout, own.checkpointing)
        return TunedModel(own.path, vocabulary.emotions, own.question, own.answer, own.dtype, self.trust, *shape)

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean negative log-probability of the answers' tokens."""
        questions, answers = self.conversations(batch, self.global_step)
        loss = batch_mean(self.model.errors(to_pictures(batch.images), questions, answers))
        return loss, {"answer": loss}

    def conversations(self, batch: EmotionBatch, step: int) -> tuple[list[str], list[str]]:
        """Return a question and its answer for each of B images, chosen by seed, step and sample id."""
        chances = sample_uniform(batch.sample_id, self.seed, step, _TEMPLATE).tolist()  # in [0, 1)
        share, pairs = self.hparams.template_share, []
        for row, chance in enumerate(chances):
            names = self._names(batch, row)
            fitting = [one for one in self.templates if all(names[slot] for slot in one.slots())]
            chosen = Template(self.hparams.question, "{emotion}")
            if fitting and chance < share:
                chosen = fitting[int(chance / share * len(fitting))]
            pairs.append(tuple(_filled(text, names) for text in (chosen.question, chosen.answer)))
        questions, answers = zip(*pairs, strict=True)
        return [*questions], [*answers]

    def _names(self, batch: EmotionBatch, row: int) -> dict[str, str]:
        """Return what is known of an image, empty where nothing is."""
        data, scene, objects = self.data_vocabulary, int(batch.scene[row]), batch.objects[row].nonzero().flatten()
        return {
            "emotion": data.emotions[int(batch.emotion[row])],
            "scene": attribute_text(data.scenes[scene]) if scene >= 0 else "",
            "objects": ", ".join(attribute_text(data.objects[index]) for index in objects),
        }


def _filled(text: str, names: dict[str, str]) -> str:
    """Return a template's text with the names of an image."""
    for key, value in names.items():
        text = text.replace(f"{{{key}}}", value)
    return text
