"""Diffusion models by hub name, folder or single file: what must be there, and loading by diffusers' own loaders."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from uniemo.class_paths import import_class
from uniemo.errors import UniEmoError, first_line
from uniemo.miniature.paths import MINIATURE, resolve
from uniemo.models.diffusion.base import DiffusionBackbone
from uniemo.models.diffusion.components import find_adapter, merge_adapter, quiet
from uniemo.models.diffusion.config import DiffusionConfig
from uniemo.models.diffusion.random_weights import INDEX, check_folder, random_pipeline, write_configs
from uniemo.models.diffusion.sana import Sana
from uniemo.models.diffusion.sd3 import StableDiffusion3
from uniemo.models.diffusion.sdxl import StableDiffusionXL
from uniemo.models.diffusion.stable_diffusion import StableDiffusion
from uniemo.models.hub import RANDOM, hub_folder, is_hub_name
from uniemo.models.state import check_finite
from uniemo.text_files import read_json

FAMILIES: tuple[type[DiffusionBackbone], ...] = (StableDiffusionXL, StableDiffusion, StableDiffusion3, Sana)


def load_diffusion(config: DiffusionConfig) -> DiffusionBackbone:
    """Load the diffusion model of a configuration, of whatever family it is.

    Raises:
        UniEmoError: a file is missing or cannot be read, or the configuration does not fit the model.
    """
    adapter = find_adapter(config.adapter)
    pipeline, family = _load(config.path, config.dtype, config.family)
    if adapter is not None:
        merge_adapter(pipeline, adapter)
    return family(config, pipeline)


def load_pipeline(name: str, dtype: str = "float32", family: str | None = None) -> Any:  # noqa: ANN401
    """Load a diffusers pipeline, without safety checker.

    Args:
        name: see :func:`find_diffusion`.
        dtype: precision of UNet and text encoders; ``float32`` leaves the files' own. The VAE stays in float32.
        family: see :func:`find_diffusion`.

    Raises:
        UniEmoError: a file is missing or cannot be read.
    """
    return _load(name, dtype, family)[0]


def find_diffusion(name: str, family: str | None = None) -> Path:
    """Return the folder or the single file that a diffusion model's name means, complete.

    Args:
        name: ``miniature:diffusion``, a folder in diffusers' layout, a single .safetensors file of Stable Diffusion 1
            or XL, or a name on the hub, which is downloaded unless ``HF_HUB_OFFLINE`` is set. Behind ``random:`` any of
            these but a file, of which only configurations are looked at; of ``sd15``, ``sdxl`` and their hub names not
            even those (the path is then the name).
        family: class path of a family that is not the package's; None goes by the files.

    Raises:
        UniEmoError: nothing there, or a file is missing.
    """
    random, wanted = name.startswith(RANDOM), name.removeprefix(RANDOM)
    place = resolve(wanted)
    if random and not place.is_dir():
        _published(wanted, family)
        return place
    if not place.exists() and not wanted.startswith(MINIATURE) and is_hub_name(wanted):
        kinds = _families(family)
        known = [kind for kind in kinds if wanted in kind.published]
        patterns = dict.fromkeys(pattern for kind in known or kinds for pattern in _download_patterns(kind))
        size = known[0].published[wanted].size if known else ""
        return hub_folder(wanted, [*patterns], lambda folder: _missing(folder, family), "diffusion.path", size)
    missing = _missing(place, family, weights=not random)
    if missing is not None:
        raise UniEmoError(
            f"diffusion.path must be complete; {str((place / missing).parent)!r} lacks {Path(missing).name}, "
            f"copy it there"
        )
    return place


def _load(name: str, dtype: str, family: str | None) -> tuple[Any, type[DiffusionBackbone]]:
    """Return the pipeline of :func:`load_pipeline` and its family."""
    import diffusers

    place = find_diffusion(name, family)
    random = name.startswith(RANDOM)
    with tempfile.TemporaryDirectory() as temporary, quiet():
        configs = Path(temporary) / "model"
        if random and not place.is_dir():
            kind = _published(name.removeprefix(RANDOM), family)
            write_configs(kind, configs, name.removeprefix(RANDOM))
            return random_pipeline(kind, configs, getattr(torch, dtype)), kind
        kind = _family_of(place, family)
        if random:
            return random_pipeline(kind, place, getattr(torch, dtype)), kind
        pipeline_class = getattr(diffusers, kind.pipeline_class)
        options = {"local_files_only": True, **kind.pipeline_options}
        try:
            if place.is_file():
                write_configs(kind, configs)
                pipeline = pipeline_class.from_single_file(str(place), config=str(configs), **options)
            else:
                check_folder(kind, place)
                if dtype != "float32":  # a network is never held twice then
                    options["torch_dtype"] = {"default": getattr(torch, dtype), "vae": torch.float32}
                pipeline = pipeline_class.from_pretrained(
                    str(place), variant=_variant(place / kind.denoiser), **options
                )
        except Exception as error:  # the files are anyone's
            raise UniEmoError(
                f"diffusion.path must be readable; {str(place)!r} is not ({first_line(error)}): copy its files anew"
            ) from error
    for part, network in pipeline.components.items():
        if isinstance(network, torch.nn.Module):
            check_finite(network.state_dict(), f"{part} of diffusion.path {str(place)!r}", "copy its files there anew")
    return pipeline, kind


# families


def _families(family: str | None) -> tuple[type[DiffusionBackbone], ...]:
    """Return the package's families, or the one of a class path.

    Raises:
        UniEmoError: a class path that names no family.
    """
    if family is None:
        return FAMILIES
    return (import_class(family, DiffusionBackbone, "diffusion.family"),)  # type: ignore[type-abstract]


def _published(name: str, family: str | None) -> type[DiffusionBackbone]:
    """Return the family whose published model has a name.

    Raises:
        UniEmoError: none has it.
    """
    known = {own: kind for kind in _families(family) for own in kind.published}
    if name not in known:
        raise UniEmoError(f"diffusion.path must be a folder or {', '.join(known)} for random weights; got {name!r}")
    return known[name]


def _family_of(place: Path, family: str | None) -> type[DiffusionBackbone]:
    """Return the family of a folder, by the pipeline's class in its index, or of a single file, by its tensors' names.

    Raises:
        UniEmoError: no such place, or of no known family.
    """
    kinds = _families(family)
    if family is not None and place.exists():
        return kinds[0]
    if place.is_file():
        keys: set[str] = set()
        if place.suffix == ".safetensors":
            with contextlib.suppress(SafetensorError, OSError), safe_open(str(place), framework="pt") as opened:
                keys = set(opened.keys())
        found = next((kind for kind in kinds if kind.single_file_key in keys), None)
        if found is None:
            raise UniEmoError(
                f"diffusion.path must be a .safetensors file of Stable Diffusion 1 or XL where it is a single file; "
                f"{str(place)!r} is not, give a folder in diffusers' layout"
            )
        return found
    if not (place / INDEX).is_file():
        raise UniEmoError(
            f"diffusion.path must be a folder with {INDEX}, a single .safetensors file or a name on the hub; "
            f"{str(place)!r} {'has none' if place.is_dir() else 'is not there'}, give another"
        )
    names = {kind.pipeline_class: kind for kind in kinds}
    try:
        name = read_json(place / INDEX)["_class_name"]
        return names[name]
    except (ValueError, TypeError, KeyError) as error:
        raise UniEmoError(
            f"diffusion.path must hold a {' or '.join(names)}; by its {INDEX} {str(place)!r} does not, "
            f"give another or name its class in diffusion.family"
        ) from error


# files


def _required(kind: type[DiffusionBackbone], weights: bool) -> list[tuple[str, ...]]:
    """Return the files that a folder of a family must have, one of each tuple."""
    files: list[tuple[str, ...]] = [("scheduler/scheduler_config.json",)]
    for part in kind.components:
        if part.startswith("tokenizer"):
            files.append((f"{part}/tokenizer.json", f"{part}/vocab.json"))
            continue
        files.append((f"{part}/config.json",))
        if weights:
            stem = f"{part}/{_weights_name(part)}"
            files.append((f"{stem}.safetensors", f"{stem}*.safetensors", f"{part}/*.bin"))
    return files


def _missing(place: Path, family: str | None, weights: bool = True) -> str | None:
    """Return the first file that a folder lacks; None for one that is complete and for a single file."""
    required = _required(_family_of(place, family), weights)
    if place.is_file():
        return None
    return next((files[0] for files in required if not any(next(place.glob(f), None) for f in files)), None)


def _download_patterns(kind: type[DiffusionBackbone]) -> list[str]:
    """Return which files of a repository are downloaded."""
    patterns = [INDEX, "scheduler/*.json"]
    for part in kind.components:
        if part.startswith("tokenizer"):
            patterns.append(f"{part}/*")
            continue
        stem = f"{part}/{_weights_name(part)}"
        patterns += [f"{part}/config.json", f"{stem}.safetensors", f"{stem}.safetensors.index.json"]
        patterns.append(f"{stem}-?????-of-?????.safetensors")  # of a large one
    return patterns


def _weights_name(part: str) -> str:
    """Return the name of a network's weights file: transformers' or diffusers'."""
    return "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"


def _variant(folder: Path) -> str | None:
    """Return ``fp16`` for a network that is there in that variant alone."""
    weights = [file.name for pattern in ("*.safetensors", "*.bin") for file in folder.glob(pattern)]
    return "fp16" if weights and all(".fp16" in name for name in weights) else None
