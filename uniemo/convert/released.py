"""Checkpoints of the authors' released code, stage 1: what is in one, and our model with its weights."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniemo.convert.coefficients import Rows
from uniemo.convert.layout import (
    LATER,
    MARK,
    TEXT_BLOCKS,
    UNUSED,
    WHAT,
    ReleasedSizes,
    check_blocks,
    count_layers,
    encoder_names,
    head_names,
    is_text,
    read_sizes,
    text_names,
)
from uniemo.convert.reading import check_complete, pick, read_torch, tensors
from uniemo.data.emotions import MIKELS_8
from uniemo.errors import UniEmoError
from uniemo.models.attributes import AttributeBank, AttributeConfig
from uniemo.models.clip import RANDOM, TextEncoder, take_apart
from uniemo.models.clip_shapes import CONTEXT, TOKENIZER, VOCABULARY, build_shape
from uniemo.models.encoder import EncoderConfig, ExpertQueryEncoder
from uniemo.models.head import EmotionHead, HeadConfig
from uniemo.models.uniemo import UniEmoModel
from uniemo.vocabulary import Vocabulary

STAGE2_WEIGHTS = "VIT_query.pth"  # encoder and classifier in a folder of stage 2


@dataclass(frozen=True)
class ReleasedFile:
    """A released checkpoint that has been read.

    Attributes:
        path: the file.
        model: encoder and CLIP, float32, the file's names.
        classifier: emotion classifier; None where the file has none.
        sizes: of both.
        unknown: names of tensors that the released classes do not have; they are not used.
        about: epoch, best accuracy and the run's arguments, where the file has them; plain values.
    """

    path: Path
    model: dict[str, Tensor]
    classifier: dict[str, Tensor] | None
    sizes: ReleasedSizes
    unknown: tuple[str, ...]
    about: dict[str, Any]

    def text_encoder(self) -> Callable[[Sequence[str]], Tensor]:
        """Return the file's text tower as a function from N strings to (N, E).

        Raises:
            UniEmoError: it has none, or not one for OpenAI's tokenizer.
        """
        shape, state = self.sizes.shape, {name: value for name, value in self.model.items() if is_text(name)}
        depth = count_layers(state, TEXT_BLOCKS)
        position = state.get("positional_embedding", torch.empty(0))
        if not depth or (self.sizes.vocab_size, *position.shape[:1]) != (VOCABULARY, CONTEXT):
            raise UniEmoError(
                f"attribute names need the file's text tower, for OpenAI's tokenizer of {VOCABULARY} tokens; "
                f"{self.path} has none: leave --scenes and --objects out"
            )
        width = int(self.sizes.text_width or 0)
        check_complete(state, text_names(depth), self.path)
        check_blocks(state, TEXT_BLOCKS, depth, width, self.path)
        model = build_shape(shape, width, depth)
        own = {name: value for name, value in model.state_dict().items() if is_text(name)}
        shapes = {name: value.shape for name, value in own.items()}
        model.load_state_dict(pick(state, {name: name for name in own}, shapes, self.path), strict=False)
        return TextEncoder(model, TOKENIZER)


def read_released(path: str | Path) -> ReleasedFile:
    """Read a released checkpoint, executing nothing in it.

    Args:
        path: ``best.pth``, or a folder of stage 2 with ``VIT_query.pth``.

    Raises:
        UniEmoError: no such file, one that is damaged or asks for anything to be run, or another kind of file.
    """
    path = Path(path).expanduser()
    path = path / STAGE2_WEIGHTS if path.is_dir() else path
    content = read_torch(path, WHAT)
    if not isinstance(content, dict) or not ("model" in content or any(str(name).endswith(MARK) for name in content)):
        raise UniEmoError(f"{WHAT} must have the key model; {path} has not: give a best.pth or VIT_query.pth")
    bare = "model" not in content  # a state dict alone
    model = tensors(content if bare else content["model"], path, WHAT)
    classifier = None
    if not bare and content.get("Emo_classifier") is not None:
        classifier = tensors(content["Emo_classifier"], path, WHAT)
    later = next((name for name in sorted(model) if LATER.match(name)), None)
    if later is not None:
        raise UniEmoError(
            f"{WHAT} must have two interactive blocks of one layer; {path} has {later!r}: it is of another version"
        )
    about = {} if bare else {name: content[name] for name in ("epoch", "max_accuracy") if name in content}
    if not bare and "config" in content:
        about["config"] = dict(getattr(content["config"], "__dict__", {}))
    sizes = read_sizes(model, classifier, path)
    known = set(encoder_names(sizes).values()) | UNUSED
    unknown = {name for name in model if name not in known and not is_text(name)}
    unknown |= set(classifier or ()) - set(head_names().values())
    return ReleasedFile(path, model, classifier, sizes, tuple(sorted(unknown)), about)


def load_released(
    path: str | Path,
    emotions: Sequence[str] | None = None,
    scenes: Rows | None = None,
    objects: Rows | None = None,
) -> UniEmoModel:
    """Build our model with the weights of a released checkpoint; it computes what the released code computes.

    Args:
        path: ``best.pth``, or a folder of stage 2 with ``VIT_query.pth``, whose encoder and head are loaded.
        emotions: their names in the classifier's order; None is EmoSet's eight, or ``emotion 0`` and on where the
            classifier has another number.
        scenes: P(emotion | scene), a row for each scene; gives the model an attribute bank, embedded by the file's
            text tower, and the file's projection into text space.
        objects: the same of objects.

    Returns:
        The model in eval mode on the CPU. Without a classifier in the file the head's logits are all zero.

    Raises:
        UniEmoError: see :func:`read_released`; tensors that are missing or do not fit each other.
    """
    file = read_released(path)
    model = build_model(file, emotions, scenes, objects)
    for note in notes(file):
        warnings.warn(note, stacklevel=2)
    return model


def notes(file: ReleasedFile) -> list[str]:
    """Return one line for each thing about a file that a user should know."""
    found = []
    if file.unknown:
        found.append(f"{file.path} has {len(file.unknown)} tensors that are not used, first {file.unknown[0]!r}")
    if file.classifier is None:
        found.append(f"{file.path} has no Emo_classifier: the emotion head is untrained, its logits are all zero")
    if file.sizes.shape.layers % 3:
        first, second = file.sizes.stages
        found.append(
            f"{file.path} has {file.sizes.shape.layers} layers, no multiple of 3: the queries interact after layers "
            f"{first} and {second}"
        )
    return found


def configs(sizes: ReleasedSizes) -> tuple[EncoderConfig, HeadConfig]:
    """Return the configurations that build a model of these sizes."""
    encoder = EncoderConfig(
        clip=RANDOM + sizes.shape.name,
        query_length=sizes.query_length,
        interactive="released",
        num_layers=1,
        stages=sizes.stages,
    )
    return encoder, HeadConfig(hidden=sizes.hidden)


def build_model(
    file: ReleasedFile, emotions: Sequence[str] | None = None, scenes: Rows | None = None, objects: Rows | None = None
) -> UniEmoModel:
    """Return the model of :func:`load_released` from a file that has been read."""
    sizes = file.sizes
    encoder_config = configs(sizes)[0]
    vocabulary = Vocabulary(emotion_names(sizes, emotions), tuple(scenes or ()), tuple(objects or ()))
    with torch.random.fork_rng(devices=[]):  # the caller's random numbers do not depend on how much is drawn here
        clip = take_apart(build_shape(sizes.shape), TOKENIZER, encoder_config.clip)
        names = [*vocabulary.scenes, *vocabulary.objects]
        bank = AttributeBank.empty(0, 0, sizes.shape.embed_dim, sizes.num_emotions)
        if names:
            bank = AttributeBank.from_names(
                vocabulary.scenes, vocabulary.objects, file.text_encoder(), sizes.num_emotions
            )
            rows = [torch.tensor(list((table or {}).values())) for table in (scenes, objects)]
            bank.set_tables(*(row.reshape(-1, sizes.num_emotions) for row in rows))
        model = UniEmoModel(
            vocabulary,
            ExpertQueryEncoder(encoder_config, clip),
            EmotionHead(sizes.shape.width, sizes.num_emotions, sizes.hidden),
            bank,
            AttributeConfig(),
        )
    model.encoder.load_state_dict(_pick(file.model, encoder_names(sizes), model.encoder, file.path))
    if file.classifier is not None:
        model.head.load_state_dict(_pick(file.classifier, head_names(), model.head, file.path))
    else:
        for parameter in model.head.parameters():
            torch.nn.init.zeros_(parameter)
    for kind, projection in (("scene", model.scene_projection), ("object", model.object_projection)):
        if projection is not None:
            name = f"visual_query_{kind}_proj"  # (D, E), applied from the right
            shape = torch.Size((sizes.shape.width, sizes.shape.embed_dim))
            found = pick(file.model, {"weight": name}, {"weight": shape}, file.path)["weight"]
            projection.load_state_dict({"weight": found.T.contiguous(), "bias": torch.zeros(sizes.shape.embed_dim)})
    return model.eval()


def emotion_names(sizes: ReleasedSizes, given: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of a classifier's classes.

    Raises:
        UniEmoError: another number of names than classes, or the same name twice.
    """
    count = sizes.num_emotions
    if given is None:
        return MIKELS_8 if count == len(MIKELS_8) else tuple(f"emotion {index}" for index in range(count))
    names = tuple(name.strip().lower() for name in given)
    if len(names) != count or len(set(names)) != count or not all(names):
        raise UniEmoError(f"emotions must be {count} different names, as many as the classifier's classes; got {names}")
    return names


def _pick(state: dict[str, Tensor], names: dict[str, str], module: torch.nn.Module, path: Path) -> dict[str, Tensor]:
    """Return a module's state dict out of the file's tensors."""
    return pick(state, names, {name: value.shape for name, value in module.state_dict().items()}, path)
