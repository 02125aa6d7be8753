"""Textual inversion (Gal et al., 2023): one learned token per emotion, everything else frozen."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from uniemo.baselines.generative import EmotionDiffusion, GeneratorBaseline, Mixes
from uniemo.data.batch import EmotionBatch
from uniemo.errors import Seed, UniEmoError
from uniemo.models.diffusion import SLOT, DiffusionConfig
from uniemo.models.emotion_space import Sampler
from uniemo.models.losses import Condition
from uniemo.modules.optim import RateConfig
from uniemo.modules.random import sample_integers
from uniemo.modules.stage_losses import denoising_errors
from uniemo.vocabulary import Vocabulary, attribute_text

_DIFFUSION = DiffusionConfig(train_prompt="a photo of {}")
_OPTIMIZER = RateConfig(lr=5e-3, warmup=0.0)  # the publication's rate
_TEMPLATE = 16  # stream of random numbers


class EmotionTokens(EmotionDiffusion):
    """A frozen diffusion model and ``tokens`` of the emotions, (C, W) for each of its text encoders.

    Their first values are the embeddings of the emotions' names.
    """

    def __init__(self, vocabulary: Vocabulary, config: DiffusionConfig) -> None:
        super().__init__(vocabulary, config)
        names = [self.diffusion.token_embedding(attribute_text(name)) for name in vocabulary.emotions]
        self.tokens = nn.ParameterList(
            nn.Parameter(torch.stack(rows).detach().float()) for rows in zip(*names, strict=True)
        )

    def condition(self, emotion: Tensor) -> Condition:
        """Return the tokens of (B,) emotions, one (B, W) per text encoder."""
        return tuple(tokens[emotion] for tokens in self.tokens)

    def texts(
        self, mixes: Mixes, seeds: Sequence[int], templates: Sequence[str], kind: Sampler | None = None
    ) -> tuple[list[str], Condition | None]:
        """Return the templates, and the emotions' tokens; of a mix their weighted sum."""
        weights = torch.zeros(len(mixes), len(self.vocabulary.emotions))
        for row, mix in enumerate(mixes):
            for emotion, weight in mix.items():
                weights[row, emotion] = weight
        return list(templates), tuple(weights.to(tokens) @ tokens for tokens in self.tokens)


class TextualInversion(GeneratorBaseline):
    """Learn one token per emotion by the denoising error of its images.

    Args:
        diffusion: the frozen diffusion model; ``train_prompt`` holds the token at ``{}``.
        optimizer: of the tokens.
        templates: prompts with ``{}`` of which each training image gets one at each visit (the publication samples from
            a list such as "a photo of a {}"); null takes ``diffusion.train_prompt`` for all.
        seed: of noise and of the sampled prompts.

    Raises:
        UniEmoError: a template without ``{}``.
    """

    method = "textual_inversion"
    model: EmotionTokens

    def __init__(
        self,
        diffusion: DiffusionConfig = _DIFFUSION,
        optimizer: RateConfig = _OPTIMIZER,
        templates: list[str] | None = None,
        seed: Seed = 0,
    ) -> None:
        for template in templates or []:
            if SLOT not in template:
                raise UniEmoError(f"model.templates must hold {SLOT} for the token; got {template!r}")
        super().__init__(diffusion, optimizer, {"templates": templates}, seed)
        self.templates = templates

    def make_model(self, vocabulary: Vocabulary) -> EmotionTokens:
        """Return the model; the tokens alone learn."""
        return EmotionTokens(vocabulary, self.diffusion_config)

    def errors(self, batch: EmotionBatch, step: int) -> Tensor:
        """Return the denoising errors (B,) with the tokens of the images' emotions."""
        condition, prompts = self.model.condition(batch.emotion), self.prompts(batch.sample_id, step)
        return denoising_errors(self.model.diffusion, condition, batch, self.seed, step, prompts)

    def prompts(self, sample_id: Tensor, step: int) -> list[str] | None:
        """Return a sampled template for each of (B,) images; None where all have the same."""
        if not self.templates:
            return None
        chosen = sample_integers(sample_id, len(self.templates), self.seed, step, _TEMPLATE)
        return [self.templates[index] for index in chosen.tolist()]
