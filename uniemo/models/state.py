"""Which tensors a checkpoint holds, and loading them, with errors that name what does not fit."""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor, nn

from uniemo.errors import UniEmoError

TOWER = "encoder.visual."
TO_WRITE, LOWER_RATE = "checkpoint to write", "lower the learning rate and train again"  # for check_finite
_FROZEN = "diffusion."
_ADDED = "space.mixture_"  # emotion spaces of earlier versions have no mixtures
_ANY_SIZE = ("space.bank_", _ADDED)  # the emotion space takes whatever size is loaded
# Adapters of checkpoints from before peft's were taken.
_RENAMED = {".lora_down": ".lora_A.default.weight", ".lora_up": ".lora_B.default.weight"}


def trained_state(model: nn.Module, clip_tuned: bool) -> dict[str, Tensor]:
    """Return a model's state without its frozen backbones; of the diffusion model only adapters are kept."""
    return {
        name: value
        for name, value in model.state_dict().items()
        if (not name.startswith(_FROZEN) or ".lora_" in name) and (clip_tuned or not name.startswith(TOWER))
    }


def load_trained_state(model: nn.Module, state: dict[str, Tensor], shared_only: bool) -> None:
    """Load what :func:`trained_state` returned; see ``UniEmoModel.load_trained_state_dict``."""
    state = {renamed(name): value for name, value in state.items()}
    own = trained_state(model, clip_tuned=any(name.startswith(TOWER) for name in state))
    if any(name.startswith("space.") for name in state):
        state = {name: value[:0] for name, value in own.items() if name.startswith(_ADDED)} | state
    if shared_only:
        shared = {_part(name) for name in own} & {_part(name) for name in state}
        own = {name: value for name, value in own.items() if _part(name) in shared}
        state = {name: value for name, value in state.items() if _part(name) in shared}
    check_state(own, state)
    model.load_state_dict(state, strict=False)


def renamed(name: str) -> str:
    """Return today's name of a tensor in an older checkpoint."""
    for old, new in _RENAMED.items():
        if name.endswith(old):
            return name.removesuffix(old) + new
    return name


def check_state(own: dict[str, Tensor], state: dict[str, Tensor]) -> None:
    """Raise unless a checkpoint's state has the names and shapes of a model's own.

    Raises:
        UniEmoError: it belongs to another configuration.
    """
    both = own.keys() & state.keys()
    problems = {
        "lacks": own.keys() - both,
        "has unknown": state.keys() - both,
        "has other shapes for": {
            name for name in both if own[name].shape != state[name].shape and not name.startswith(_ANY_SIZE)
        },
    }
    for what, names in problems.items():
        if names:
            raise UniEmoError(
                f"checkpoint must fit this model's configuration; it {what} {len(names)} tensors, "
                f"first {min(names)!r}, take the configuration it was trained with"
            )


def check_finite(state: Mapping[str, Tensor], what: str, way_out: str) -> None:
    """Raise unless the numbers of all tensors are finite.

    Args:
        state: tensors by name.
        what: holds them, as the error says it.
        way_out: the error's last part.

    Raises:
        UniEmoError: names the first tensor that has NaN or infinity.
    """
    for name, value in state.items():
        if isinstance(value, Tensor) and value.is_floating_point() and value.numel():
            low, high = (float(end) for end in value.detach().aminmax())  # NaN is both; ten times as fast as isfinite
            if not (math.isfinite(low) and math.isfinite(high)):
                raise UniEmoError(f"{what} must hold finite numbers; {name} has NaN or infinity: {way_out}")


def check_scores(finite: Tensor, what: str) -> None:
    """Raise UniEmoError unless all of (N,) images have scores that are finite."""
    bad = int((~finite).sum())
    if bad:
        raise UniEmoError(
            f"{what} must be finite; {bad} of {len(finite)} images have NaN or infinity, the weights are too large for "
            "the precision: take another checkpoint, or a precision of 32 bits"
        )


def _part(name: str) -> str:
    return name.partition(".")[0]
