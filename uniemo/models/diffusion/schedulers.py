"""Schedulers of diffusers by name, and the noise that training adds (eq. 8)."""

from __future__ import annotations

import difflib
import inspect
from typing import Any, Protocol

import torch
from torch import Tensor

from uniemo.errors import UniEmoError
from uniemo.models.diffusion.components import quiet

# Names of ours: the class of diffusers, and what is set in it beside the model's own configuration.
NAMED: dict[str, tuple[str, dict[str, Any]]] = {
    "dpm++": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++"}),
    "dpm++ karras": ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver++", "use_karras_sigmas": True}),
    "dpm++ sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "lcm": ("LCMScheduler", {}),
    "turbo": ("EulerAncestralDiscreteScheduler", {"timestep_spacing": "trailing"}),  # as SD-Turbo's and SDXL-Turbo's
    "lightning": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),  # as SDXL-Lightning's page says
}
_FLOW = "FlowMatch"  # how the classes begin that are for flow matching alone


def make_scheduler(name: str, config: dict[str, Any]) -> Any:  # noqa: ANN401 - diffusers is imported late
    """Make a scheduler on the noise of a model.

    Args:
        name: see :func:`find_scheduler`.
        config: the model's own scheduler's.

    Raises:
        UniEmoError: no such scheduler, or it is for another kind of model.
    """
    kind, options = find_scheduler(name, "diffusion scheduler")
    if is_flow(config):
        if "use_flow_sigmas" in inspect.signature(kind.__init__).parameters:
            flow = {"use_flow_sigmas": True, "prediction_type": "flow_prediction", "flow_shift": flow_shift(config)}
        elif kind.__name__.startswith(_FLOW):
            flow = {"shift": flow_shift(config)}
        else:
            raise UniEmoError(
                f"diffusion scheduler must be one for flow matching with this model; got {name!r}: take "
                "FlowMatchEulerDiscreteScheduler or dpm++, or for few steps FlowMatchLCMScheduler"
            )
        options = {**flow, **options}
    elif kind.__name__.startswith(_FLOW):
        raise UniEmoError(
            f"diffusion scheduler must not be one for flow matching with this model; got {name!r}: "
            "take dpm++ or DDIMScheduler"
        )
    try:
        with quiet():
            return kind.from_config(config, **options)
    except ValueError as error:  # options that exclude each other
        raise UniEmoError(
            f"diffusion scheduler must fit the model's own; {name!r} does not ({error}): take dpm++ or DDIMScheduler"
        ) from error


def find_scheduler(name: str, option: str) -> tuple[Any, dict[str, Any]]:
    """Return a scheduler's class and what is set in it.

    Args:
        name: a class of diffusers, or a name in :data:`NAMED`.
        option: where it was given, for the error.

    Raises:
        UniEmoError: none has this name.
    """
    import diffusers

    class_name, options = NAMED.get(name, (name, {}))
    kind: Any = getattr(diffusers, class_name, None)
    if not (hasattr(kind, "from_config") and hasattr(kind, "set_timesteps")):
        known = [*NAMED, *(name for name in dir(diffusers) if name.endswith("Scheduler"))]
        hint = " or ".join(difflib.get_close_matches(name, known, n=2)) or "DDIMScheduler"
        raise UniEmoError(f"{option} must be a scheduler of diffusers or {', '.join(NAMED)}; got {name!r}: try {hint}")
    return kind, options


def is_flow(config: dict[str, Any]) -> bool:
    """Whether a model with this scheduler's configuration was trained by flow matching."""
    return config.get("prediction_type") == "flow_prediction" or str(config.get("_class_name")).startswith(_FLOW)


def flow_shift(config: dict[str, Any]) -> float:
    """Return how far noise levels are shifted upwards, more for larger images; 1 is not at all."""
    return float(config["flow_shift"] if "flow_shift" in config else config.get("shift", 1.0))


# training


class Noise(Protocol):
    """How training adds noise to latents, and what the network is to predict.

    Timesteps are (B,) int64 from 0 to ``num_timesteps`` - 1, drawn uniformly; latents and noise are (B, C, h, w).
    """

    num_timesteps: int

    def add(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return noisy latents z_t."""

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network is to predict."""

    def seen(self, timesteps: Tensor) -> Tensor:
        """Return timesteps as the network takes them."""


class DiffusionNoise:
    """Noise of a diffusion process, by diffusers' own schedule; the network predicts ε, v or the latents."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._schedule = make_scheduler("DDPMScheduler", config)
        self.num_timesteps = int(self._schedule.config.num_train_timesteps)

    def add(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return noisy latents z_t."""
        noisy: Tensor = self._schedule.add_noise(latents, noise, timesteps)
        return noisy

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network is to predict, by the scheduler's prediction type."""
        kind = self._schedule.config.prediction_type
        if kind == "v_prediction":
            return self._schedule.get_velocity(latents, noise, timesteps)
        return noise if kind == "epsilon" else latents  # the third kind is "sample"

    def seen(self, timesteps: Tensor) -> Tensor:
        """Return timesteps as the network takes them."""
        return timesteps


class FlowNoise:
    """Noise of flow matching: z_t = (1 - σ) z + σ ε, and the network predicts ε - z.

    Timestep t stands for the noise level at the quantile (t + ½) / T of the logit-normal distribution, shifted as the
    model's scheduler is: what Stable Diffusion 3 was trained with (Esser et al., 2024, section 3.1), and Sana after it.

    Attributes:
        sigmas: (T,) noise levels in (0, 1), rising.
    """

    def __init__(self, config: dict[str, Any]) -> None:
        self.num_timesteps = int(config.get("num_train_timesteps", 1000))
        quantiles = (torch.arange(self.num_timesteps, dtype=torch.float64) + 0.5) / self.num_timesteps
        levels, shift = torch.special.ndtri(quantiles).sigmoid(), flow_shift(config)
        self.sigmas = (shift * levels / (1 + (shift - 1) * levels)).float()

    def add(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return noisy latents z_t."""
        sigma = self._level(timesteps).view(-1, 1, 1, 1)  # (B, 1, 1, 1)
        return (1 - sigma) * latents + sigma * noise

    def target(self, latents: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """Return what the network is to predict, the velocity from latents to noise."""
        del timesteps
        return noise - latents

    def seen(self, timesteps: Tensor) -> Tensor:
        """Return noise levels (B,) in thousandths, as the network takes them."""
        return self._level(timesteps) * self.num_timesteps

    def _level(self, timesteps: Tensor) -> Tensor:
        self.sigmas = self.sigmas.to(timesteps.device)
        return self.sigmas[timesteps]


def make_noise(config: dict[str, Any]) -> Noise:
    """Return the noise that a model was trained with, by its scheduler's configuration."""
    return FlowNoise(config) if is_flow(config) else DiffusionNoise(config)
