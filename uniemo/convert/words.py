"""What a model learned about emotions as words for diffusers: textual-inversion embeddings, and how to use them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from uniemo import __version__
from uniemo.checkpoint import CheckpointInfo
from uniemo.errors import UniEmoError
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.uniemo import UniEmoModel

FOLDER = "conditions"
KEYS = ("clip_l", "clip_g")  # XL's text encoders, as diffusers' own training scripts name them
_MEAN_OF = 64  # drawn conditions that the mean condition of an emotion is taken over

_README = """# Emotions as words for {name}

A {name} in diffusers' layout, in float32, and in `{conditions}/` what a UniEmo model learned about each emotion:
a file per word, {embeddings}. `<{stem}>` is the mean condition of its
emotion, over {mean_of} draws of the emotion space; `<{stem}-0>` and the like are single draws. Beside this folder, with
diffusers alone:

```python
{script}
```

The prompt above is the one that it was trained with; a word may stand in any other, as in "a <{stem}> room".{notes}

| word | emotion | condition | file |
|---|---|---|---|
{rows}

Made by uniemo {version} with diffusers {diffusers} and transformers {transformers}, from {checkpoint} (SHA-256 begins
{digest}) on `{base}`, whose licence holds for the pipeline's weights.
"""

_SCRIPT = """import diffusers
{imports}
pipeline = diffusers.StableDiffusionPipeline.from_pretrained("{folder}"{options})
pipeline.load_textual_inversion("{file}")
"""

_SCRIPT_XL = """import diffusers
{imports}from safetensors.torch import load_file

pipeline = diffusers.StableDiffusionXLPipeline.from_pretrained("{folder}"{options}, add_watermarker=False)
word = load_file("{file}")
for key, end in (("clip_l", ""), ("clip_g", "_2")):
    encoder, tokenizer = getattr(pipeline, f"text_encoder{{end}}"), getattr(pipeline, f"tokenizer{{end}}")
    pipeline.load_textual_inversion(word[key], token="{word}", text_encoder=encoder, tokenizer=tokenizer)
"""

_EMBEDDINGS = ("a textual-inversion embedding", "two textual-inversion embeddings, of either text encoder")  # XL's

_DRAW = """image = pipeline("{prompt}", num_inference_steps={steps}, guidance_scale={guidance}).images[0]
image.save("{stem}.png")"""

_HALF = """ The
diffusion model was held in {dtype} in training; without `torch_dtype` the script computes in float32, in twice the
memory."""

_SEEDS = """ With
`generator=torch.Generator().manual_seed(0)` the word `<{stem}-0>` draws what `uniemo generate --emotion {emotion}
--seed 0` draws{nearly}."""


@dataclass(frozen=True)
class Word:
    """A condition under a name.

    Attributes:
        name: ``<awe>`` or, of a single draw, ``<awe-0>``.
        emotion: whose condition it is.
        what: which condition it is, for readers.
        condition: one (1, W) per text encoder, float32.
    """

    name: str
    emotion: str
    what: str
    condition: tuple[Tensor, ...]

    @property
    def stem(self) -> str:
        """The name without brackets."""
        return self.name[1:-1]

    @property
    def file(self) -> str:
        """Where it lies in the folder."""
        return f"{FOLDER}/{self.stem}.safetensors"

    def save(self, folder: Path) -> None:
        """Write the file: the condition under its own name, or under :data:`KEYS` where there are two text encoders."""
        keys = KEYS if len(self.condition) > 1 else (self.name,)
        about = {"format": "pt", "token": self.name, "emotion": self.emotion, "condition": self.what}
        (folder / FOLDER).mkdir(exist_ok=True)
        save_file(dict(zip(keys, self.condition, strict=True)), folder / self.file, metadata=about)


def learned_words(model: UniEmoModel, draws: int) -> list[Word]:
    """Return a model's conditions as words.

    Args:
        model: with an emotion space.
        draws: drawn conditions per emotion beside its mean.

    Returns:
        For each emotion ``<awe>``, the mean condition over draws of the emotion space, and ``<awe-0>`` and on, those of
        seeds 0 and on.

    Raises:
        UniEmoError: emotions whose names give the same word.
    """
    words = []
    for index, emotion in enumerate(model.vocabulary.emotions):
        seeds = list(range(max(draws, _MEAN_OF)))
        drawn = tuple(own.float() for own in model.sample_condition({index: 1.0}, seeds))  # (n, W) each
        stem = re.sub(r"[^\w]+", "-", emotion).strip("-") or f"emotion-{index}"
        mean = tuple(own[:_MEAN_OF].mean(dim=0, keepdim=True) for own in drawn)
        words.append(Word(f"<{stem}>", emotion, "mean", mean))
        for seed in range(draws):
            one = tuple(own[seed : seed + 1].clone() for own in drawn)
            words.append(Word(f"<{stem}-{seed}>", emotion, f"drawn, seed {seed}", one))
    names = [word.name for word in words]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UniEmoError(f"emotions must give different words; two give {twice}: take --draws 0, or other names")
    return words


def readme(folder: str, info: CheckpointInfo, config: DiffusionConfig, dtype: str, words: list[Word]) -> str:
    """Return an exported folder's README, with a script that the tests run as it stands.

    Args:
        folder: its name.
        info: the checkpoint.
        config: of the diffusion model.
        dtype: precision that it was trained in.
        words: what it learned.
    """
    first = words[0]
    xl, half = len(first.condition) > 1, dtype != "float32"
    name = "Stable Diffusion XL" if xl else "Stable Diffusion"
    common = {"stem": first.stem, "name": name, "emotion": first.emotion, "dtype": dtype}
    script = (_SCRIPT_XL if xl else _SCRIPT).format(
        folder=folder,
        file=f"{folder}/{first.file}",
        word=first.name,
        imports="import torch\n" if half else "",
        options=f", torch_dtype=torch.{dtype}" if half else "",
    )
    script += _DRAW.format(
        prompt=config.train_prompt.replace("{}", first.name),
        steps=config.steps,
        guidance=config.guidance,
        **common,
    )
    notes = _HALF.format(**common) if half else ""
    if len(words) > 1 and words[1].emotion == first.emotion:
        nearly = ", up to rounding" if half else ""
        notes += _SEEDS.format(nearly=nearly, **common)
    return _README.format(
        conditions=FOLDER,
        embeddings=_EMBEDDINGS[xl],
        script=script,
        notes=notes,
        rows="\n".join(f"| `{word.name}` | {word.emotion} | {word.what} | {word.file} |" for word in words),
        mean_of=_MEAN_OF,
        version=__version__,
        diffusers=version("diffusers"),
        transformers=version("transformers"),
        checkpoint=info.path.name,
        digest=info.digest(),
        base=config.path,
        **common,
    )
