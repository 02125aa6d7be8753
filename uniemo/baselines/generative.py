"""The base of baselines that generate: the frozen diffusion model, validation by its loss, generation by seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from uniemo.checkpoint import BASELINE
from uniemo.data.batch import EmotionBatch
from uniemo.distributed import batch_mean
from uniemo.errors import Seed, UniEmoError
from uniemo.metrics.split import SplitMean
from uniemo.models.diffusion import DiffusionConfig, load_diffusion
from uniemo.models.emotion_space import Sampler, Weights, emotion_weights
from uniemo.models.losses import Condition
from uniemo.models.state import load_trained_state, trained_state
from uniemo.modules.base import EmotionModule
from uniemo.modules.generator import evaluating, generate, latent_encoder, sampling
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary

Mixes = Sequence[dict[int, float]]  # weights by emotion of each image, summing to one


class EmotionDiffusion(nn.Module):
    """A frozen diffusion model and what a method adds so that it evokes emotions.

    Args:
        vocabulary: names of the emotions.
        config: the diffusion model; its ``train_prompt`` is the prompt with ``{}`` where the emotion goes.
    """

    def __init__(self, vocabulary: Vocabulary, config: DiffusionConfig) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.diffusion = load_diffusion(config)

    @abstractmethod
    def texts(
        self, mixes: Mixes, seeds: Sequence[int], templates: Sequence[str], kind: Sampler | None = None
    ) -> tuple[list[str], Condition | None]:
        """Return prompts and condition of images, each from its own mix and seed alone.

        Args:
            mixes: n weights by emotion, each summing to one.
            seeds: n seeds.
            templates: n prompts with ``{}`` where the emotion goes.
            kind: how features are sampled, where a method has any; None is the configuration's.

        Returns:
            n prompts, and one (n, W) per text encoder to stand at their ``{}``; None for plain prompts.

        Raises:
            UniEmoError: a mix of several emotions where a method has no meaning for it.
        """

    @torch.no_grad()
    def generate(
        self,
        weights: Sequence[Weights],
        seeds: Sequence[int],
        prompts: Sequence[str] | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        kind: Sampler | None = None,
        scheduler: str | None = None,
        batch_size: int = 16,
    ) -> Tensor:
        """Generate one image per seed; arguments as in :meth:`uniemo.models.uniemo.UniEmoModel.generate`.

        Returns:
            (n, 3, H, W) in [0, 1] on the CPU.
        """
        mixes = [emotion_weights(one, self.vocabulary) for one in weights]
        templates = prompts or [self.diffusion.config.train_prompt] * len(seeds)
        texts, condition = self.texts(mixes, seeds, templates, kind)
        return self.diffusion.generate(condition, texts, seeds, steps, guidance, scheduler, batch_size=batch_size)


class GeneratorBaseline(EmotionModule):
    """A method that generates images that evoke an emotion; it cannot classify.

    ``val/loss`` is the mean denoising error of the validation images, each with the same noise and timestep in every
    epoch; ``best.ckpt`` is that of the lowest. Tests have generation metrics alone
    (:class:`uniemo.callbacks.generation_metrics.GenerationMetrics`).

    Args:
        diffusion: the frozen diffusion model.
        optimizer: its settings; None for a method that does not train.
        hyperparameters: the constructor's other arguments.
        seed: of first weights, noise and every other random choice in training.

    Raises:
        UniEmoError: adapters of UniEmo's own asked for, which are not the method's.
    """

    stage = BASELINE
    monitors = ("val/loss",)
    model: EmotionDiffusion  # from setup on

    def __init__(
        self, diffusion: DiffusionConfig, optimizer: RateConfig | None, hyperparameters: Mapping[str, Any], seed: Seed
    ) -> None:
        if diffusion.lora_rank > 0:
            raise UniEmoError(
                f"model.diffusion.lora_rank must be 0 for a baseline; got {diffusion.lora_rank}: "
                "the method dreambooth has adapters, model.rank"
            )
        super().__init__({"diffusion": diffusion, **hyperparameters}, optimizer, seed)
        self.diffusion_config = diffusion
        self._validation = SplitMean()

    def input_sizes(self) -> dict[str, int]:
        """Return the image size that the diffusion model generates, in pixels."""
        return {"diffusion": self.model.diffusion.image_size}

    def setup(self, stage: str) -> None:
        """Build the model; give its VAE to data that caches latents (Lightning's hook).

        Raises:
            UniEmoError: the best epoch is to be that of the highest accuracy.
        """
        trains = stage == "fit" and self.trains
        monitors = [getattr(callback, "monitor", None) for callback in self.trainer.checkpoint_callbacks]
        if trains and "val/accuracy" in monitors:
            raise UniEmoError(
                "best_checkpoint.monitor must be val/loss for a method that generates images; got val/accuracy: "
                "add --best_checkpoint.monitor val/loss --best_checkpoint.mode min"
            )
        super().setup(stage)
        if trains and self.trainer.datamodule.cached_latents:
            self.trainer.datamodule.set_latent_encoder(latent_encoder(self))

    # Steps.

    @abstractmethod
    def errors(self, batch: EmotionBatch, step: int) -> Tensor:
        """Return each image's denoising error (B,) under its emotion.

        Args:
            batch: with targets or latents.
            step: decides, with the seed and the sample id, on noise and timesteps.
        """

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean denoising error."""
        total = batch_mean(self.errors(batch, self.global_step))
        return total, {"diffusion": total}

    def on_validation_start(self) -> None:
        """Print nothing: there are no classes to match."""

    on_test_start = on_validation_start

    def validation_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Collect the images' denoising errors."""
        with evaluating(self.model):
            self._validation.to(self.device).update(self.errors(batch, 0).unsqueeze(1), batch.sample_id)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss``."""
        self.log("val/loss", self._validation.compute(), prog_bar=True)
        self._validation.reset()

    def test_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Do nothing: callbacks measure the generated images."""

    def on_test_epoch_end(self) -> None:
        """Log nothing, see :meth:`test_step`."""

    def predict_step(self, batch: EmotionBatch, batch_idx: int) -> dict[str, Any]:
        """Refuse: there is no emotion to predict."""
        raise UniEmoError(
            f"uniemo predict needs a method that classifies; {self.method} generates images: take uniemo generate"
        )

    # Generation (callbacks/protocol.py).

    def prepare_generation(self) -> None:
        """Do nothing: generation needs the weights alone."""

    generate = generate
    sampling = sampling

    # Checkpoints.

    def trained_state(self) -> dict[str, Tensor]:
        """Return everything but the frozen networks; of the diffusion model adapters alone."""
        return trained_state(self.model, clip_tuned=False)

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Load what :meth:`trained_state` returned."""
        load_trained_state(self.model, state, shared_only=False)
