"""Weight files: where they lie, how they are downloaded, read and hashed."""

from __future__ import annotations

import hashlib
import re
import socket
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock
from huggingface_hub import constants
from safetensors.torch import load_file
from torch import Tensor, nn

from uniemo.archives import check_archive, is_ordinary
from uniemo.errors import UniEmoError, first_line
from uniemo.models.state import check_finite
from uniemo.torchscript import is_torchscript, read_torchscript

State = dict[str, Tensor]  # of a module
_TIMEOUT = 20.0  # seconds without an answer after which a download has failed


@dataclass(frozen=True)
class WeightFile:
    """A published file.

    Attributes:
        url: where it is published.
        size: in words.
        alias: another name that the same bytes are published under.
    """

    url: str
    size: str
    alias: str | None = None

    @property
    def name(self) -> str:
        """Its name in torch hub's folder."""
        return self.url.rsplit("/", 1)[1]


def torchvision_file(name: str) -> WeightFile:
    """Return the file that torchvision publishes weights in, for example ``ResNet50_Weights.IMAGENET1K_V1``."""
    from torchvision.models import get_weight

    weights = get_weight(name)
    return WeightFile(weights.url, f"{weights.meta['_file_size']:.0f} MB")


def find_weights(file: WeightFile, what: str) -> Path:
    """Return a published file in torch hub's folder (``TORCH_HOME`` moves it), downloaded at first need."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    for name in (file.name, file.alias):
        if name and (folder / name).is_file():
            return folder / name
    reason = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        try:
            return _download(file.url, folder / file.name)
        except (OSError, RuntimeError) as error:
            reason = f"its download failed, {first_line(error)}"
    raise UniEmoError(
        f"{what} must have its weights on disk; {file.name} ({file.size}) is not in {folder} ({reason}): fetch with "
        f"`curl -L --create-dirs -o {folder / file.name} {file.url}`, or give a path instead of the name"
    )


def _download(url: str, path: Path) -> Path:
    """Download a file; its content must have the hash in its name (``…-7be5be79.pth``), where there is one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    wanted = re.search(r"-([0-9a-f]{8,})\.pth$", path.name)
    before = socket.getdefaulttimeout()
    with FileLock(f"{path}.lock"):
        if not path.is_file():  # else another process was faster
            socket.setdefaulttimeout(_TIMEOUT)
            try:
                torch.hub.download_url_to_file(url, str(path), wanted[1] if wanted else None)
            finally:
                socket.setdefaulttimeout(before)
    return path


def locate(role: str, name: str, files: Mapping[str, WeightFile], random: bool) -> tuple[Path | None, str]:
    """Return where a network's weights are and how results call it.

    Args:
        role: of the network, for errors.
        name: one of ``files``, or a path.
        files: published ones by name.
        random: seeded random weights are wanted, which are nowhere: None.
    """
    what = f"{role} network"
    if random:
        if name not in files:
            raise UniEmoError(f"{what} must be one of {', '.join(files)} with random weights; got {name!r}")
        return None, f"random-{name}"
    if name in files:
        return find_weights(files[name], f"{what} {name!r}"), name
    path = existing_file(name, what)
    return path, path.name.split(".")[0]


def fill(module: nn.Module, path: Path | None, what: str, rename: Callable[[State, Path], State] | None = None) -> str:
    """Load weights, or initialise seeded random ones where there is no path; return where they come from."""
    if path is None:
        randomise(module)
        return "random weights, seed 0"
    state = read_weights(path, what)
    load_weights(module, rename(state, path) if rename else state, path, what)
    return str(path)


def weights_hash(module: nn.Module) -> str:
    """Return 12 hex digits of the SHA-256 of a module's weights: names and float32 values, in order of names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def existing_file(path: str, what: str) -> Path:
    """Return a path that the user gave; UniEmoError where there is no such file."""
    file = Path(path).expanduser()
    if not file.is_file():
        raise UniEmoError(f"{what} must be a known name or a file with weights; there is no file {str(file)!r}")
    return file


def read_weights(path: Path, what: str) -> State:
    """Read a state dict; one inside a checkpoint's ``state_dict`` is taken out, ``module.`` prefixes are dropped.

    Args:
        path: ``.safetensors``, a TorchScript archive, of which nothing is run, or what ``torch.save`` wrote; nothing
            but tensors and plain values is unpickled.
        what: named in the error.
    """
    try:
        check_archive(path)
        if path.suffix == ".safetensors":
            content = load_file(path)
        elif is_torchscript(path):
            content = read_torchscript(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the file is anyone's
        raise UniEmoError(
            f"{what} must be a file of weights; {path} cannot be read ({first_line(error)}): fetch it again"
        ) from error
    state = content.get("state_dict", content) if isinstance(content, dict) else {}
    named = isinstance(state, dict) and all(isinstance(name, str) and is_ordinary(state[name]) for name in state)
    if not state or not named:
        raise UniEmoError(f"{what} must be a file of named tensors; {path} holds none: give another file")
    check_finite(state, f"{what} {path}", "give another file")
    return {name.removeprefix("module."): value for name, value in state.items()}


def load_weights(module: nn.Module, state: State, path: Path, what: str) -> None:
    """Load a state dict in full; UniEmoError where names or shapes differ."""
    own = module.state_dict()  # files older than torch 0.4.1 have no counters
    counters = {name: value for name, value in own.items() if name.endswith("num_batches_tracked")}
    try:
        module.load_state_dict({**counters, **state})
    except RuntimeError as error:
        reason = textwrap.shorten(" ".join(str(error).splitlines()[1:]), 200)
        raise UniEmoError(f"{what} and {path} must be of one architecture ({reason}): give another file") from error


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give convolutions and linear layers seeded random weights that keep the size of activations (He et al. 2015)."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu", generator=generator)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
