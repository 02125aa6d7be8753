"""Stable Diffusion by hub name, folder or single file: what must be there, and loading it quietly."""

from __future__ import annotations

import contextlib
import json
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from uniemo.errors import UniEmoError
from uniemo.miniature.paths import MINIATURE, resolve
from uniemo.models.diffusion_shapes import (
    SD15,
    SDXL,
    SIZES,
    known_shape,
    random_parts,
    repository_files,
    write_configs,
)
from uniemo.models.hub import RANDOM, hub_folder, is_hub_name

_PARTS: dict[str, tuple[tuple[str, ...], ...]] = {  # files that each part must have, one pattern of each group
    "unet": (("config.json",), ("diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.bin")),
    "vae": (("config.json",), ("diffusion_pytorch_model*.safetensors", "diffusion_pytorch_model*.bin")),
    "text_encoder": (("config.json",), ("model*.safetensors", "pytorch_model*.bin")),
    "tokenizer": (("tokenizer.json", "vocab.json"),),
    "scheduler": (("scheduler_config.json",),),
}
_SECOND = {"text_encoder_2": _PARTS["text_encoder"], "tokenizer_2": _PARTS["tokenizer"]}
_CLASSES = {"StableDiffusionPipeline": _PARTS, "StableDiffusionXLPipeline": _PARTS | _SECOND}
_ALONE: dict[str, Any] = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
_ALONE_XL: dict[str, Any] = {"feature_extractor": None, "image_encoder": None, "add_watermarker": False}
_XL_KEY = "conditioner.embedders.1.model.ln_final.weight"  # only XL's files have a second text encoder
_SD_KEY = "cond_stage_model.transformer.text_model.final_layer_norm.weight"


def find_diffusion(name: str) -> Path:
    """Return the folder or the single file that a diffusion model's name means, complete.

    Args:
        name: ``miniature:diffusion``, a folder in diffusers' layout, a single .safetensors file of Stable Diffusion 1
            or XL, or a name on the hub, which is fetched unless ``HF_HUB_OFFLINE`` is set. Behind ``random:`` any of
            these but a file, of which only configurations are looked at; of ``sd15``, ``sdxl`` and their hub names not
            even those (the path is then the name).

    Raises:
        UniEmoError: nothing there, or a file is missing.
    """
    random, wanted = name.startswith(RANDOM), name.removeprefix(RANDOM)
    folder = resolve(wanted)
    if random and not folder.is_dir():
        if known_shape(wanted) is None:
            raise UniEmoError(
                f"diffusion.path must be a folder or {SD15}, {SDXL}, sd15 or sdxl for random weights; got {wanted!r}"
            )
        return folder
    if folder.is_file():
        _single_kind(folder)
        return folder
    if not folder.is_dir() and not wanted.startswith(MINIATURE) and is_hub_name(wanted):
        files, optional = repository_files(wanted)
        folder = hub_folder(wanted, files, "diffusion.path", SIZES.get(wanted, ""), optional)
    _check_folder(folder, weights=not random)
    return folder


def load_pipeline(name: str, dtype: str = "float32") -> Any:  # noqa: ANN401 - diffusers is imported late
    """Load a Stable Diffusion; no safety checker.

    Args:
        name: see :func:`find_diffusion`.
        dtype: precision of UNet and text encoders; ``float32`` leaves the files' own. The VAE stays in float32.

    Returns:
        A ``StableDiffusionPipeline`` or ``StableDiffusionXLPipeline``.

    Raises:
        UniEmoError: a file is missing or cannot be read.
    """
    import diffusers

    place = find_diffusion(name)
    wanted = name.removeprefix(RANDOM)
    if name.startswith(RANDOM):
        with tempfile.TemporaryDirectory() as temporary, quiet():
            if not place.is_dir():
                place = Path(temporary) / "model"
                write_configs(str(known_shape(wanted)), place)
            return assemble(**random_parts(place, getattr(torch, dtype)))
    xl = (place / "text_encoder_2").is_dir() or (place.is_file() and _single_kind(place) == SDXL)
    kind = diffusers.StableDiffusionXLPipeline if xl else diffusers.StableDiffusionPipeline
    options: dict[str, Any] = {"local_files_only": True, **(_ALONE_XL if xl else _ALONE)}
    try:
        with quiet(), tempfile.TemporaryDirectory() as temporary:
            if place.is_file():
                config = Path(temporary) / "model"
                write_configs(SDXL if xl else SD15, config)
                return kind.from_single_file(str(place), config=str(config), **options)
            if dtype != "float32":  # a network is never held twice then
                options["torch_dtype"] = {"default": getattr(torch, dtype), "vae": torch.float32}
            return kind.from_pretrained(str(place), variant=_variant(place), **options)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UniEmoError(
            f"diffusion.path must be readable; {str(place)!r} is not ({reason}), copy its files there anew"
        ) from error


