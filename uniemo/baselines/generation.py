"""What baselines that draw images share: the frozen diffusion model, validation by its loss, drawing by seed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from uniemo.checkpoint import BASELINE, plain_config
from uniemo.data.batch import EmotionBatch
from uniemo.distributed import batch_mean
from uniemo.errors import UniEmoError
from uniemo.metrics.split import SplitMean
from uniemo.models.diffusion import DiffusionConfig, load_diffusion
from uniemo.models.emotion_space import Weights, emotion_weights
from uniemo.models.losses import Condition
from uniemo.models.state import load_trained_state, trained_state
from uniemo.modules.drawing import DrawingModule
from uniemo.modules.emotion import EmotionModule
from uniemo.modules.latents import latent_encoder
from uniemo.modules.optim import RateConfig
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.base import EmotionDataModule

_MONITOR = "val/loss"


class EmotionDiffusion(nn.Module):
    """A frozen diffusion model and what a method adds so that it evokes emotions.

    Args:
        vocabulary: names of the emotions.
        config: the diffusion model; its ``train_prompt`` is the prompt with ``{}`` where the emotion goes.

    Attributes:
        vocabulary: as given.
        diffusion: the frozen model.
    """

    def __init__(self, vocabulary: Vocabulary, config: DiffusionConfig) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.diffusion = load_diffusion(config)

    @abstractmethod
    def texts(
        self,
        mixes: Sequence[dict[int, float]],
        seeds: Sequence[int],
        template: str,
        kind: Literal["bank", "gaussian"] | None = None,
    ) -> tuple[list[str], Condition | None]:
        """Return what the diffusion model is told, for each image by its own mix and seed alone.

        Args:
            mixes: n weights by emotion, each summing to one.
            seeds: n seeds.
            template: prompt with ``{}`` where the emotion goes.
            kind: how features are drawn, where a method draws any; None is the configuration's.

        Returns:
            n prompts, and one (n, W) per text encoder to stand at their ``{}``; None where the prompts say all.

        Raises:
            UniEmoError: a mix of several emotions where a method has no meaning for it.
        """

    @torch.no_grad()
    def generate(
        self,
        weights: Sequence[Weights],
        seeds: Sequence[int],
        prompts: str | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        kind: Literal["bank", "gaussian"] | None = None,
        scheduler: str | None = None,
        batch_size: int = 16,
    ) -> Tensor:
        """Generate one image per seed; an image does not depend on the others.

        Args:
            weights: n weights by emotion, scaled to sum to one.
            seeds: n seeds.
            prompts: one for all, with ``{}`` where the emotion goes; None is the training prompt.
            steps: denoising steps; None is the configuration's, as for the next ones.
            guidance: scale of classifier-free guidance.
            kind: how features are drawn, where a method draws any.
            scheduler: class name of a diffusers scheduler.
            batch_size: images denoised at once.

        Returns:
            (n, 3, H, W) in [0, 1] on the CPU.
        """
        mixes = [emotion_weights(one, self.vocabulary) for one in weights]
        texts, condition = self.texts(mixes, seeds, prompts or self.diffusion.config.train_prompt, kind)
        return self.diffusion.generate(condition, texts, seeds, steps, guidance, scheduler, batch_size=batch_size)


def single_emotions(mixes: Sequence[dict[int, float]], method: str) -> list[int]:
    """Return the one emotion of each mix.

    Raises:
        UniEmoError: a mix of several.
    """
    if any(len(mix) != 1 for mix in mixes):
        raise UniEmoError(f"the method {method} draws one emotion at a time; got a mixture: give one --emotion")
    return [next(iter(mix)) for mix in mixes]


class GenerationBaseline(EmotionModule, DrawingModule):
    """A method that draws images that evoke an emotion; it cannot tell the emotion of an image.

    ``val/loss`` is the mean denoising error of the validation images, each with the same noise and timestep in every
    epoch; ``best.ckpt`` is that of the lowest. Tests have generation figures alone
    (:class:`uniemo.callbacks.generation_metrics.GenerationMetrics`).

    Args:
        diffusion: the frozen diffusion model.
        optimizer: its settings; None for a method that does not train.
        hyperparameters: the constructor's other arguments as plain values.
        seed: of first weights, noise and what else is drawn in training.

    Raises:
        UniEmoError: adapters of UniEmo's own asked for, which are not the method's.
    """

    stage = BASELINE
    model: EmotionDiffusion  # from setup on

    def __init__(
        self, diffusion: DiffusionConfig, optimizer: RateConfig | None, hyperparameters: dict[str, Any], seed: int
    ) -> None:
        if diffusion.lora_rank > 0:
            raise UniEmoError(
                f"model.diffusion.lora_rank must be 0 for a baseline; got {diffusion.lora_rank}: "
                "the method dreambooth has adapters, model.rank"
            )
        plain = {"diffusion": plain_config(diffusion), **hyperparameters}
        if optimizer is not None:
            plain["optimizer"] = plain_config(optimizer)
        super().__init__(plain, optimizer, seed)
        self.diffusion_config = diffusion
        self._validation = SplitMean()

    @abstractmethod
    def make_model(self, vocabulary: Vocabulary) -> EmotionDiffusion:
        """Return the model for these names, what does not learn frozen."""

    def backbones(self) -> dict[str, str]:
        """Return the name of the frozen diffusion model."""
        return {"diffusion": self.diffusion_config.path}

    def check_data(self, data: EmotionDataModule) -> None:
        """Raise UniEmoError unless images have the size that the diffusion model draws."""
        size = self.model.diffusion.image_size
        same = set(self.vocabulary.emotions) == set(data.vocabulary.emotions)  # else nothing is drawn for this data
        if same and size != data.diffusion_size:
            raise UniEmoError(
                f"data.diffusion_size must be {size}, what {self.diffusion_config.path} draws; "
                f"got {data.diffusion_size}: set --data.diffusion_size {size}"
            )

    def setup(self, stage: str) -> None:
        """Build the model; lend its VAE to data that keeps latents (Lightning's hook).

        Args:
            stage: ``fit``, ``validate``, ``test`` or ``predict``.

        Raises:
            UniEmoError: the best epoch is to be that of the highest accuracy.
        """
        if stage == "fit" and self.trains:
            self._check_monitor()
        super().setup(stage)
        data = self.trainer.datamodule
        if stage == "fit" and self.trains and data.cached_latents:
            data.lend_encoder(latent_encoder(self))

    def _check_monitor(self) -> None:
        """Raise UniEmoError where the best epoch is to be that of the highest accuracy."""
        monitors = [getattr(callback, "monitor", None) for callback in self.trainer.checkpoint_callbacks]
        if "val/accuracy" in monitors:
            raise UniEmoError(
                f"best_checkpoint.monitor must be {_MONITOR} for a method that draws images; got val/accuracy: "
                f"add --best_checkpoint.monitor {_MONITOR} --best_checkpoint.mode min"
            )

    # Steps.

    @abstractmethod
    def errors(self, batch: EmotionBatch, step: int) -> Tensor:
        """Return each image's denoising error (B,) when the model is told its emotion.

        Args:
            batch: with targets or latents.
            step: decides, with the seed and the sample id, on noise and timesteps.
        """

    def losses(self, batch: EmotionBatch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the mean denoising error."""
        total = batch_mean(self.errors(batch, self.global_step))
        return total, {"diffusion": total}

    def validation_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Collect the images' denoising errors."""
        with self._evaluating():
            self._validation.to(self.device).update(self.errors(batch, 0).unsqueeze(1), batch.sample_id)

    def on_validation_epoch_end(self) -> None:
        """Log ``val/loss``."""
        self.log(_MONITOR, self._validation.compute(), prog_bar=True)
        self._validation.reset()

    def test_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Do nothing: what is tested are the images that are drawn."""

    def predict_step(self, batch: EmotionBatch, batch_idx: int) -> None:
        """Refuse: there is no emotion to predict."""
        raise UniEmoError(
            f"uniemo predict needs a method that tells emotions; {self.method} draws images: take uniemo generate"
        )

    # What callbacks ask for (callbacks/protocol.py).

    def prepare_generation(self) -> None:
        """Do nothing: the weights are all that is drawn from."""

    # Checkpoints.

    def trained_state(self) -> dict[str, Tensor]:
        """Return everything but the frozen networks; of the diffusion model adapters alone."""
        return trained_state(self.model, clip_tuned=False)

    def load_trained_state(self, state: dict[str, Tensor]) -> None:
        """Load what :meth:`trained_state` returned."""
        load_trained_state(self.model, state, shared_only=False)
