"""Whether the processes that a run would start fit the machine and what is trained."""

from __future__ import annotations

import os
from collections.abc import Sequence

from uniemo.errors import UniEmoError


def cpu_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_cpu(accelerator: str) -> bool:
    """Whether Lightning's ``trainer.accelerator`` means the CPU here."""
    if accelerator != "auto":
        return accelerator == "cpu"
    from lightning.pytorch.accelerators import CUDAAccelerator, MPSAccelerator

    return not (CUDAAccelerator.is_available() or MPSAccelerator.is_available())


def check_devices(devices: int | str | Sequence[int], cpu: bool, cores: int, option: str = "--trainer.devices") -> None:
    """Refuse more processes than cores on a CPU, which would only wait for each other.

    Args:
        devices: how many, or what Lightning's ``trainer.devices`` takes beside.
        cpu: whether they are CPU processes.
        cores: how many the machine has.
        option: named in the error.

    Raises:
        UniEmoError: too many, or no number.
    """
    if not cpu or devices == "auto":
        return  # GPUs are Lightning's to check; "auto" is one process
    if not str(devices).strip().isdecimal() or int(str(devices)) < 1:
        raise UniEmoError(f"{option} must be a number of processes from 1, or auto; got {devices}")
    if int(str(devices)) > cores:
        raise UniEmoError(
            f"{option} must not exceed the {cores} CPU cores here, each takes a process of its own; "
            f"got {devices}: set {option} {cores} or less"
        )


def check_strategy(strategy: str, stage: str, draws: bool) -> None:
    """Refuse strategies that cut up what is trained: checkpoints would hold a piece of it.

    Args:
        strategy: Lightning's ``trainer.strategy``, a name or a class.
        stage: that is trained, or baseline.
        draws: whether it has a UNet.

    Raises:
        UniEmoError: one of these, or one that shares out a UNet where there is none.
    """
    name = strategy.rpartition(".")[2].lower().replace("_", "")
    if name.startswith(("fsdp", "deepspeed", "modelparallel")):
        raise UniEmoError(
            "trainer.strategy must leave what is trained whole on every process, checkpoints hold it; "
            f"got {strategy}: take ddp, or --config strategy/fsdp.yaml, which shares out the frozen UNet alone"
        )
    if name == "frozenfsdpstrategy" and not draws:
        raise UniEmoError(
            f"trainer.strategy must be ddp for {stage}, which has no UNet to share out; "
            f"got {strategy}: leave --config strategy/fsdp.yaml out"
        )
