"""Command-line words before they are parsed: checkpoints stand for configurations, configurations are found."""

from __future__ import annotations

from uniemo.checkpoint import CheckpointInfo, read_checkpoint
from uniemo.cli.configs import check_yaml, find_config
from uniemo.errors import UniEmoError

_FLAGS = ("--resume", "--overwrite")  # may stand without a value


def prepare(words: list[str]) -> tuple[list[str], CheckpointInfo | None]:
    """Turn a user's words into LightningCLI's.

    ``--ckpt X`` (or ``--ckpt_path X``) is read; where no ``--config`` is given, or for all commands but fit, the
    configuration stored in it comes first, so that everything on the command line wins over it. ``--config`` names are
    looked up.

    Args:
        words: the command and its options.

    Returns:
        The words for the parser, and what the checkpoint says about itself.

    Raises:
        UniEmoError: an option without its value, no such configuration, no usable checkpoint.
    """
    command, rest = words[0], words[1:]
    out: list[str] = []
    path: str | None = None
    configured = False
    position = 0
    while position < len(rest):
        word = rest[position]
        position += 1
        name, equals, value = word.partition("=")
        if name in _FLAGS and not equals:
            following = rest[position] if position < len(rest) else ""
            if following.lower() in ("true", "false"):
                position += 1
                out.append(f"{name}={following}")
            else:
                out.append(f"{name}=true")
        elif name in ("--ckpt", "--ckpt_path", "-c", "--config"):
            if not equals:
                if position == len(rest):
                    raise UniEmoError(f"{name} needs a value: give a file")
                value = rest[position]
                position += 1
            if name.startswith("--ckpt"):
                path = value
            else:
                out.append(f"--config={check_yaml(find_config(value))}")
                configured = True
        else:
            out.append(word)
    info: CheckpointInfo | None = None
    if path == "last":
        out.append("--resume=true")
    elif path is not None:
        _, info = read_checkpoint(path)
    if info is not None and info.config and (command != "fit" or not configured):
        out.insert(0, f"--config={info.config}")
    elif info is not None and not configured:
        raise UniEmoError(f"{info.path} holds no configuration, it was written from Python: give --config too")
    elif command == "fit" and not configured:
        raise UniEmoError("uniemo fit needs a recipe: add --config understanding.yaml, joint.yaml or feedback.yaml")
    return [command, *out], info
