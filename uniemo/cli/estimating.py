"""``uniemo fit --estimate``: what a configuration takes on cards of several sizes, without data, weights or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import lightning as L

from uniemo.callbacks.explicit_feedback import ExplicitFeedback
from uniemo.callbacks.generation_metrics import GenerationMetrics
from uniemo.checkpoint import FEEDBACK
from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.emoset import EmoSet
from uniemo.modules.base import EmotionModule

if TYPE_CHECKING:
    from uniemo.estimate.cards import Estimate


def estimated(module: EmotionModule, data: EmotionDataModule, trainer: L.Trainer) -> Estimate:
    """Return the estimate of a fit and one test."""
    from uniemo.estimate.cards import Amounts, estimate
    from uniemo.estimate.steps import EMOSET, StepSettings

    epochs, emotions = trainer.max_epochs or 0, len(EMOSET.emotions)
    generated, generation_batch = 0, 1
    diffusion = module.hparams.get("diffusion")
    for callback in trainer.callbacks if diffusion is not None else ():
        if isinstance(callback, GenerationMetrics):
            validations = epochs // callback.every_n_epochs if callback.every_n_epochs else 0
            generated += emotions * (validations * callback.images["val"] + callback.images["test"])
            generation_batch = callback.batch_size
        if isinstance(callback, ExplicitFeedback) and module.stage == FEEDBACK:
            generated += emotions * callback.num_per_emotion
    known = data.published or EmoSet.published
    images = known["train"]["all"] if "train" in known else int(known["all"]["all"] * data.fractions[0])
    images = min(images, data.limit_train or images)
    settings = StepSettings(data.image_size, str(trainer.precision), data.cached_latents)
    amounts = Amounts(data.batch_size, epochs * images, generated, generation_batch)
    guidance, steps = (0.0, 1) if diffusion is None else (diffusion["guidance"], diffusion["steps"])
    return estimate(module, settings, amounts, guidance, steps)
