"""The ``uniemo`` command: a table of commands, one file each.

Nothing heavy is imported here, so that ``uniemo --help`` answers at once; each command imports what it needs.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uniemo import __version__
from uniemo.deferred import defer_packages
from uniemo.errors import UniEmoError, naming, one_line
from uniemo.launch import launched_rank

# command: (module with ``run(args) -> int``, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "fit": ("uniemo.cli.training", "train a stage: understanding.yaml, joint.yaml or feedback.yaml"),
    "validate": ("uniemo.cli.training", "evaluate a checkpoint on the validation split"),
    "test": ("uniemo.cli.training", "evaluate a checkpoint on the test split; needs nothing but --ckpt"),
    "predict": ("uniemo.cli.training", "write the test split's emotion probabilities to predictions.jsonl"),
    "generate": ("uniemo.cli.generate", "generate images for an emotion or a mixture, plain or inside a prompt"),
    "classify": ("uniemo.cli.classify", "classify the emotions of photos and folders of photos"),
    "filter": ("uniemo.cli.filter", "keep generated images whose two scores lie inside the band (Algorithm 1)"),
    "evaluate": ("uniemo.cli.evaluate", "FID, LPIPS, Emo-A, Sem-C and Sem-D of generated images, by two protocols"),
    "train-classifier": ("uniemo.cli.train_classifier", "train Emo-A's classifier on a frozen CLIP's features"),
    "data": ("uniemo.cli.data", "check, split, synthesize, attributes: tools around datasets on disk"),
    "convert": ("uniemo.cli.convert", "open published checkpoints; export to safetensors or a diffusers folder"),
    "cross-validate": ("uniemo.cli.cross_validate", "fit and test on every fold of Twitter I or II, mean and spread"),
    "reproduce": ("uniemo.cli.reproduce", "the paper's tables and figures, every method on the same data and seeds"),
    "report": ("uniemo.cli.report", "one HTML file about a run, a folder of runs or a study"),
}

_HELP = """usage: uniemo <command> [options]

Visual emotion: classify which emotion an image evokes, generate images that evoke one, let each teach the other.

commands:
{commands}

A first run, on the embedded miniature, from an empty folder:
  uniemo fit --config understanding.yaml
  uniemo fit --config joint.yaml --model.init_from runs/understanding/best.ckpt
  uniemo generate --ckpt runs/joint/best.ckpt --emotion awe --out images/
  uniemo classify --ckpt runs/joint/best.ckpt images/
  uniemo fit --config feedback.yaml --model.init_from runs/joint/best.ckpt
  uniemo test --ckpt runs/feedback/best.ckpt

Configurations are looked for in the working directory, then among those that come with uniemo:
  {configs}

options:
  -h, --help     this text; "uniemo <command> --help" explains a command
  --version      the version
"""


def main(args: list[str] | None = None) -> int:
    """Run a command; None takes its arguments from the command line.

    Returns:
        0 on success, 2 after an error that the user can mend (one line on stderr), 130 after Ctrl-C.
    """
    try:
        with _one_line_in_threads():
            code = _dispatch(list(sys.argv[1:] if args is None else args))
            with naming(Path("standard output")):
                sys.stdout.flush()
        return code
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        _close_broken_output()
        rank = launched_rank()
        print(f"error (rank {rank}): {line}" if rank else f"error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if not launched_rank():
            print("stopped", file=sys.stderr)
        return 130
    except SystemExit as stop:  # argparse ends --help this way, Lightning an interrupted run
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)


@contextmanager
def _one_line_in_threads() -> Iterator[None]:
    """Print no traceback of a thread that writes, as TensorBoard's does: the error is raised again where it is used."""
    before = threading.excepthook
    threading.excepthook = lambda thread: None if thread.exc_value and one_line(thread.exc_value) else before(thread)
    try:
        yield
    finally:
        threading.excepthook = before


def _close_broken_output() -> None:
    """Drop what standard output cannot take, a full disk's say, which Python would try again at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def _dispatch(args: list[str]) -> int:
    """Run the command that the first argument names."""
    if not args or args[0] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0
    if args[0] == "--version":
        print(f"uniemo {__version__}")
        return 0
    if args[0] not in COMMANDS:
        from uniemo.cli.messages import near

        raise UniEmoError(f"command must be one of {', '.join(COMMANDS)}; got {args[0]!r}{near(args[0], COMMANDS)}")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else a warning each time loaders fork
    defer_packages()
    with collecting_later():
        module = importlib.import_module(COMMANDS[args[0]][0])
    return module.run(args)


@contextmanager
def collecting_later() -> Iterator[None]:
    """Keep the garbage collector still while large libraries are imported; nearly all that they make stays."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _help() -> str:
    """Return the text of ``uniemo --help``."""
    from uniemo.configurations import packaged_recipes

    commands = "\n".join(f"  {name:<16} {text}" for name, (_, text) in COMMANDS.items())
    return _HELP.format(commands=commands, configs=" ".join(packaged_recipes()))
