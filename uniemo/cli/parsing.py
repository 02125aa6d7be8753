"""Options that the commands share; nothing large is imported."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from uniemo import cache
from uniemo.cli.messages import near
from uniemo.data import DATASETS
from uniemo.errors import Processes, UniEmoError, first_line, range_of
from uniemo.launch import cpu_cores, launch, launched_world_size


def number(kind: Any) -> Callable[[str], float]:  # noqa: ANN401 - Annotated[int, Range(…)]
    """Return the argparse type of a number with a range."""
    rule = range_of(kind)

    def read(text: str) -> float:
        try:
            value: float = kind.__origin__(text)
            rule.check("", value)
        except UniEmoError as error:
            raise argparse.ArgumentTypeError(str(error).strip()) from error
        except ValueError as error:
            wanted = "whole number" if kind.__origin__ is int else "number"
            raise argparse.ArgumentTypeError(f"must be a {wanted}; got {text!r}") from error
        return value

    return read


_SHARED: dict[str, dict[str, Any]] = {
    "device": {"default": "auto", "help": "cpu, cuda, cuda:1, mps …; auto takes a GPU if there is one"},
    "devices": {
        "type": number(Processes),
        "default": 1,
        "metavar": "N",
        "help": "processes that share the work: one for each GPU, or on a CPU at most one for each core (1)",
    },
    "follow_links": {
        "action": "store_true",
        "help": "allow lists and links that lead out of the folder of a dataset or an index",
    },
    "layout": {"help": "take this layout without looking (recognised when left out)"},
    "dataset": {"help": f"{', '.join(DATASETS)} (recognised, but Folder)"},
    "trust": {"action": "store_true", "help": "import classes that the checkpoint names and that are not uniemo's"},
}


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line with near matches, raised instead of printed."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def add_shared(self, *names: str) -> None:
        """Add options that several commands have."""
        for name in names:
            self.add_argument(f"--{name}", **_SHARED[name])

    def error(self, message: str) -> NoReturn:
        """Raise the mistake as UniEmoError."""
        raise UniEmoError(f"{message} (see {self.prog} --help)")

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> argparse.Namespace:  # type: ignore[override]  # noqa: ANN401
        """Parse, naming an unknown option's near matches."""
        options, unknown = self.parse_known_args(args, namespace)
        if unknown:
            known = [option for action in self._actions for option in action.option_strings]
            wrong = unknown[0].split("=")[0]
            raise UniEmoError(f"{self.prog} has no option {wrong}{near(wrong, known) or f' (see {self.prog} --help)'}")
        return options


def check_new_folder(path: Path, option: str) -> None:
    """Raise unless ``path`` is absent or an empty folder that can be written to."""
    cache.check_new_folder(path, option)
    check_writable(path, option)
    check_writable(path.absolute().parent, option)  # where it is made, to be renamed


def check_new_file(path: Path, option: str, overwrite: bool = True) -> None:
    """Raise unless a file can be written at ``path``: not a folder, and no file without ``overwrite``."""
    if path.is_dir():
        raise UniEmoError(f"{option} must be a file; {path} is a folder: give a file name in it")
    if path.exists() and not overwrite:
        raise UniEmoError(f"{option} must be new; {path} exists: choose another name or add --overwrite")
    check_writable(path.absolute().parent, option)


def check_writable(folder: Path, option: str) -> None:
    """Raise unless files can be written in a folder, or in the one where it is going to be made; try it."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise UniEmoError(f"{option} must lie in a folder; {there} is a file: choose another place")
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        raise UniEmoError(
            f"{option} must lie in a folder that can be written to; {there} cannot ({error.strerror}): choose another, "
            "or make it so"
        ) from error


def pick_device(name: str) -> str:
    """Return the device that ``--device`` means."""
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise UniEmoError(
            f"--device must be one that works here; {name!r} does not ({first_line(error)}): take cpu"
        ) from error
    return name


def processes_to_start(devices: int, device: str) -> int:
    """Return how many processes a command has to start: 1 where it does its work itself."""
    if devices == 1 or launched_world_size() > 1:
        return 1
    import torch

    kind = pick_device(device)
    if kind == "cpu":
        check_cores(devices, "--devices")
    elif kind != "cuda":
        raise UniEmoError(f"--device must be cpu, cuda or auto with --devices {devices}; got {device}: leave it out")
    elif devices > (count := torch.cuda.device_count()):
        raise UniEmoError(f"--devices must not exceed the {count} GPUs here; got {devices}: set {count} or less")
    return devices


def run_in_processes(options: argparse.Namespace, work: Callable[..., None], *arguments: Any) -> None:  # noqa: ANN401
    """Do work in as many processes as ``--devices`` and ``--device`` ask for, or in this one."""
    processes = processes_to_start(options.devices, options.device)
    if processes > 1:
        launch(work, arguments, processes)
    else:
        work(*arguments)


def check_cores(processes: int, option: str) -> None:
    """Raise for more processes than cores on a CPU, which would only wait for each other."""
    if processes > (cores := cpu_cores()):
        raise UniEmoError(
            f"{option} must not exceed the {cores} CPU cores here, each takes a process of its own; "
            f"got {processes}: set {option} {cores} or less"
        )
