"""A CLIP out of one file: OpenAI's own TorchScript archive, or a state dict with the name of its architecture."""

from __future__ import annotations

import collections
import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_state_dict
from open_clip.model import build_model_from_openai_state_dict
from safetensors import SafetensorError
from torch import Tensor

from uniemo.errors import UniEmoError
from uniemo.models.clip_shapes import CONTEXT, VOCABULARY, set_openai_pixels

_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "visual.attn_mask")
_DTYPES = {
    "HalfStorage": torch.float16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "BoolStorage": torch.bool,
}


def is_openai_archive(file: Path) -> bool:
    """Whether a file is a TorchScript archive, the form in which OpenAI published CLIP: one with a folder of code."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any("/code/" in name for name in archive.namelist())


def read_clip_file(file: Path, architecture: str | None) -> Any:  # noqa: ANN401 - open_clip is not typed
    """Return an open_clip model in eval mode with the weights of a file.

    Args:
        file: OpenAI's archive, or a state dict with open_clip's names (.safetensors, .pt, .bin), alone or under
            ``state_dict``. Only tensors are read; nothing in it is executed.
        architecture: open_clip's name; None reads the sizes off the tensors and takes quick-GELU, which is right for
            OpenAI's weights only.

    Raises:
        UniEmoError: a file that cannot be read or does not fit.
    """
    wrong = f"clip file must hold a CLIP ViT with open_clip's names; {str(file)!r} does not"
    try:
        found = read_archive(file) if is_openai_archive(file) else load_state_dict(str(file))
        state = {name: value.float() for name, value in found.items() if name not in _NO_WEIGHTS}
        if architecture is None:
            sizes = (len(state["token_embedding.weight"]), len(state["positional_embedding"]))
            if sizes != (VOCABULARY, CONTEXT):
                raise ValueError(f"{sizes[0]} tokens in {sizes[1]} places are not OpenAI's")
            model: Any = build_model_from_openai_state_dict(state).float()
            set_openai_pixels(model)
        else:
            model = open_clip.create_model(architecture, load_weights=False)
            model.load_state_dict(state)
    except (KeyError, AttributeError, TypeError, StopIteration, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UniEmoError(f"{wrong}: give another, with its architecture as in ViT-L-14-quickgelu/<file>") from error
    except (RuntimeError, OSError, ValueError, EOFError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UniEmoError(f"{wrong} ({reason}): give another, or the architecture that it is of") from error
    return model.eval()


def read_archive(file: Path) -> dict[str, Tensor]:
    """Return the tensors of a TorchScript archive by name, without running any of its code.

    Raises:
        pickle.UnpicklingError: it asks for anything but tensors and plain values.
    """
    with zipfile.ZipFile(file) as archive:
        content = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
        root = _ArchiveUnpickler(archive, content.removesuffix("data.pkl")).load()
    state: dict[str, Tensor] = {}
    modules = [("", root)]
    while modules:
        prefix, module = modules.pop()
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                state[prefix + name] = value
            elif hasattr(value, "__dict__"):
                modules.append((f"{prefix}{name}.", value))
    return state


class _ArchiveUnpickler(pickle.Unpickler):
    """Reads an archive's object tree: modules become plain objects with their attributes, storages tensors."""

    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(f"{folder}data.pkl")))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:  # noqa: ANN401
        """Return what may be named, made anew each time; all else is refused."""
        if module.startswith("__torch__"):
            return type(name, (), {})
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: storage.as_strided(size, stride, offset)
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch.jit._pickle" and name.startswith("build_"):
            return lambda values: values  # typed lists
        raise pickle.UnpicklingError(f"asks for {module}.{name}")

    def persistent_load(self, pid: tuple[str, torch.dtype, str, str, int]) -> Tensor:
        """Return a storage as a flat tensor."""
        _, dtype, key, _, count = pid
        data = self._archive.read(f"{self._folder}data/{key}")
        return torch.frombuffer(bytearray(data), dtype=dtype) if count else torch.empty(0, dtype=dtype)
