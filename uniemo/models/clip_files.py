"""A CLIP out of one file: OpenAI's own TorchScript archive, or a state dict with the name of its architecture."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import open_clip
from open_clip.factory import load_state_dict
from open_clip.model import build_model_from_openai_state_dict

from uniemo.archives import check_archive
from uniemo.errors import UniEmoError, first_line
from uniemo.models.clip_shapes import CONTEXT, VOCABULARY, set_openai_pixels
from uniemo.torchscript import is_torchscript, read_torchscript

_NO_WEIGHTS = ("input_resolution", "context_length", "vocab_size", "attn_mask")  # last part of a name


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
        check_archive(file)
        found = read_torchscript(file) if is_torchscript(file) else load_state_dict(str(file))
        state = {name: value.float() for name, value in found.items() if name.rpartition(".")[2] not in _NO_WEIGHTS}
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
    except Exception as error:  # the file is anyone's
        raise UniEmoError(f"{wrong} ({first_line(error)}): give another, or the architecture that it is of") from error
    return model.eval()
