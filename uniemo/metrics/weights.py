"""Weight files: where they lie, how they come there, how they are read and hashed."""

from __future__ import annotations

import hashlib
import os
import pickle
import re
import shutil
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from uniemo.cache import atomic_write
from uniemo.errors import UniEmoError

_TIMEOUT = 20.0  # seconds without an answer after which a download has failed
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_UNREADABLE = (OSError, RuntimeError, EOFError, KeyError, ValueError, pickle.UnpicklingError, SafetensorError)


@dataclass(frozen=True)
class WeightFile:
    """A published file.

    Attributes:
        what: the network in words.
        file: its name in torch hub's folder.
        url: where it is published.
        alias: another name that the same bytes are published under.
    """

    what: str
    file: str
    url: str
    alias: str | None = None


def hub_folder() -> Path:
    """Return torch hub's folder for weights (``TORCH_HOME`` moves it)."""
    return Path(torch.hub.get_dir()) / "checkpoints"


def offline() -> bool:
    """Return whether downloads are forbidden by ``HF_HUB_OFFLINE`` or ``TRANSFORMERS_OFFLINE``."""
    return any(os.environ.get(name, "").lower() in ("1", "true", "yes", "on") for name in _OFFLINE)


def find_weights(weights: WeightFile) -> Path:
    """Return a published file in torch hub's folder, downloaded at first need.

    Raises:
        UniEmoError: it is not there and cannot be had; the message names file, source and place.
    """
    folder = hub_folder()
    for name in (weights.file, weights.alias):
        if name and (folder / name).is_file():
            return folder / name
    if offline():
        raise _missing(weights, "downloads are switched off")
    try:
        _download(weights.url, folder / weights.file)
    except (OSError, ValueError) as error:
        raise _missing(weights, f"its download failed, {_first_line(error)}") from error
    return folder / weights.file


def _missing(weights: WeightFile, reason: str) -> UniEmoError:
    """Return the error that says which file to put where."""
    return UniEmoError(
        f"{weights.what} must have its weights on disk; {weights.file} is not in {hub_folder()} ({reason}): "
        f"copy it there from {weights.url}, or give a path instead of the name"
    )


def _download(url: str, path: Path) -> None:
    """Fetch a file; its name's hash is checked where it has one (``…-7be5be79.pth``: torch hub's convention)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        if path.is_file():  # another rank was faster
            return
        with atomic_write(path) as temporary:
            with urllib.request.urlopen(url, timeout=_TIMEOUT) as answer, temporary.open("wb") as file:
                shutil.copyfileobj(answer, file)
            wanted = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
            if wanted and not file_hash(temporary).startswith(wanted[1]):
                raise ValueError("what came has another hash than its name says")


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def weights_hash(module: nn.Module) -> str:
    """Return 12 hex digits of the SHA-256 of a module's weights: names and float32 values, in order of names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def existing_file(path: str, what: str) -> Path:
    """Return a path that the user gave.

    Raises:
        UniEmoError: there is no such file.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise UniEmoError(f"{what} must be a known name or a file with weights; there is no file {str(file)!r}")
    return file


def is_torchscript(path: Path) -> bool:
    """Return whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def read_weights(path: Path, what: str) -> dict[str, Tensor]:
    """Read a state dict; one inside a checkpoint's ``state_dict`` is taken out, ``module.`` prefixes are dropped.

    Args:
        path: ``.safetensors``, or what ``torch.save`` wrote; nothing but tensors and plain values is unpickled.
        what: named in the error.

    Raises:
        UniEmoError: the file cannot be read, or holds no tensors.
    """
    if is_torchscript(path):
        raise UniEmoError(
            f"{what} must be a file of weights; {path} cannot be read, it is TorchScript: give another file"
        )
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise UniEmoError(
            f"{what} must be a file of weights; {path} cannot be read ({_first_line(error)}): fetch it again"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    if not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise UniEmoError(f"{what} must be a file of named tensors; {path} holds none: give another file")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_weights(module: nn.Module, state: dict[str, Tensor], path: Path, what: str) -> None:
    """Load a state dict in full.

    Raises:
        UniEmoError: names or shapes differ; the first that does is named.
    """
    own = module.state_dict()
    for name, value in own.items():
        if name not in state and not name.endswith("num_batches_tracked"):  # files older than torch 0.4.1 have none
            raise UniEmoError(f"{what} must have a weight {name}; {path} has none: it belongs to another network")
        if name in state and state[name].shape != value.shape:
            raise UniEmoError(
                f"{what} must have {name} of shape {tuple(value.shape)}; that in {path} has "
                f"{tuple(state[name].shape)}: it belongs to another network"
            )
    extra = sorted(set(state) - set(own))
    if extra:
        raise UniEmoError(f"{what} has no weight {extra[0]}, as in {path}: it belongs to another network")
    module.load_state_dict({**{k: v for k, v in own.items() if k not in state}, **state})


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give convolutions and linear layers seeded random weights that keep the size of activations (He et al. 2015)."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)


def _first_line(error: BaseException) -> str:
    """Return an exception's first line, or its type where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
