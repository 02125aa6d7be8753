"""Stable Diffusion as it is, prompted with the emotion's name."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from uniemo.baselines.generative import EmotionDiffusion, GeneratorBaseline, Mixes
from uniemo.data.batch import EmotionBatch
from uniemo.errors import Seed, UniEmoError
from uniemo.models.diffusion import SLOT, DiffusionConfig
from uniemo.models.emotion_space import Sampler
from uniemo.models.losses import Condition
from uniemo.modules.stage_losses import denoising_errors
from uniemo.vocabulary import Vocabulary, attribute_text

_DIFFUSION = DiffusionConfig(train_prompt="a photo of {}")  # CLIP's own wording (Radford et al., 2021)


class WordDiffusion(EmotionDiffusion):
    """A diffusion model whose prompt names the emotion by a word, one of C."""

    def __init__(self, vocabulary: Vocabulary, config: DiffusionConfig, words: Sequence[str]) -> None:
        super().__init__(vocabulary, config)
        self.words = tuple(words)

    def texts(
        self, mixes: Mixes, seeds: Sequence[int], templates: Sequence[str], kind: Sampler | None = None
    ) -> tuple[list[str], Condition | None]:
        """Return the prompts with the emotion's word at ``{}``; no mixtures."""
        if any(len(mix) != 1 for mix in mixes):
            raise UniEmoError("this method generates one emotion at a time; got a mixture: give one --emotion")
        return self.prompts([next(iter(mix)) for mix in mixes], templates), None

    def prompts(self, emotions: Sequence[int], templates: Sequence[str]) -> list[str]:
        """Return each template with its emotion's word."""
        pairs = zip(emotions, templates, strict=True)
        return [template.replace(SLOT, self.words[emotion]) for emotion, template in pairs]

    def errors(self, batch: EmotionBatch, seed: int, step: int) -> Tensor:
        """Return the denoising errors (B,) under the prompts of the images' emotions."""
        prompts = self.prompts(batch.emotion.tolist(), [self.diffusion.config.train_prompt] * len(batch.emotion))
        return denoising_errors(self.diffusion, None, batch, seed, step, prompts)


class PromptedDiffusion(GeneratorBaseline):
    """The pre-trained diffusion model, prompted with the name of the emotion; nothing is trained.

    Args:
        diffusion: the diffusion model; ``train_prompt`` is the prompt, ``{}`` where the emotion's name goes.
        seed: of the noise with which ``uniemo validate`` measures its loss.
    """

    method = "prompted"
    trains = False
    model: WordDiffusion

    def __init__(self, diffusion: DiffusionConfig = _DIFFUSION, seed: Seed = 0) -> None:
        super().__init__(diffusion, None, {}, seed)

    def make_model(self, vocabulary: Vocabulary) -> WordDiffusion:
        """Return the frozen model."""
        return WordDiffusion(vocabulary, self.diffusion_config, [attribute_text(name) for name in vocabulary.emotions])

    def errors(self, batch: EmotionBatch, step: int) -> Tensor:
        """Return the denoising errors (B,) under the prompts of the images' emotions."""
        return self.model.errors(batch, self.seed, step)
