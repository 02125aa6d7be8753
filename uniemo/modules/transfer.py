"""Whether model, checkpoint and data fit each other; what is kept of a checkpoint with other names."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from uniemo.checkpoint import CheckpointInfo
from uniemo.errors import UniEmoError
from uniemo.miniature.paths import MINIATURE
from uniemo.models.clip_shapes import published_name
from uniemo.models.state import TOWER
from uniemo.modules.accuracy import sum_classes
from uniemo.taxonomy import LabelMap, label_map
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.data.datamodule import EmotionDataModule

_ROWS = ("head.fc1.", "condition_loss.")  # one row per emotion
_PER_EMOTION = ("head.", "condition_loss.")
_SHAPING = {  # choices that decide which tensors a model has, by part; towers are compared by their tensors
    "encoder": ("clip", "query_length", "queries", "scene_queries", "object_queries", "interactive", "num_layers"),
    "head": ("hidden",),
    "fusion": ("tokens", "hidden"),
    "condition": ("kind",),
    "diffusion": ("lora_rank",),
}


@dataclass(frozen=True)
class Transfer:
    """A checkpoint's state, made to fit a model of other names."""

    state: dict[str, Tensor]
    tables: bool  # whether P(emotion | attribute) is the checkpoint's
    space: bool  # whether the emotion space is the checkpoint's
    note: str  # one line that says what starts anew; empty when nothing does


def transfer(state: dict[str, Tensor], own: dict[str, Tensor], source: Vocabulary, target: Vocabulary) -> Transfer:
    """Fit a checkpoint's state to a model of other names.

    The same emotions in another order are reordered. For other emotions the head and the condition loss start anew,
    and so do the emotion space (it is built from training images) and, where no mapping between the two label spaces
    is known, P(emotion | attribute). Attributes of another vocabulary are embedded anew; the projections into CLIP's
    text space do not depend on names and are kept, as is the head of valence and arousal where the data has them.

    ``state`` is the checkpoint's, without the module's prefix, trained with the names ``source``; ``own`` is the new
    model's, as it is initialised with the names ``target``.
    """
    result = dict(state)
    notes: list[str] = []
    emotions = _mapping(source.emotions, target.emotions)
    if emotions is None or not emotions.same_classes:
        _renew(result, own, _PER_EMOTION)
        conditions = any(name.startswith("condition_loss.") for name in state)
        parts = "emotion head and condition loss start" if conditions else "emotion head starts"
        notes.append(f"the {parts} anew for {', '.join(target.emotions)}")
    elif not emotions.trivial:
        rows = [source.emotions.index(name) for name in target.emotions]
        for name in result:
            if name.startswith(_ROWS):
                result[name] = state[name][rows]
    if (source.affect is None) != (target.affect is None):
        does = "is left out: the data has neither" if target.affect is None else "starts anew: the checkpoint has none"
        notes.append(f"the head of valence and arousal {does}")
    space = source.emotions == target.emotions
    if not space:
        _renew(result, own, ("space.",))
    tables = True
    for kind, before, now in (("scene", source.scenes, target.scenes), ("object", source.objects, target.objects)):
        table = f"bank.{kind}_table"
        if before != now:
            _renew(result, own, (f"bank.{kind}_text", table))
            if before and now:
                notes.append(f"{kind} names are those of the data")
        elif emotions is None:
            _renew(result, own, (table,))
        else:
            result[table] = sum_classes(emotions, state[table])
            continue
        tables = tables and not now
    return Transfer(result, tables, space, "; ".join(notes))


def kept_attributes(source: Vocabulary, target: Vocabulary) -> Vocabulary | None:
    """Return the data's names with the checkpoint's attributes, for data without any.

    None where the data has attributes, the checkpoint has none, or its emotions cannot be mapped to the data's.
    """
    if target.scenes or target.objects or not (source.scenes or source.objects):
        return None
    if _mapping(source.emotions, target.emotions) is None:
        return None
    return Vocabulary(target.emotions, source.scenes, source.objects, target.affect)


