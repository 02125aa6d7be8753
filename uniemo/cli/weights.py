"""Weights of the frozen networks: looked for before any work, or named random for a dry run."""

from __future__ import annotations

from jsonargparse import Namespace

from uniemo.models.clip import find_clip
from uniemo.models.hub import random_name
from uniemo.models.pipeline import find_diffusion


def settle_weights(config: Namespace) -> None:
    """Put ``random:`` before the networks' names where ``weights`` is random; look for the weights of all others.

    Args:
        config: of one command, changed in place. The names are what runs and checkpoints remember.

    Raises:
        UniEmoError: weights are missing; one line that says which and how to fetch them.
    """
    encoder, diffusion = config.model.init_args.encoder, config.model.init_args.get("diffusion")
    metrics, feedback = config.generation_metrics, config.explicit_feedback
    if config.weights == "random":
        for part in (encoder, metrics, feedback):
            part.clip = random_name(part.clip)
        if diffusion is not None:
            diffusion.path = random_name(diffusion.path)
    find_clip(encoder.clip)
    if diffusion is None:
        return
    find_diffusion(diffusion.path)
    if metrics.every_n_epochs:
        find_clip(metrics.clip)
    if feedback.num_per_emotion:
        find_clip(feedback.clip)
