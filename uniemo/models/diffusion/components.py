"""Components of diffusers pipelines: assembling them, adapters."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from uniemo.errors import UniEmoError, first_line

ATTENTION = ("to_q", "to_k", "to_v", "to_out.0")  # the linear layers of diffusers' attention, which LoRA adapts


def assemble(name: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - diffusers is imported late
    """Return a pipeline, by class name, of its loaded components; it shows no progress bar."""
    import diffusers

    with quiet():
        pipeline = getattr(diffusers, name)(**arguments)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def add_lora(network: Any, rank: int) -> None:  # noqa: ANN401
    """Put peft's adapters of a rank on every attention layer of a diffusers network; they start at zero.

    Adapters learn in float32 where the frozen network is in half precision.

    Raises:
        UniEmoError: the network has no attention layers.
    """
    from peft import LoraConfig

    if not any(name.endswith(ATTENTION) for name, _ in network.named_modules()):
        raise UniEmoError(f"diffusion.lora_rank must be 0 for a UNet without attention layers; got {rank}")
    with torch.random.fork_rng(devices=[]):  # peft's own first weights are not used
        network.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=[*ATTENTION]))
    for name, parameter in network.named_parameters():
        if ".lora_A." in name:  # (rank, in)
            parameter.data = torch.randn(parameter.shape) / parameter.shape[1] ** 0.5
        elif ".lora_B." in name:  # (out, rank)
            parameter.data = torch.zeros(parameter.shape)


def find_adapter(name: str | None) -> Path | None:
    """Return the file of a published LoRA, None for none.

    Raises:
        UniEmoError: no such file, or not a .safetensors one.
    """
    if name is None:
        return None
    path = Path(name).expanduser()
    if path.suffix != ".safetensors" or not path.is_file():
        raise UniEmoError(
            f"diffusion.adapter must be an existing .safetensors file; got {name}: fetch one, for example with "
            "`hf download latent-consistency/lcm-lora-sdxl pytorch_lora_weights.safetensors --local-dir models`"
        )
    return path


def merge_adapter(pipeline: Any, path: Path) -> None:  # noqa: ANN401
    """Merge a LoRA into a pipeline's denoising network.

    Raises:
        UniEmoError: the file cannot be read or belongs to another model.
    """
    try:
        with quiet():
            pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True)
            pipeline.fuse_lora()
            pipeline.unload_lora_weights()
    except Exception as error:  # the file is anyone's
        raise UniEmoError(
            f"diffusion.adapter must be a LoRA of this diffusion model; {str(path)!r} is not "
            f"({first_line(error)}), give another"
        ) from error


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
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch_dtype.*")  # renamed in diffusers 0.42
            yield
    finally:
        for library, shown, level in before:
            library.set_verbosity(level)
            if shown:
                library.enable_progress_bar()
