"""Command-line pieces that the commands share."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import NoReturn

from uniemo.errors import UniEmoError


def near(word: str, known: Iterable[str]) -> str:
    """Return ``": did you mean a or b?"`` for the known words like ``word``, or nothing."""
    matches = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    return f": did you mean {' or '.join(matches)}?" if matches else ""


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

    def error(self, message: str) -> NoReturn:
        """Raise the mistake as UniEmoError."""
        raise UniEmoError(f"{message} (see {self.prog} --help)")

    def parse_words(self, words: list[str]) -> argparse.Namespace:
        """Parse, naming an unknown option's near matches."""
        namespace, unknown = self.parse_known_args(words)
        if unknown:
            options = [option for action in self._actions for option in action.option_strings]
            wrong = unknown[0].split("=")[0]
            raise UniEmoError(
                f"{self.prog} has no option {wrong}{near(wrong, options) or f' (see {self.prog} --help)'}"
            )
        return namespace


def check_new_folder(path: Path, option: str) -> None:
    """Raise unless ``path`` is absent or an empty folder, so that nothing is ever mixed or overwritten."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise UniEmoError(f"{option} must be a new or an empty folder; {path} is not: choose another or remove it")


def check_new_file(path: Path, option: str) -> None:
    """Raise unless a file can be written at ``path``: not a folder."""
    if path.is_dir():
        raise UniEmoError(f"{option} must be a file; {path} is a folder: give a file name in it")


def positive(text: str) -> int:
    """Read a whole number of at least 1 (an argparse type)."""
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1; got {text!r}")
    return value


def natural(text: str) -> int:
    """Read a whole number of at least 0 (an argparse type)."""
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 0; got {text!r}")
    return value


def add_device(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps …; auto takes a GPU if there is one")


def pick_device(name: str) -> str:
    """Return the device that ``--device`` means.

    Raises:
        UniEmoError: no such device on this machine.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UniEmoError(f"--device must be one that works here; {name!r} does not ({reason}): take cpu") from error
    return name
