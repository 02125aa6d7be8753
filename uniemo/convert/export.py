"""Checkpoints of ours in formats that other programs read: safetensors, and a folder for plain diffusers."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from uniemo import __version__
from uniemo.cache import atomic_write
from uniemo.checkpoint import GENERATING, PREFIX, CheckpointInfo, load_model, read_checkpoint
from uniemo.errors import UniEmoError
from uniemo.models.diffusion import DiffusionBackbone
from uniemo.models.diffusion.components import quiet
from uniemo.models.uniemo import UniEmoModel

MARK = "uniemo.json"  # in every folder that export_diffusers wrote
CONDITIONS = "conditions"
_KEYS = ("clip_l", "clip_g")  # XL's text encoders, as diffusers' own training scripts name them
_MEAN_OF = 64  # sampled conditions that the mean condition of an emotion is taken over
_ANY_END = 2  # end token of text encoders that pool at the highest id instead


@dataclass(frozen=True)
class Word:
    """A condition as a textual-inversion word.

    Attributes:
        name: ``<awe>`` or, of a single sample, ``<awe-0>``.
        emotion: whose condition it is.
        what: which condition it is, for readers.
        condition: one (1, W) per text encoder, float32.
    """

    name: str
    emotion: str
    what: str
    condition: tuple[Tensor, ...]

    @property
    def file(self) -> str:
        """Where it lies in the folder."""
        return f"{CONDITIONS}/{self.name[1:-1]}.safetensors"

    def save(self, folder: Path) -> None:
        """Write the file: the condition under its own name, or one under each of XL's text encoders."""
        keys = _KEYS if len(self.condition) > 1 else (self.name,)
        about = {"format": "pt", "token": self.name, "emotion": self.emotion, "condition": self.what}
        save_file(dict(zip(keys, self.condition, strict=True)), folder / self.file, metadata=about)


def export_safetensors(checkpoint: str | Path, output: str | Path) -> int:
    """Write a checkpoint's weights as safetensors, what it says about itself as JSON under ``uniemo`` in the metadata.

    Names are those of :class:`uniemo.models.uniemo.UniEmoModel`; ``load_trained_state_dict`` takes them back. Frozen
    backbones are not among them, as in the checkpoint; the metadata names them.

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


def export_diffusers(checkpoint: str | Path, output: str | Path, samples: int = 4, trust: bool = False) -> list[str]:
    """Write a folder that a plain diffusers script can use: the pipeline, and each emotion's conditions as words.

    Everything is in float32: adapters are merged into the UNet, and half precision would round small ones away.

    Args:
        checkpoint: of the joint or feedback stage.
        output: folder to write; an old export is replaced when all is done, nothing else is.
        samples: sampled conditions per emotion beside its mean, of seeds 0 and on.
        trust: also import a diffusion family that is not uniemo's.

    Returns:
        The words.

    Raises:
        UniEmoError: another stage, no emotion space in it, a backbone that cannot be loaded, or one whose pipeline
            takes no learned words.
    """
    import diffusers

    output = Path(output).expanduser()
    check_replaceable(output)
    model, info = load_model(checkpoint, GENERATING, generation=True, dtype="float32", trust=trust)
    backbone: Any = model.diffusion
    if not hasattr(getattr(diffusers, backbone.pipeline_class), "load_textual_inversion"):
        raise UniEmoError(
            f"--to diffusers must have a Stable Diffusion 1, 2 or XL, whose pipelines take learned words; {checkpoint} "
            f"has a {backbone.pipeline_class}: take --to safetensors"
        )
    words = learned_words(model, samples)
    pipeline = _pipeline(backbone)
    with atomic_write(output) as folder, quiet():
        pipeline.save_pretrained(folder)
        (folder / CONDITIONS).mkdir()
        for word in words:
            word.save(folder)
        (folder / "README.md").write_text(_readme(output.name, info, backbone, words), encoding="utf-8")
        (folder / MARK).write_text(json.dumps(_about(info), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if output.is_dir():
            check_replaceable(output)
            shutil.rmtree(output)
    return [word.name for word in words]


def learned_words(model: UniEmoModel, samples: int) -> list[Word]:
    """Return a model's conditions as words.

    Returns:
        For each emotion ``<awe>``, the mean condition over samples of the emotion space, and ``<awe-0>`` and on, those
        of seeds 0 and on.

    Raises:
        UniEmoError: emotions whose names give the same word.
    """
    words = []
    for index, emotion in enumerate(model.vocabulary.emotions):
        seeds = list(range(max(samples, _MEAN_OF)))
        sampled = tuple(own.float() for own in model.sample_condition({index: 1.0}, seeds))  # (n, W) each
        stem = re.sub(r"[^\w]+", "-", emotion).strip("-") or f"emotion-{index}"
        mean = tuple(own[:_MEAN_OF].mean(dim=0, keepdim=True) for own in sampled)
        words.append(Word(f"<{stem}>", emotion, "mean", mean))
        for seed in range(samples):
            one = tuple(own[seed : seed + 1].clone() for own in sampled)
            words.append(Word(f"<{stem}-{seed}>", emotion, f"sampled, seed {seed}", one))
    names = [word.name for word in words]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UniEmoError(f"emotions must give different words; two give {twice}: take --draws 0, or other names")
    return words


def check_replaceable(folder: Path) -> None:
    """Raise unless a folder is absent, empty or an earlier export."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise UniEmoError(f"--output must be a new folder or an earlier export; {folder} is neither: choose another")
    if folder.exists() and not folder.is_dir():
        raise UniEmoError(f"--output must be a folder; {folder} is a file: choose another")


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


def _readme(folder: str, info: CheckpointInfo, backbone: DiffusionBackbone, words: list[Word]) -> str:
    """Return an exported folder's README, with a script that the tests run as it stands."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("uniemo.convert", "."),
        undefined=StrictUndefined,
        autoescape=False,  # Markdown
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template("readme.md.jinja").render(
        folder=folder,
        words=words,
        first=words[0],
        pipeline=backbone.pipeline_class,
        config=backbone.config,
        dtype=info.model["diffusion"]["dtype"],
        mean_of=_MEAN_OF,
        checkpoint=info.path.name,
        digest=info.digest(),
        versions={"uniemo": __version__, **{name: version(name) for name in ("diffusers", "transformers")}},
    )


def _about(info: CheckpointInfo) -> dict[str, Any]:
    """Return what a checkpoint says about itself, fit for JSON."""
    names = ("version", "stage", "model", "backbones", "config")
    return {name: getattr(info, name) for name in names} | {"vocabulary": info.vocabulary.to_dict()}