def assemble(
    unet: Any,  # noqa: ANN401 - diffusers is imported late
    vae: Any,  # noqa: ANN401
    text_encoder: Any,  # noqa: ANN401
    tokenizer: Any,  # noqa: ANN401
    scheduler: Any,  # noqa: ANN401
    text_encoder_2: Any = None,  # noqa: ANN401
    tokenizer_2: Any = None,  # noqa: ANN401
) -> Any:  # noqa: ANN401
    """Return a pipeline of loaded parts that shows no progress bar; with a second text encoder it is XL's."""
    import diffusers

    parts = {"vae": vae, "unet": unet, "text_encoder": text_encoder, "tokenizer": tokenizer, "scheduler": scheduler}
    with quiet():
        if text_encoder_2 is None:
            pipeline = diffusers.StableDiffusionPipeline(**parts, **_ALONE)
        else:
            pipeline = diffusers.StableDiffusionXLPipeline(
                **parts, text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2, **_ALONE_XL
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


def _variant(folder: Path) -> str | None:
    """Return ``fp16`` for a folder that has its UNet in that variant alone."""
    weights = [file.name for pattern in _PARTS["unet"][1] for file in (folder / "unet").glob(pattern)]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None


def _single_kind(file: Path) -> str:
    """Return which model a single file is of, by the names of its tensors.

    Raises:
        UniEmoError: neither Stable Diffusion 1 nor XL.
    """
    keys: set[str] = set()
    if file.suffix == ".safetensors":
        with contextlib.suppress(SafetensorError, OSError), safe_open(str(file), framework="pt") as opened:
            keys = set(opened.keys())
    kind = SDXL if _XL_KEY in keys else SD15 if _SD_KEY in keys else None
    if kind is None:
        raise UniEmoError(
            f"diffusion.path must be a .safetensors file of Stable Diffusion 1 or XL where it is a single file; "
            f"{str(file)!r} is not, give a folder in diffusers' layout"
        )
    return kind


def _check_folder(folder: Path, weights: bool = True) -> None:
    """Raise the error that names the first file that a Stable Diffusion folder lacks."""
    index = folder / "model_index.json"
    if not index.is_file():
        raise UniEmoError(
            f"diffusion.path must be a folder with model_index.json, a single .safetensors file or a name on the hub; "
            f"{str(folder)!r} {'has none' if folder.is_dir() else 'is not there'}, give another"
        )
    try:
        kind = json.loads(index.read_text()).get("_class_name")
    except (ValueError, AttributeError) as error:
        raise UniEmoError(f"diffusion.path must hold a readable model_index.json; {str(index)!r} is not") from error
    if kind not in _CLASSES:
        raise UniEmoError(
            f"diffusion.path must hold a StableDiffusionPipeline or StableDiffusionXLPipeline; {str(folder)!r} holds "
            f"{kind!r}, give another"
        )
    for part, groups in _CLASSES[kind].items():
        for patterns in groups:
            if not weights and patterns[0].endswith(".safetensors"):
                continue
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
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch_dtype.*")  # renamed in diffusers 0.42
            yield
    finally:
        for library, shown, level in before:
            library.set_verbosity(level)
            if shown:
                library.enable_progress_bar()
