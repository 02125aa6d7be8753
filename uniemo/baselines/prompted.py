"""Stable Diffusion as it is, prompted with the emotion's name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from uniemo.baselines.generation import EmotionDiffusion, GenerationBaseline, single_emotions
from uniemo.data.batch import EmotionBatch
from uniemo.models.diffusion import SLOT, DiffusionConfig
from uniemo.models.losses import Condition
from uniemo.modules.terms import denoising_errors
from uniemo.vocabulary import Vocabulary, attribute_text

_DIFFUSION = DiffusionConfig(train_prompt="a photo of {}")  # CLIP's own wording (Radford et al., 2021)


class NamedEmotions(EmotionDiffusion):
    """A frozen diffusion model that is told the emotion by its name, in words."""

    def texts(
        self,
        mixes: Sequence[dict[int, float]],
        seeds: Sequence[int],
        template: str,
        kind: Literal["bank", "gaussian"] | None = None,
    ) -> tuple[list[str], Condition | None]:
        """Return the prompts with the emotion's name at ``{}``; the other arguments as in the class above."""
        return self.prompts(single_emotions(mixes, PromptedDiffusion.method), template), None

    def prompts(self, emotions: Sequence[int], template: str) -> list[str]:
        """Return the template with each emotion's name."""
        names = [attribute_text(self.vocabulary.emotions[emotion]) for emotion in emotions]
        return [template.replace(SLOT, name) for name in names]


class PromptedDiffusion(GenerationBaseline):
    """The pre-trained diffusion model, prompted with the name of the emotion; nothing is trained.

    Args:
        diffusion: the diffusion model; ``train_prompt`` is the prompt, ``{}`` where the emotion's name goes.
        seed: of the noise with which ``uniemo validate`` measures its loss.
    """

    method = "prompted"
    trains = False
    model: NamedEmotions

    def __init__(self, diffusion: DiffusionConfig = _DIFFUSION, seed: int = 0) -> None:
        super().__init__(diffusion, None, {}, seed)

    def make_model(self, vocabulary: Vocabulary) -> NamedEmotions:
        """Return the frozen model."""
        return NamedEmotions(vocabulary, self.diffusion_config)

    def errors(self, batch: EmotionBatch, step: int) -> Tensor:
        """Return the denoising errors (B,) under the prompts of the images' emotions."""
        diffusion = self.model.diffusion
        prompts = self.model.prompts(batch.emotion.tolist(), diffusion.config.train_prompt)
        return denoising_errors(diffusion, None, batch, self.seed, step, prompts)
