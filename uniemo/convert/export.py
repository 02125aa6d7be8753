"""Checkpoints of ours in formats that other programs read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from uniemo.cache import atomic_write
from uniemo.checkpoint import GENERATING, PREFIX, CheckpointInfo, load_model, read_checkpoint
from uniemo.convert.words import learned_words, readme
from uniemo.errors import UniEmoError
from uniemo.models.diffusion import DiffusionBackbone
from uniemo.models.diffusion.components import quiet

MARK = "uniemo.json"  # in every folder that export_diffusers wrote
_ANY_END = 2  # end token of text encoders that pool at the highest id instead


def export_safetensors(checkpoint: str | Path, output: str | Path) -> int:
    """Write a checkpoint's weights as safetensors, what it says about itself as JSON under ``uniemo`` in the metadata.

    Names are those of :class:`uniemo.models.uniemo.UniEmoModel`; ``load_trained_state_dict`` takes them back. Frozen
    backbones are not among them, as in the checkpoint; the metadata names them.

    Args:
        checkpoint: of any stage.
        output: file to write; an old one is replaced when all is done.

    Returns:
        How many tensors were written.
    """
    content, info = read_checkpoint(checkpoint)
    state = {
        name.removeprefix(PREFIX): value.detach().clone(memory_format=torch.contiguous_format)
        for name, value in content["state_dict"].items()
    }
    with atomic_write(output) as path:
        save_file(state, path, metadata={"format": "pt", "uniemo": json.dumps(_about(info), ensure_ascii=False)})
    return len(state)


def export_diffusers(checkpoint: str | Path, output: str | Path, draws: int = 4) -> list[str]:
    """Write a folder that a plain diffusers script can use: the pipeline, and each emotion's conditions as words.

    Everything is in float32: adapters are merged into the UNet, and half precision would round small ones away.

    Args:
        checkpoint: of the joint or feedback stage.
        output: folder to write; an old export is replaced when all is done, nothing else is.
        draws: drawn conditions per emotion beside its mean, of seeds 0 and on.

    Returns:
        The words.

    Raises:
        UniEmoError: another stage, no emotion space in it, or a backbone that cannot be loaded.
    """
    output = Path(output).expanduser()
    check_replaceable(output)
    model, info = load_model(checkpoint, GENERATING, generation=True, dtype="float32")
    backbone: Any = model.diffusion
    words = learned_words(model, draws)
    pipeline = _pipeline(backbone)
    with atomic_write(output) as folder, quiet():
        pipeline.save_pretrained(folder)
        for word in words:
            word.save(folder)
        text = readme(output.name, info, backbone.config, info.model["diffusion"]["dtype"], words)
        (folder / "README.md").write_text(text, encoding="utf-8")
        (folder / MARK).write_text(json.dumps(_about(info), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if output.is_dir():
            check_replaceable(output)
            shutil.rmtree(output)
    return [word.name for word in words]


def _pipeline(backbone: DiffusionBackbone) -> Any:  # noqa: ANN401 - diffusers is imported late
    """Return a diffusion model as the pipeline that it is, adapters merged, with the scheduler that it generates with.

    Text encoders whose configuration names no end token pool at the highest id of a prompt, where a new word would
    stand: the tokenizer's end token, which it means, is named instead.
    """
    if backbone.config.lora_rank > 0:
        unet: Any = backbone.unet
        unet.fuse_lora()
        unet.unload_lora()
    for tokenizer, encoder in zip(backbone.tokenizers, backbone.text_encoders, strict=True):
        encoder_config: Any = encoder.config
        if encoder_config.eos_token_id == _ANY_END:
            encoder_config.eos_token_id = tokenizer.eos_token_id
    return backbone.pipeline()


def check_replaceable(folder: Path) -> None:
    """Raise unless a folder is absent, empty or an earlier export."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UniEmoError(f"--output must be a new folder or an earlier export; {folder} is neither: choose another")
    if folder.exists() and not folder.is_dir():
        raise UniEmoError(f"--output must be a folder; {folder} is a file: choose another")


def _about(info: CheckpointInfo) -> dict[str, Any]:
    """Return what a checkpoint says about itself, fit for JSON."""
    return {
        "version": info.version,
        "stage": info.stage,
        "vocabulary": info.vocabulary.to_dict(),
        "model": info.model,
        "backbones": info.backbones,
        "config": info.config,
    }
