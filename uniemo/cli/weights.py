"""Weights of the frozen networks: looked for before any work, or named random for a dry run."""

from __future__ import annotations

from jsonargparse import Namespace

from uniemo.errors import UniEmoError
from uniemo.models.clip import find_clip
from uniemo.models.diffusion import find_diffusion
from uniemo.models.hub import random_name


def settle_weights(config: Namespace) -> None:
    """Put ``random:`` before the networks' names where ``weights`` is random; look for the weights of all others.

    Args:
        config: of one command, changed in place. The names are what runs and checkpoints remember.

    Raises:
        UniEmoError: weights are missing; one line that says which and how to fetch them.
    """
    model, metrics, feedback = config.model.init_args, config.generation_metrics, config.explicit_feedback
    encoder, diffusion = model.get("encoder"), model.get("diffusion")  # a baseline may lack either
    if config.weights == "random":
        if encoder is None and diffusion is None:
            raise UniEmoError("--weights random is for methods with a CLIP or a diffusion model; this one has neither")
        for part in (encoder, metrics, feedback):
            if part is not None:
                part.clip = random_name(part.clip)
        if diffusion is not None:
            diffusion.path = random_name(diffusion.path)
    if encoder is not None:
        find_clip(encoder.clip)
    if diffusion is None:
        return
    find_diffusion(diffusion.path, diffusion.family)
    if metrics.every_n_epochs:
        find_clip(metrics.clip)
    if feedback.num_per_emotion:
        find_clip(feedback.clip)
