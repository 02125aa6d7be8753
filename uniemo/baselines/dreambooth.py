"""DreamBooth (Ruiz et al., 2023): the UNet learns what a rare word means; here by low-rank adapters, through peft."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from uniemo.baselines.generative import GeneratorBaseline
from uniemo.baselines.prompted import WordDiffusion
from uniemo.data.batch import EmotionBatch
from uniemo.distributed import batch_mean
from uniemo.errors import Count, NonNegative, Seed, UniEmoError, Width
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.diffusion.components import ATTENTION
from uniemo.modules.generator import evaluating
from uniemo.modules.optim import RateConfig
from uniemo.modules.random import mixed_seed, sample_integers, sample_noise
from uniemo.vocabulary import Vocabulary

RARE = ("sks", "zwx", "ohwx", "ukj", "qvb", "jzk", "pxq", "wfj")  # words that mean nothing, after diffusers' "sks"
_DIFFUSION = DiffusionConfig(train_prompt="a {} photo")  # "a [identifier] [class noun]"
_OPTIMIZER = RateConfig(lr=1e-4, warmup=0.0)  # of diffusers' example with adapters
_SEED, _ROW, _NOISE, _TIMESTEP = range(17, 21)  # streams of random numbers of the prior images


class AdaptedDiffusion(WordDiffusion):
    """A diffusion model with low-rank adapters on its UNet's attention, prompted with a rare word per emotion."""

    def __init__(self, vocabulary: Vocabulary, config: DiffusionConfig, identifiers: Sequence[str], rank: int) -> None:
        from peft import LoraConfig

        super().__init__(vocabulary, config, identifiers)
        unet = self.diffusion.unet
        unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, init_lora_weights="gaussian", target_modules=[*ATTENTION]))
        for parameter in unet.parameters():
            if parameter.requires_grad:  # adapters learn in full precision where the frozen network is in half
                parameter.data = parameter.data.float()

    @torch.no_grad()
    def prior(self, prompt: str, count: int, seed: int) -> Tensor:
        """Return latents (count, *latent_shape) of images that the model generates without its adapters."""
        diffusion = self.diffusion
        diffusion.unet.disable_adapters()
        seeds = [mixed_seed(seed, _SEED, number) for number in range(count)]
        images = diffusion.generate(None, [prompt] * count, seeds)
        diffusion.unet.enable_adapters()
        device = diffusion.unet.device
        return torch.cat([diffusion.encode(part.to(device) * 2 - 1) for part in images.split(16)])


class DreamBooth(GeneratorBaseline):
    """Teach the UNet a rare word per emotion, with adapters on its attention and one set of them for all emotions.

    The publication tunes all of the UNet for a single subject; adapters are what diffusers' own example trains, and
    what fits memory and checkpoints here.

    Args:
        diffusion: the diffusion model; ``train_prompt`` is "a {} [class noun]", ``{}`` where the identifier goes.
        optimizer: of the adapters.
        rank: of the adapters.
        identifiers: one rare word per emotion, in the order of the data's emotions; null takes words that mean nothing.
        prior_weight: weight of the prior preservation loss, on images that the model generated of the class noun alone
            before training; 0 leaves it out. 1 is the publication's.
        prior_images: how many such images.
        prior_prompt: their prompt, without an identifier.
        seed: of first weights, noise and prior images.

    Raises:
        UniEmoError: a number out of its range.
    """

    method = "dreambooth"
    model: AdaptedDiffusion

    def __init__(
        self,
        diffusion: DiffusionConfig = _DIFFUSION,
        optimizer: RateConfig = _OPTIMIZER,
        rank: Width = 4,
        identifiers: list[str] | None = None,
        prior_weight: NonNegative = 0.0,
        prior_images: Count = 200,
        prior_prompt: str = "a photo",
        seed: Seed = 0,
    ) -> None:
        own = {
            "rank": rank,
            "identifiers": identifiers,
            "prior_weight": prior_weight,
            "prior_images": prior_images,
            "prior_prompt": prior_prompt,
        }
        super().__init__(diffusion, optimizer, own, seed)
        self._prior: Tensor | None = None  # latents

    def make_model(self, vocabulary: Vocabulary) -> AdaptedDiffusion:
        """Return the model; its adapters alone learn.

        Raises:
            UniEmoError: not one identifier for each emotion.
        """
        emotions = vocabulary.emotions
        words = self.hparams.identifiers or RARE[: len(emotions)]
        if len(set(words)) != len(emotions):
            raise UniEmoError(
                f"model.identifiers must be {len(emotions)} different words, one for each of {', '.join(emotions)}; "
                f"got {', '.join(words)}"
            )
        return AdaptedDiffusion(vocabulary, self.diffusion_config, words, self.hparams.rank)

    def on_fit_start(self) -> None:
        """Generate the prior images, before the first step or again where a run is resumed."""
        super().on_fit_start()
        if self.hparams.prior_weight > 0:
            with evaluating(self.model):
                self._prior = self.model.prior(self.hparams.prior_prompt, self.hparams.prior_images, self.seed)

    def errors(self, batch: EmotionBatch, step: int) -> Tensor:
        """Return the denoising errors (B,) under the prompts with the emotions' identifiers."""
        return self.model.errors(batch, self.seed, step)

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean denoising error, with prior preservation that of as many prior images too."""
        total, terms = super().losses(batch)
        if self._prior is not None:
            terms["prior"] = batch_mean(self._prior_errors(self._prior, batch.sample_id))
            total = total + self.hparams.prior_weight * terms["prior"]
        return total, terms

    def _prior_errors(self, latents: Tensor, ids: Tensor) -> Tensor:
        """Return the denoising errors (B,) of prior images, sampled by the ids (B,) of the batch's own."""
        diffusion, step, device = self.model.diffusion, self.global_step, latents.device
        rows = sample_integers(ids, len(latents), self.seed, step, _ROW).to(device)
        noise = sample_noise(ids, diffusion.latent_shape, self.seed, step, _NOISE).to(device)
        times = sample_integers(ids, diffusion.num_timesteps, self.seed, step, _TIMESTEP).to(device)
        return diffusion.loss(latents[rows], None, noise, times, [self.hparams.prior_prompt] * len(ids))
