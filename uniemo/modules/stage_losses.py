"""The losses of the three stages as functions of a model and a batch: named terms, and their weighted sums.

Over several ranks each term is a rank's part of a mean over the images of all ranks, scaled so that the average over
ranks is that mean (:mod:`uniemo.distributed`): gradients, which DDP averages, are those of one process.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from uniemo.data.batch import EmotionBatch
from uniemo.distributed import batch_mean
from uniemo.errors import NonNegative, Temperature, UniEmoError, check_ranges
from uniemo.models.affect_head import affect_loss, to_shares
from uniemo.models.attributes import Kind
from uniemo.models.diffusion import DiffusionBackbone
from uniemo.models.encoder import EmotionFeatures
from uniemo.models.losses import Condition, contrastive_loss, emotion_loss, sample_object
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules.random import sample_integers, sample_noise, sample_uniform

_OBJECT, _NOISE, _TIMESTEP, _LATENT, _DROP = range(5)  # independent streams of random numbers


@dataclass(frozen=True)
class LossConfig:
    """Weights and forms of the losses.

    Attributes:
        lambda_scene: λ1 of eq. 9, scene contrastive loss.
        lambda_object: λ2 of eq. 9, object contrastive loss.
        lambda_emotion: λ3 of eq. 9, cross entropy of the emotion, or KL where ``data.target`` is distribution.
        lambda_affect: of valence and arousal, added to eq. 9 on data that has them (:func:`affect_loss`).
        gamma_understanding: γ1 of eq. 10, the whole of eq. 9.
        gamma_condition: γ2 of eq. 10, condition loss.
        gamma_diffusion: γ3 of eq. 10, diffusion loss.
        tau: temperature of the contrastive losses, eq. 4.
        duplicates: what a second image with the same attribute is, see ``contrastive_loss``.
        form: direction of the contrastive losses.
    """

    lambda_scene: NonNegative = 0.25
    lambda_object: NonNegative = 0.25
    lambda_emotion: NonNegative = 0.5
    lambda_affect: NonNegative = 0.5
    gamma_understanding: NonNegative = 0.3
    gamma_condition: NonNegative = 0.3
    gamma_diffusion: NonNegative = 0.4
    tau: Temperature = 0.07
    duplicates: Literal["positive", "negative"] = "positive"
    form: Literal["image_to_text", "symmetric"] = "image_to_text"

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_ranges(type(self), vars(self), "model.loss.")

    @property
    def generation(self) -> bool:
        """Whether anything of generation is trained."""
        return self.gamma_condition > 0 or self.gamma_diffusion > 0


def understanding_terms(
    model: UniEmoModel,
    features: EmotionFeatures,
    logits: Tensor,
    batch: EmotionBatch,
    config: LossConfig,
    seed: int,
    step: int,
    kinds: Collection[Kind] = ("scene", "object"),
) -> dict[str, Tensor]:
    """Return the terms of L_U: "scene" and "object" (eq. 4), "emotion" (``emotion_loss`` of the (B, C) logits).

    Generated images have no attributes and take no part in the first two. A query set that the encoder lacks has no
    term, nor has a kind of attribute that is not in ``kinds``, those of the data; the other weights stay as configured.
    A model with a head for valence and arousal has the term "affect", in which images without ratings take no part.
    Seed, optimiser step and sample id decide which of several objects is sampled.
    """
    terms = {}
    for kind, feature in (("scene", features.scene), ("object", features.object)):
        projected = model.project(kind, feature) if kind in kinds else None  # type: ignore[arg-type]
        if projected is None:
            continue
        label = batch.scene
        if kind == "object":
            label = sample_object(batch.objects, sample_uniform(batch.sample_id, seed, step, _OBJECT))
        label = torch.where(batch.generated, -1, label)
        text = getattr(model.bank, f"{kind}_text")
        terms[kind] = contrastive_loss(projected, text, label, config.tau, config.duplicates, config.form)
    terms["emotion"] = batch_mean(emotion_loss(logits, batch.emotion, batch.distribution))
    affect, scale = model.affect(features), model.vocabulary.affect
    if affect is not None and scale is not None and batch.affect is not None:
        terms["affect"] = affect_loss(affect, to_shares(batch.affect, scale))
    return terms


def understanding_loss(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    """Return L_U, the weighted sum of eq. 9."""
    weights = {"scene": config.lambda_scene, "object": config.lambda_object, "emotion": config.lambda_emotion}
    weights["affect"] = config.lambda_affect
    return torch.stack([weights[name] * terms[name] for name in weights if name in terms]).sum()


def generation_terms(
    model: UniEmoModel,
    features: EmotionFeatures,
    logits: Tensor,
    batch: EmotionBatch,
    seed: int,
    step: int,
) -> dict[str, Tensor]:
    """Return "condition" (eq. 7) and "diffusion" (eq. 8, see :func:`denoising_errors`)."""
    assert model.diffusion is not None  # stages 2 and 3 have both
    assert model.condition_loss is not None
    condition = model.condition(features, batch.emotion)
    return {
        "condition": batch_mean(model.condition_loss(condition, batch.emotion, logits)),
        "diffusion": batch_mean(denoising_errors(model.diffusion, condition, batch, seed, step)),
    }


def denoising_errors(
    diffusion: DiffusionBackbone,
    condition: Condition | None,
    batch: EmotionBatch,
    seed: int,
    step: int,
    prompts: Sequence[str] | None = None,
) -> Tensor:
    """Return each image's denoising error (eq. 8), (B,).

    Args:
        diffusion: the diffusion model.
        condition: one (B, W) per text encoder; None for plain prompts.
        batch: with targets or latents.
        seed: of the run.
        step: optimiser step; noise and timestep of a sample depend on (seed, step, sample id).
        prompts: B prompts; None is the training prompt for all.

    Raises:
        UniEmoError: a batch without targets and latents.
    """
    posterior = batch.latents
    if posterior is None:
        if batch.targets is None:
            raise UniEmoError(
                "data.diffusion_size must be set to train generation; got null, give the diffusion model's size"
            )
        posterior = diffusion.posterior(batch.targets)
    ids, device, shape = batch.sample_id, posterior.device, diffusion.latent_shape
    latents = diffusion.sample_posterior(posterior, sample_noise(ids, shape, seed, step, _LATENT).to(device))
    noise = sample_noise(ids, shape, seed, step, _NOISE).to(device)
    timesteps = sample_integers(ids, diffusion.num_timesteps, seed, step, _TIMESTEP).to(device)
    drop = None
    if diffusion.config.drop_condition > 0:
        share = sample_integers(ids, 2**24, seed, step, _DROP) / 2**24  # (B,) uniform in [0, 1)
        drop = share < diffusion.config.drop_condition
    return diffusion.loss(latents, condition, noise, timesteps, prompts, drop)


def joint_loss(terms: dict[str, Tensor], config: LossConfig) -> Tensor:
    """Return L_joint, the weighted sum of eq. 10; of γ1·L_U alone where nothing of generation is trained."""
    total = config.gamma_understanding * understanding_loss(terms, config)
    if config.generation:
        total = total + config.gamma_condition * terms["condition"] + config.gamma_diffusion * terms["diffusion"]
    return total
