"""Checks of a resolved configuration before anything is built: processes, strategy, weights."""

from __future__ import annotations

from collections.abc import Sequence

from jsonargparse import Namespace

from uniemo.cli.parsing import check_cores
from uniemo.errors import UniEmoError
from uniemo.models.clip import find_clip
from uniemo.models.diffusion import find_diffusion
from uniemo.models.hub import random_name


def check_devices(devices: int | str | Sequence[int], accelerator: str) -> None:
    """Refuse more processes than cores on a CPU; GPUs are Lightning's to check."""
    if devices == "auto" or not _on_cpu(accelerator):
        return
    if not str(devices).strip().isdecimal() or int(str(devices)) < 1:
        raise UniEmoError(f"--trainer.devices must be a number of processes from 1, or auto; got {devices}")
    check_cores(int(str(devices)), "--trainer.devices")


def _on_cpu(accelerator: str) -> bool:
    """Whether Lightning's ``trainer.accelerator`` means the CPU here."""
    from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

    if accelerator != "auto":
        return accelerator == "cpu"
    return not (CUDAAccelerator.is_available() or MPSAccelerator.is_available())


def check_strategy(strategy: str, stage: str, generates: bool) -> None:
    """Refuse strategies that shard what is trained, or a UNet where there is none: checkpoints would hold a piece."""
    name = strategy.rpartition(".")[2].lower().replace("_", "")
    if name.startswith(("fsdp", "deepspeed", "modelparallel")):
        raise UniEmoError(
            "trainer.strategy must leave what is trained whole on every process, checkpoints hold it; "
            f"got {strategy}: take ddp, or --config strategy/fsdp.yaml, which shards the frozen UNet alone"
        )
    if name == "frozenfsdpstrategy" and not generates:
        raise UniEmoError(
            f"trainer.strategy must be ddp for {stage}, which has no UNet to shard; "
            f"got {strategy}: leave --config strategy/fsdp.yaml out"
        )


def check_weights(config: Namespace) -> None:
    """Put ``random:`` before the networks' names where ``weights`` is random; look for the weights of all others."""
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
