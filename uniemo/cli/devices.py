"""Whether the processes that a run would start are ones that the machine has room for."""

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


def check_devices(devices: int | str | Sequence[int], cpu: bool, cores: int) -> None:
    """Refuse more processes than cores on a CPU, which would only wait for each other.

    Args:
        devices: Lightning's ``trainer.devices``.
        cpu: whether they are CPU processes.
        cores: how many the machine has.

    Raises:
        UniEmoError: too many.
    """
    if not cpu or (isinstance(devices, Sequence) and not (isinstance(devices, str) and devices.isdecimal())):
        return  # "auto" is one process; lists are checked by Lightning
    if int(devices) > cores:
        raise UniEmoError(
            f"trainer.devices must not exceed the {cores} CPU cores here, each takes a process of its own; "
            f"got {devices}: set --trainer.devices {cores} or less"
        )
