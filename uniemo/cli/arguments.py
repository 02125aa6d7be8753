"""The arguments of fit, validate, test and predict before LightningCLI parses them.

``--config`` finds packaged configurations, ``--data FI`` is short for ``--data uniemo.data.FI``, and ``--ckpt`` brings
the configuration stored in a checkpoint, over which everything on the command line wins.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from uniemo.checkpoint import CheckpointInfo, read_checkpoint
from uniemo.cli.messages import near
from uniemo.configurations import find_configuration, packaged_recipes
from uniemo.errors import UniEmoError
from uniemo.stored_config import stored_config
from uniemo.text_files import read_yaml

# What a checkpoint's configuration says about loading, whatever the dataset; the rest belongs to the one it names.
_LOADING = (
    *("image_size", "diffusion_size", "batch_size", "eval_batch_size", "num_workers", "crop_scale", "crop"),
    "cached_latents",
)


def prepare(args: list[str]) -> tuple[list[str], CheckpointInfo | None]:
    """Turn a user's arguments into LightningCLI's.

    The configuration stored in ``--ckpt`` comes first; for fit only where no ``--config`` is given.

    Returns:
        The arguments for the parser, and what the checkpoint says about itself.
    """
    command, options = args[0], _joined(args[1:])
    out: list[str] = []
    ckpt = dataset = None
    configured = trust = False
    for option in options:
        name, _, value = option.partition("=")
        if name in ("--ckpt", "--ckpt_path"):
            ckpt = value
            continue
        if name == "--trust":
            trust = value != "false"
        if name in ("-c", "--config"):
            file = find_config(value)
            option, configured = f"--config={file}", True
            dataset = _dataset_in(read_config(file)) or dataset
        elif name in ("--data", "--data.class_path"):
            dataset = _dataset(value)
            option = f"{name}={dataset}"
        elif value == "null" and name.startswith(("--model.", "--data.")):
            option = _null(name)
        out.append(option)
    info: CheckpointInfo | None = None
    if ckpt == "last":
        out.append("--resume=true")
    elif ckpt is not None:
        _, info = read_checkpoint(ckpt)
    if info is not None and info.config and (command != "fit" or not configured):
        config = yaml.safe_dump(_without_other_data(stored_config(info, trust), dataset), sort_keys=False)
        out.insert(0, f"--config={config}")
    elif info is not None and not configured:
        raise UniEmoError(f"{info.path} holds no configuration, it was written from Python: give --config too")
    elif command == "fit" and not configured:
        raise UniEmoError("uniemo fit needs a recipe: add --config understanding.yaml, joint.yaml or feedback.yaml")
    return [command, *out], info


def find_config(name: str) -> Path:
    """Return the file that ``--config name`` means."""
    path = find_configuration(name)
    if path is not None:
        return path
    known = packaged_recipes()
    raise UniEmoError(
        f"--config must name a file here or a packaged configuration ({', '.join(known)}); {name!r} is neither"
        f"{near(name, known)}"
    )


def read_config(path: Path) -> dict[str, Any]:
    """Return what is in a configuration file."""
    try:
        content = read_yaml(path)
    except ValueError as error:
        raise UniEmoError(f"--config must be a YAML file; {path} is not ({error}): correct it") from error
    if content is not None and not isinstance(content, dict):
        raise UniEmoError(f"--config must hold sections such as model, data, trainer; {path} holds none: correct it")
    return content or {}


def _joined(options: list[str]) -> list[str]:
    """Write each option with its value as ``--name=value``."""
    joined: list[str] = []
    for word in options:
        open_option = joined and joined[-1].startswith("-") and "=" not in joined[-1]
        if open_option and not word.startswith("--") and word not in ("-c", "-h"):
            joined[-1] += f"={word}"
        else:
            joined.append(word)
    return joined


def _null(option: str) -> str:
    """Return the option that sets a key to null; jsonargparse 4.53 takes it for text in a section of a section."""
    section, _, key = option.replace(".init_args.", ".").rpartition(".")
    return f'{section}={{"{key}": null}}' if "." in section else f"{option}=null"


def _dataset(name: str) -> str:
    """Return the import path of the data module that ``--data`` names: short names in any case, with _ and - or not."""
    if "." in name:
        return name
    import uniemo.data as package
    from uniemo.data.datamodule import EmotionDataModule

    classes = {name: getattr(package, name) for name in package.__all__}
    known = [name for name, one in classes.items() if isinstance(one, type) and EmotionDataModule in one.__mro__[1:]]
    found = {one.lower(): one for one in known}.get(name.lower().replace("_", "").replace("-", ""))
    if found is None:
        raise UniEmoError(
            f"--data must be {', '.join(known)} or the import path of a data module; got {name!r}{near(name, known)}"
        )
    return f"uniemo.data.{found}"


def _dataset_in(config: dict[str, Any]) -> str | None:
    """Return the data module's class that a configuration names, None where it names none."""
    section = config.get("data")
    name = section.get("class_path") if isinstance(section, dict) else section
    return name if isinstance(name, str) else None


def _without_other_data(config: dict[str, Any], dataset: str | None) -> dict[str, Any]:
    """Return a stored configuration with the sizes alone of its dataset when ``dataset`` names another class."""
    section = config.get("data", {})
    stored = str(section.get("class_path", ""))
    if dataset is None or dataset.rpartition(".")[2] == stored.rpartition(".")[2]:
        return config
    kept = {name: value for name, value in (section.get("init_args") or {}).items() if name in _LOADING}
    return {**config, "data": {"class_path": stored, "init_args": kept}}
