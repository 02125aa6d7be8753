"""Diffusion models without their weights, by configuration alone: published ones, and any folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from uniemo.errors import UniEmoError, first_line
from uniemo.models.declared import check_layers
from uniemo.models.diffusion.base import DiffusionBackbone
from uniemo.models.diffusion.components import assemble
from uniemo.models.diffusion.schedulers import make_scheduler
from uniemo.text_files import read_json

INDEX = "model_index.json"  # of a folder in diffusers' layout
_SEED = 23372  # of random weights: a checkpoint finds the same ones again


def write_configs(kind: type[DiffusionBackbone], folder: Path, name: str | None = None) -> None:
    """Write a published model's configurations and OpenAI's tokenizer as a folder in diffusers' layout.

    Args:
        kind: its family.
        folder: to write.
        name: of the published model; None is the family's first.
    """
    changes = kind.published[name].changes if name is not None else {}
    index: dict[str, Any] = {"_class_name": kind.pipeline_class}
    for part, own in kind.configs.items():
        config = own | changes.get(part, {})
        if part.startswith("tokenizer"):
            index[part] = ["transformers", "CLIPTokenizer"]
            openai_tokenizer(**config).save_pretrained(folder / part)
            continue
        class_name = kind.components.get(part) or config["_class_name"]
        index[part] = ["transformers" if part.startswith("text_encoder") else "diffusers", class_name]
        file = folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps({"_class_name": class_name, **config}))
    (folder / INDEX).write_text(json.dumps(index))


def openai_tokenizer(pad_token: str, length: int = 77, size: int = 49408) -> Any:  # noqa: ANN401
    """Return OpenAI's CLIP tokenizer in transformers' form, made of the vocabulary that comes with open_clip.

    Args:
        pad_token: fills prompts up.
        length: most tokens of a prompt.
        size: how many of its tokens it has, the most frequent ones; fewer stand in for another model's vocabulary.
    """
    from open_clip.tokenizer import SimpleTokenizer
    from transformers import CLIPTokenizer

    simple = SimpleTokenizer()
    ends = {simple.sot_token_id: "<|startoftext|>", simple.eot_token_id: "<|endoftext|>"}
    kept = size - len(ends)
    vocabulary = {token: index for token, index in simple.encoder.items() if index < kept}
    vocabulary |= {name: kept + number for number, name in enumerate(ends.values())}
    merges = [pair for pair, rank in simple.bpe_ranks.items() if "".join(pair) in vocabulary]
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=length, pad_token=pad_token)


def random_pipeline(kind: type[DiffusionBackbone], folder: Path, dtype: torch.dtype) -> Any:  # noqa: ANN401
    """Build a folder's pipeline with random weights, always the same; only configurations and tokenizers are read.

    Raises:
        UniEmoError: a configuration that makes no network.
    """
    parts: dict[str, Any] = {}
    before = torch.get_default_dtype()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(_SEED)
            check_folder(kind, folder)
            for part, name in kind.components.items():
                torch.set_default_dtype(torch.float32 if part == "vae" else dtype)  # half precision is never held twice
                parts[part] = _random_component(name, str(folder / part))
        scheduler = read_json(folder / "scheduler/scheduler_config.json")
        parts["scheduler"] = make_scheduler(scheduler["_class_name"], scheduler)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise UniEmoError(
            f"diffusion.path must hold readable configurations; {str(folder)!r} does not ({first_line(error)}), "
            f"copy its files there anew"
        ) from error
    finally:
        torch.set_default_dtype(before)
    return assemble(kind.pipeline_class, {**parts, **kind.pipeline_options})


def _random_component(name: str, folder: str) -> Any:  # noqa: ANN401
    """Return a network of its configuration, or a tokenizer as it is."""
    import diffusers
    import transformers

    network = getattr(diffusers, name, None)
    if network is not None:
        return network.from_config(network.load_config(folder))
    if "Tokenizer" in name:
        return transformers.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    kind = getattr(transformers, name)
    return kind(kind.config_class.from_pretrained(folder))


def check_folder(kind: type[DiffusionBackbone], folder: Path) -> None:
    """Raise ValueError where a network of a folder declares more layers than any has."""
    for file in (folder / part / "config.json" for part in kind.components):
        if file.is_file():
            check_layers(read_json(file))
