"""Stable Diffusion folders: what must be in them, and loading them quietly."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from uniemo.errors import UniEmoError

_PARTS = {  # files that each part must have, one pattern of each group
    "unet": (("config.json",), ("diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.bin")),
    "vae": (("config.json",), ("diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.bin")),
    "text_encoder": (("config.json",), ("model*.safetensors", "pytorch_model*.bin")),
    "tokenizer": (("tokenizer.json", "vocab.json"),),
    "scheduler": (("scheduler_config.json",),),
}
_ALONE: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}


def load_pipeline(folder: Path) -> Any:  # noqa: ANN401 - diffusers is imported late
    """Load a Stable Diffusion folder in diffusers' layout; no network, no safety checker.

    Raises:
        UniEmoError: a file is missing or cannot be read.
    """
    import diffusers

    _check_folder(folder)
    try:
        with quiet():
            return diffusers.StableDiffusionPipeline.from_pretrained(str(folder), local_files_only=True, **_ALONE)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UniEmoError(
            f"diffusion.path must be readable; {str(folder)!r} is not ({reason}), copy its files there anew"
        ) from error


def assemble(unet: Any, vae: Any, text_encoder: Any, tokenizer: Any, scheduler: Any) -> Any:  # noqa: ANN401
    """Return a pipeline of loaded parts that shows no progress bar."""
    import diffusers

    with quiet():
        pipeline = diffusers.StableDiffusionPipeline(
            vae=vae, unet=unet, text_encoder=text_encoder, tokenizer=tokenizer, scheduler=scheduler, **_ALONE
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make_scheduler(name: str, config: dict[str, Any]) -> Any:  # noqa: ANN401
    """Make a diffusers scheduler by class name, on the noise schedule of ``config``.

    Raises:
        UniEmoError: diffusers has no scheduler of this name.
    """
    import diffusers

    kind: Any = getattr(diffusers, name, None)
    if not (hasattr(kind, "from_config") and hasattr(kind, "set_timesteps")):
        raise UniEmoError(f"diffusion scheduler must be a class of diffusers; got {name!r}, try DDIMScheduler")
    with quiet():
        return kind.from_config(config)


def _check_folder(folder: Path) -> None:
    """Raise the error that names the first file that a Stable Diffusion folder lacks."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise UniEmoError(
            f"diffusion.path must be a folder with model_index.json; {str(folder)!r} has none, give another"
        )
    try:
        kind = json.loads(index.read_text()).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise UniEmoError(f"diffusion.path must hold a readable model_index.json; {str(index)!r} is not") from error
    if kind != "StableDiffusionPipeline":
        raise UniEmoError(
            f"diffusion.path must hold a StableDiffusionPipeline; {str(folder)!r} holds {kind!r}, give another"
        )
    for part, groups in _PARTS.items():
        for patterns in groups:
            if not any(next((folder / part).glob(pattern), None) for pattern in patterns):
                wanted = patterns[0].replace("*", "")
                raise UniEmoError(
                    f"diffusion.path must be complete; {str(folder / part)!r} lacks {wanted}, copy it there"
                )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the libraries' progress bars and notes off the screen; what was set before comes back."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = (diffusers_logging, transformers_logging)
    before = [(library, library.is_progress_bar_enabled(), library.get_verbosity()) for library in libraries]
    for library in libraries:
        library.disable_progress_bar()
        library.set_verbosity_error()
    try:
        yield
    finally:
        for library, shown, level in before:
            library.set_verbosity(level)
            if shown:
                library.enable_progress_bar()
