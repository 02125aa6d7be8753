"""One small byte-pair tokenizer for the miniature's CLIP and its diffusion model."""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from uniemo.miniature.table import EMOTIONS, OBJECTS, SCENES

CONTEXT = 16
START, END = "<|startoftext|>", "<|endoftext|>"
TEMPLATES = (  # o: object, s: scene
    "a {o} in a {s}",
    "a {o} at a {s}",
    "a {s} with a {o}",
    "{o} {s}",
    "{s} {o}",
    "a {o} and a {s}",
)
SCENE_TEMPLATES = ("{s}", "a {s}")
OBJECT_TEMPLATES = ("{o}", "a {o}")
_LITTLE_WORDS = ("a", "an", "the", "in", "at", "on", "with", "and", "of")
_NOUNS = ("image", "painting", "photo", "picture", "room", "bench", "book", "cup", "lamp", "sofa", "street", "empty")


def words(name: str) -> str:
    """Return an attribute name as words."""
    return name.replace("_", " ")


def caption(template: str, scene: int, thing: int) -> str:
    """Fill a template with names; ``thing`` may be ``len(OBJECTS)`` when the template has no ``{o}``."""
    return template.format(s=words(SCENES[scene]), o=words(OBJECTS[thing]) if thing < len(OBJECTS) else "")


def save_tokenizer(folder: Path) -> None:
    """Write a CLIPTokenizer whose words of the vocabulary are single tokens and which can spell any text in bytes."""
    from transformers import CLIPTokenizer

    names = {word for name in (*SCENES, *OBJECTS, *EMOTIONS) for word in words(name).split()}
    every = sorted(names.union(_LITTLE_WORDS, _NOUNS))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=10_000, min_frequency=1, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    bpe = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    bpe.pre_tokenizer = pre_tokenizers.Whitespace()
    bpe.train_from_iterator(every, trainer)
    trained = json.loads(bpe.to_str())["model"]
    merges = [tuple(pair) if isinstance(pair, list) else tuple(pair.split(" ")) for pair in trained["merges"]]
    tokens = [*alphabet, *(letter + "</w>" for letter in alphabet)]
    tokens += sorted({a + b for a, b in merges} - set(tokens))
    vocabulary = {token: index for index, token in enumerate([*tokens, START, END])}  # the end token has the highest id
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = CLIPTokenizer(
        vocab=vocabulary,
        merges=merges,
        unk_token=END,
        bos_token=START,
        eos_token=END,
        pad_token=END,
        model_max_length=CONTEXT,
    )
    tokenizer.save_pretrained(folder)
