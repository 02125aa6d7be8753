"""A CLIP out of one file: OpenAI's own TorchScript archive, or a state dict with the name of its architecture."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.factory import load_state_dict
from safetensors import SafetensorError
from torch import Tensor

from uniemo.errors import UniEmoError
from uniemo.models.clip_shapes import CONTEXT, HEAD_WIDTH, VOCABULARY, ClipShape, build_shape

_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask", "visual.attn_mask")
_ARCHIVE = "code/"  # a folder that TorchScript archives have and saved tensors have not


def is_openai_archive(file: Path) -> bool:
    """Whether a file is a TorchScript archive, the form in which OpenAI published CLIP."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(f"/{_ARCHIVE}" in name for name in archive.namelist())


def read_clip_file(file: Path, architecture: str | None) -> Any:  # noqa: ANN401 - open_clip is not typed
    """Return an open_clip model in eval mode with the weights of a file.

    Args:
        file: OpenAI's archive, or a state dict with open_clip's names (.safetensors, .pt, .bin), alone or under
            ``state_dict``. Of an archive the tensors are read; nothing in it is called.
        architecture: open_clip's name; None reads the sizes off the tensors and takes quick-GELU, which is right for
            OpenAI's weights only.

    Raises:
        UniEmoError: a file that cannot be read or does not fit.
    """
    wrong = f"clip file must hold a CLIP ViT with open_clip's names; {str(file)!r} does not"
    try:
        if is_openai_archive(file):
            found = torch.jit.load(str(file), map_location="cpu").state_dict()
        else:
            found = load_state_dict(str(file))
        state = {name: value.float() for name, value in found.items() if name not in _NO_WEIGHTS}
        model: Any = _build(state) if architecture is None else open_clip.create_model(architecture, load_weights=False)
        model.load_state_dict(state)
    except (KeyError, AttributeError, TypeError, StopIteration, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UniEmoError(f"{wrong}: give another, with its architecture as in ViT-L-14-quickgelu/<file>") from error
    except (RuntimeError, OSError, ValueError, EOFError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UniEmoError(f"{wrong} ({reason}): give another, or the architecture that it is of") from error
    return model.eval()


def _build(state: dict[str, Tensor]) -> Any:  # noqa: ANN401
    """Return a model of a state dict's sizes with random weights and OpenAI's activation."""
    width, _, patch, _ = state["visual.conv1.weight"].shape
    grid = round((len(state["visual.positional_embedding"]) - 1) ** 0.5)
    vocabulary, text_width = state["token_embedding.weight"].shape
    context = len(state["positional_embedding"])
    if (vocabulary, context) != (VOCABULARY, CONTEXT):
        raise ValueError(f"a vocabulary of {vocabulary} tokens is not OpenAI's")
    shape = ClipShape(width, _layers(state, "visual."), patch, grid * patch, state["text_projection"].shape[1])
    text = {"width": text_width, "layers": _layers(state, ""), "heads": max(1, text_width // HEAD_WIDTH)}
    return build_shape(shape, text | {"vocab_size": vocabulary, "context_length": context})


def _layers(state: dict[str, Tensor], tower: str) -> int:
    """Return how many blocks a tower has."""
    start = f"{tower}transformer.resblocks."
    return 1 + max(int(name[len(start) :].partition(".")[0]) for name in state if name.startswith(start))
