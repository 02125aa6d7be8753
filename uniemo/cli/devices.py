"""Whether the processes that a run would start fit the machine and what is trained."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from uniemo.cli.parsing import pick_device, positive
from uniemo.errors import UniEmoError
from uniemo.launch import cpu_cores, launched_world_size


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


def add_devices(parser: argparse.ArgumentParser) -> None:
    """Add ``--devices``."""
    parser.add_argument(
        "--devices",
        type=positive,
        default=1,
        metavar="N",
        help="processes that share the work: one for each GPU, or on a CPU at most one for each core (1)",
    )


def processes_to_start(devices: int, device: str) -> int:
    """Return how many processes a command has to start: 1 where it does its work itself.

    Args:
        devices: of the command line.
        device: likewise; auto takes GPUs if there are any.

    Raises:
        UniEmoError: more than there are GPUs or cores, or several processes for a single device.
    """
    if devices == 1 or launched_world_size() > 1:
        return 1
    import torch

    kind = pick_device(device)
    if kind == "cpu":
        check_devices(devices, True, cpu_cores(), "--devices")
    elif kind != "cuda":
        raise UniEmoError(f"--device must be cpu, cuda or auto with --devices {devices}; got {device}: leave it out")
    elif devices > (count := torch.cuda.device_count()):
        raise UniEmoError(f"--devices must not exceed the {count} GPUs here; got {devices}: set {count} or less")
    return devices
