"""Checkpoints of ours in formats that other programs read."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from uniemo import __version__
from uniemo.checkpoint import GENERATING, PREFIX, CheckpointInfo, load_model, read_checkpoint
from uniemo.errors import UniEmoError
from uniemo.models.lora import merge_lora
from uniemo.models.pipeline import assemble, make_scheduler, quiet
from uniemo.models.uniemo import UniEmoModel
from uniemo.resources import atomic_write

MARK = "uniemo.json"  # in every folder that export_diffusers wrote
CONDITIONS = "conditions"
_MEAN_OF = 64  # drawn conditions that the mean condition of an emotion is taken over

_README = """# Emotions as words for Stable Diffusion

A Stable Diffusion in diffusers' layout, and in `conditions/` what a UniEmo model learned about each emotion: one
textual-inversion embedding per file, one new word each. `<{stem}>` is the mean condition of its emotion, over {mean_of}
draws of the emotion space; `<{stem}-0>` and the like are single draws. Beside this folder, with diffusers alone:

```python
import diffusers
pipeline = diffusers.StableDiffusionPipeline.from_pretrained("{folder}")
pipeline.load_textual_inversion("{folder}/conditions/{stem}.safetensors")
pipeline("{prompt}", num_inference_steps={steps}, guidance_scale={guidance}).images[0].save("{stem}.png")
```

The prompt above is the one that it was trained with; a word may stand in any other, as in "a <{stem}> room". With
`generator=torch.Generator().manual_seed(7)` the image of `<{stem}-7>` is the one that
`uniemo generate --emotion {emotion} --seed 7` draws.

| word | emotion | condition | file |
|---|---|---|---|
{rows}

Made by uniemo {version} from {checkpoint} (SHA-256 begins {digest}) on `{base}`, whose licence holds for the pipeline's
weights.
"""


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

    Args:
        checkpoint: of the joint or feedback stage.
        output: folder to write; an old export is replaced when all is done, nothing else is.
        draws: drawn conditions per emotion beside its mean, of seeds 0 and on.

    Returns:
        The words.

    Raises:
        UniEmoError: another stage, no emotion space in it, a backbone that cannot be loaded, or a pipeline with more
            than one text encoder.
    """
    output = Path(output).expanduser()
    check_replaceable(output)
    model, info = load_model(checkpoint, GENERATING, generation=True)
    backbone: Any = model.diffusion
    if len(backbone.text_encoders) != 1:
        raise UniEmoError(
            f"export to diffusers takes a Stable Diffusion with one text encoder; {backbone.config.path} has "
            f"{len(backbone.text_encoders)}: use uniemo generate"
        )
    words = learned_words(model, draws)
    merge_lora(backbone.unet)
    scheduler = make_scheduler(backbone.config.scheduler, backbone.scheduler_config)
    pipeline = assemble(backbone.unet, backbone.vae, backbone.text_encoders[0], backbone.tokenizers[0], scheduler)
    with atomic_write(output) as folder, quiet():
        pipeline.save_pretrained(folder)
        (folder / CONDITIONS).mkdir()
        for word, (emotion, what, condition) in words.items():
            about = {"format": "pt", "emotion": emotion, "condition": what}
            save_file({word: condition}, folder / CONDITIONS / f"{word[1:-1]}.safetensors", metadata=about)
        (folder / "README.md").write_text(_readme(output, info, backbone.config, words), encoding="utf-8")
        (folder / MARK).write_text(json.dumps(_about(info), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if output.is_dir():
            check_replaceable(output)
            shutil.rmtree(output)
    return list(words)


def check_replaceable(folder: Path) -> None:
    """Raise unless a folder is absent, empty or an earlier export."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UniEmoError(f"--output must be a new folder or an earlier export; {folder} is neither: choose another")
    if folder.exists() and not folder.is_dir():
        raise UniEmoError(f"--output must be a folder; {folder} is a file: choose another")


def learned_words(model: UniEmoModel, draws: int) -> dict[str, tuple[str, str, Tensor]]:
    """Return a model's conditions as words.

    Args:
        model: with an emotion space.
        draws: drawn conditions per emotion beside its mean.

    Returns:
        Emotion, what the condition is, and the condition (1, W) by word: ``<awe>`` is the mean condition over draws of
        the emotion space, ``<awe-0>`` the one of seed 0.
    """
    words = {}
    for index, emotion in enumerate(model.vocabulary.emotions):
        weights = {index: 1.0}
        drawn = model.sample_condition(weights, list(range(max(draws, _MEAN_OF))))[0].float()  # (n, W)
        stem = re.sub(r"[^\w]+", "-", emotion).strip("-") or f"emotion-{index}"
        words[f"<{stem}>"] = (emotion, "mean", drawn[:_MEAN_OF].mean(dim=0, keepdim=True).contiguous())
        for seed in range(draws):
            words[f"<{stem}-{seed}>"] = (emotion, f"drawn, seed {seed}", drawn[seed : seed + 1].clone())
    return words


def _readme(output: Path, info: CheckpointInfo, config: Any, words: dict[str, tuple[str, str, Tensor]]) -> str:  # noqa: ANN401
    """Return the folder's README."""
    first, (emotion, _, _) = next(iter(words.items()))
    rows = [
        f"| `{word}` | {name} | {what} | {CONDITIONS}/{word[1:-1]}.safetensors |"
        for word, (name, what, _) in words.items()
    ]
    return _README.format(
        stem=first[1:-1],
        emotion=emotion,
        folder=output.name,
        steps=config.steps,
        guidance=config.guidance,
        prompt=config.train_prompt.replace("{}", first),
        rows="\n".join(rows),
        mean_of=_MEAN_OF,
        version=__version__,
        checkpoint=info.path.name,
        digest=info.digest(),
        base=config.path,
    )


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