def check_names(names: Vocabulary, data: Vocabulary) -> None:
    """Raise UniEmoError unless a model of ``names`` can be trained on the data: its labels are class indices.

    Data without attributes does for any; a model may know attributes that its data lacks.
    """
    attributes = (names.scenes, names.objects) == (data.scenes, data.objects)
    same = (names.emotions, names.affect) == (data.emotions, data.affect)
    if not same or not (attributes or not (data.scenes or data.objects)):
        raise UniEmoError(
            "training must go on with the emotions and attributes it began with, in their order; the checkpoint has "
            f"{_summary(names)}, the data {_summary(data)}: start a new run with --model.init_from instead"
        )


def check_sizes(data: EmotionDataModule, sizes: dict[str, int], names: dict[str, str], model: Vocabulary) -> None:
    """Raise UniEmoError unless the data's images have the sizes that the "clip" and "diffusion" networks take."""
    same = set(model.emotions) == set(data.vocabulary.emotions)  # for other emotions no images are generated
    for kind, option, given, does in (
        ("clip", "image_size", data.image_size, "takes"),
        ("diffusion", "diffusion_size", data.diffusion_size, "generates"),
    ):
        if kind in sizes and sizes[kind] != given and (kind == "clip" or same):
            raise UniEmoError(
                f"data.{option} must be {sizes[kind]}, what {names[kind]} {does}; got {given}: "
                f"{size_advice(kind, sizes[kind], names[kind])}"
            )
    if "diffusion" not in sizes and data.cached_latents:
        raise UniEmoError(
            "data.cached_latents is for stages 2 and 3 and baselines that generate; this one has no VAE: leave it out"
        )


def size_advice(kind: str, size: int, name: str) -> str:
    """Return the way out where images have another size than the "clip" or "diffusion" network of a name takes."""
    if name.removeprefix("random:").startswith(MINIATURE):  # photographs of 64 pixels are not what somebody wants
        overlay = "model/vit_b32.yaml" if kind == "clip" else "model/sd15.yaml"
        return f"for photographs add --config {overlay} behind the other configurations, or keep the recipe's own size"
    return f"set --data.{kind.replace('clip', 'image')}_size {size}"


def mismatch(own: dict[str, dict[str, Any]], info: CheckpointInfo, same_tower: bool) -> str:
    """Return the options that give a model the sizes of a checkpoint, empty where its configuration has them.

    Args:
        own: the model's configuration by part, plain values.
        info: the checkpoint.
        same_tower: whether the two CLIP towers are of the same size, whatever their names.
    """
    options = []
    for part, names in _SHAPING.items():
        for name in names:
            value = info.model.get(part, {}).get(name)
            if name == "clip":
                value = None if same_tower else published_name(str(value)) or value
            elif name == "num_layers" and info.model[part]["interactive"] == "released":
                value = None  # that block has one layer, whatever is configured
            if value is not None and part in own and value != own[part][name]:
                plain = value if isinstance(value, str) else json.dumps(value)
                options.append(f"--model.{part}.{name} {shlex.quote(plain)}")
    return " ".join(options)


def same_tower(state: dict[str, Tensor], own: dict[str, Tensor]) -> bool:
    """Return whether a checkpoint's tower, or at least its width, is that of a model with the tensors ``own``."""
    first, second = (
        {name: value.shape for name, value in tensors.items() if name.startswith(TOWER)} for tensors in (state, own)
    )
    width = "head.fc0.weight"
    return first == second if first else state[width].shape[1] == own[width].shape[1]


def _summary(names: Vocabulary) -> str:
    affect = "" if names.affect is None else ", valence and arousal from {:g} to {:g}".format(*names.affect)
    return f"{', '.join(names.emotions)} with {len(names.scenes)} scenes and {len(names.objects)} objects{affect}"


def _mapping(source: tuple[str, ...], target: tuple[str, ...]) -> LabelMap | None:
    """Return the mapping between two label spaces, None where none is known that reaches every target."""
    try:
        found = label_map(source, target)
    except UniEmoError:
        return None
    return found if set(found.names.values()) == set(target) else None


def _renew(state: dict[str, Tensor], own: dict[str, Tensor], prefixes: tuple[str, ...]) -> None:
    """Put the model's own tensors in the place of the checkpoint's."""
    for name in [name for name in state if name.startswith(prefixes)]:
        del state[name]
    state.update({name: value for name, value in own.items() if name.startswith(prefixes)})
