"""Command-line words before they are parsed: checkpoints stand for configurations, configurations are found."""

from __future__ import annotations

from pathlib import Path

import yaml

from uniemo.checkpoint import CheckpointInfo, read_checkpoint
from uniemo.cli.configs import check_yaml, find_config
from uniemo.cli.parsing import near
from uniemo.data.catalog import DATASETS
from uniemo.errors import UniEmoError

_FLAGS = ("--resume", "--overwrite")  # may stand without a value
_NESTED = ("--model.", "--data.")
_CLASS = ("--data", "--data.class_path")
# What a checkpoint's configuration says about loading, whatever the dataset; the rest belongs to the one it names.
_LOADING = (
    *("image_size", "diffusion_size", "batch_size", "eval_batch_size", "num_workers", "crop_scale", "crop"),
    "cached_latents",
)


def prepare(words: list[str]) -> tuple[list[str], CheckpointInfo | None]:
    """Turn a user's words into LightningCLI's.

    ``--ckpt X`` (or ``--ckpt_path X``) is read; where no ``--config`` is given, or for all commands but fit, the
    configuration stored in it comes first, so that everything on the command line wins over it; where that names
    another dataset, nothing of the stored dataset remains but sizes and loading. ``--config`` names are looked up, and
    ``--data FI`` is short for ``--data uniemo.data.FI``.

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
    dataset: str | None = None
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
                file = check_yaml(find_config(value))
                out.append(f"--config={file}")
                dataset = _class_in(file) or dataset
                configured = True
        elif name in _CLASS and (equals or position < len(rest)):
            if not equals:
                value = rest[position]
                position += 1
            dataset = _class_path(value)
            out.append(f"{name}={dataset}")
        elif name.startswith(_NESTED) and "null" in ([value] if equals else rest[position : position + 1]):
            position += not equals
            out.append(_null(name))
        else:
            out.append(word)
    info: CheckpointInfo | None = None
    if path == "last":
        out.append("--resume=true")
    elif path is not None:
        _, info = read_checkpoint(path)
    if info is not None and info.config and (command != "fit" or not configured):
        stored = _without_other_data(info.config, dataset)
        if stored != info.config and not _gives_root(out):
            raise UniEmoError(
                f"--data {dataset} needs its folder, {info.path} was trained on other data: add --data.root"
            )
        out.insert(0, f"--config={stored}")
    elif info is not None and not configured:
        raise UniEmoError(f"{info.path} holds no configuration, it was written from Python: give --config too")
    elif command == "fit" and not configured:
        raise UniEmoError("uniemo fit needs a recipe: add --config understanding.yaml, joint.yaml or feedback.yaml")
    return [command, *out], info


def _null(option: str) -> str:
    """Return the words that set an option to null; jsonargparse 4.53 takes it for text in a section of a section."""
    section, _, key = option.replace(".init_args.", ".").rpartition(".")
    return f'{section}={{"{key}": null}}' if "." in section else f"{option}=null"


def _class_path(name: str) -> str:
    """Return the import path of the data module that ``--data`` names, short names in any case included.

    Raises:
        UniEmoError: a short name that no dataset has.
    """
    known = {short.lower(): path for short, path in DATASETS.items()}
    if "." in name:
        return name
    if name.lower() not in known:
        raise UniEmoError(
            f"--data must be {', '.join(DATASETS)} or the import path of a data module; got {name!r}"
            f"{near(name, DATASETS)}"
        )
    return known[name.lower()]


def _gives_root(words: list[str]) -> bool:
    """Whether the words, or a configuration file among them, say where the data is."""
    for word in words:
        name, _, value = word.partition("=")
        if name in ("--data.root", "--data.init_args.root"):
            return True
        if name == "--config":
            section = (yaml.safe_load(Path(value).read_text(encoding="utf-8")) or {}).get("data")
            if isinstance(section, dict) and ("root" in section or "root" in (section.get("init_args") or {})):
                return True
    return False


def _class_in(path: Path) -> str | None:
    """Return the data module's class that a configuration file names, None where it names none."""
    section = (yaml.safe_load(path.read_text(encoding="utf-8")) or {}).get("data")
    name = section.get("class_path") if isinstance(section, dict) else section
    return name if isinstance(name, str) else None


def _without_other_data(config: str, dataset: str | None) -> str:
    """Return a stored configuration with the sizes alone of its dataset when ``dataset`` names another class."""
    content = yaml.safe_load(config) or {}
    section = content.get("data") or {}
    stored = str(section.get("class_path", ""))
    if dataset is None or dataset.rpartition(".")[2] == stored.rpartition(".")[2]:
        return config
    kept = {name: value for name, value in (section.get("init_args") or {}).items() if name in _LOADING}
    content["data"] = {"class_path": stored, "init_args": kept}
    return yaml.safe_dump(content, sort_keys=False)
