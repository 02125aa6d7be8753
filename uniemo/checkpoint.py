"""Checkpoint files: what is in one, and how to get a model out of it without Lightning.

Beside Lightning's own entries a checkpoint holds ``"uniemo"``, all plain values::

    version    of uniemo
    stage      understanding, joint, feedback or baseline
    method     which baseline; absent for the stages
    vocabulary names of emotions, scenes and objects
    model      the model's configuration by part (encoder, head, …); of a baseline its arguments
    backbones  name and fingerprint of the frozen networks that are not in the file
    config     the run's resolved configuration as YAML, empty when the run was not started from the command line
    epoch_step optimiser steps before the epoch in which it was written
    complete   true once training is over and the emotion space is of all training images; absent before
"""

from __future__ import annotations

import dataclasses
import hashlib
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from uniemo.archives import check_archive, is_ordinary
from uniemo.cache import hash_file
from uniemo.errors import Natural, UniEmoError, range_of
from uniemo.miniature.paths import resolve
from uniemo.plain_configs import make_config
from uniemo.stored_names import check_names
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.models.uniemo import UniEmoModel

PREFIX = "model."  # of the state dict's keys: the modules keep their UniEmoModel as ``model``
UNDERSTANDING, JOINT, FEEDBACK = "understanding", "joint", "feedback"
STAGES = (UNDERSTANDING, JOINT, FEEDBACK)
BASELINE = "baseline"  # trained for comparison, by another method
GENERATING = (JOINT, FEEDBACK)  # stages whose checkpoints can generate images
DIVERGED = "its training has diverged or it is damaged, take another"
_HEAD_BYTES = 2**20
_TYPES: dict[str, type] = {  # of Lightning's entries and of ours
    **{"state_dict": dict, "uniemo": dict, "loops": dict, "callbacks": dict, "hyper_parameters": dict},
    **{"optimizer_states": list, "lr_schedulers": list, "epoch": int, "global_step": int},
}
_ABOUT_TYPES: dict[str, type] = {
    **{"version": str, "stage": str, "method": str, "config": str, "vocabulary": dict, "model": dict},
    **{"backbones": dict, "epoch_step": int, "complete": bool},
}
_REQUIRED = ("version", "stage", "vocabulary", "model", "backbones", "config")


@dataclasses.dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint says about itself; attributes as in the module's docstring, ``step`` Lightning's count."""

    path: Path
    version: str
    stage: str
    vocabulary: Vocabulary
    model: dict[str, Any]
    backbones: dict[str, dict[str, str]]
    config: str
    step: int = 0
    method: str = ""
    resumable: bool = False  # holds optimiser and progress, too

    def digest(self) -> str:
        """Return the first 12 hex digits of the file's SHA-256."""
        return hash_file(self.path, 12)


def read_checkpoint(path: str | Path, stages: tuple[str, ...] = ()) -> tuple[dict[str, Any], CheckpointInfo]:
    """Read a checkpoint of this package, executing nothing in it.

    Args:
        path: the file.
        stages: stages that will do; empty for any.

    Returns:
        The file's content on the CPU, and what it says about itself.

    Raises:
        UniEmoError: no such file, no checkpoint, a damaged one, weights that are not finite, or one of another stage.
    """
    import torch

    from uniemo.models.state import check_finite

    path = Path(path).expanduser()
    if not path.is_file():
        raise UniEmoError(f"checkpoint must be an existing file; got {path}: uniemo fit writes runs/<stage>/best.ckpt")
    wrong = f"checkpoint must be a file written by uniemo fit; {path} is not"
    way_out = "give a best.ckpt or last.ckpt; uniemo convert turns the released code's files into such"
    if not zipfile.is_zipfile(path):  # torch.save writes zip archives
        raise UniEmoError(f"{wrong}: {way_out}")
    try:
        check_archive(path)
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # torch.load does not compare checksums
        content = None if damaged else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the file is anyone's
        raise UniEmoError(f"{wrong}, or it is damaged: {way_out}") from error
    if damaged:
        raise UniEmoError(f"checkpoint must be as it was written; {path} is damaged: copy it anew, or take another")
    if not isinstance(content, dict) or "uniemo" not in content or "state_dict" not in content:
        raise UniEmoError(f"{wrong} but a torch file of another program: {way_out}")
    _check_types(path, content, _TYPES)
    for name, value in content["state_dict"].items():
        if not isinstance(name, str) or not is_ordinary(value):
            raise UniEmoError(f"checkpoint must map names to tensors; {name!r} of {path} is none: take another")
    about = content["uniemo"]
    _check_types(path, about, _ABOUT_TYPES, _REQUIRED)
    counts = {name: content.get(name) for name in ("epoch", "global_step", "loops")}
    _check_counts(path, {**counts, "epoch_step": about.get("epoch_step")})
    if about["stage"] in STAGES:
        _check_types(path, about["model"], {}, ("encoder", "head", "attributes"))
    for kind in ("emotions", "scenes", "objects"):
        names = about["vocabulary"].get(kind)
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UniEmoError(f"checkpoint must name its {kind}; {path} does not, it is damaged: take another")
    info = CheckpointInfo(
        path=path,
        version=about["version"],
        stage=about["stage"],
        vocabulary=Vocabulary.from_dict(about["vocabulary"]),
        model=about["model"],
        backbones=about["backbones"],
        config=about["config"],
        step=content.get("global_step", 0),
        method=about.get("method", ""),
        resumable="optimizer_states" in content and "loops" in content,
    )
    check_stage(info, stages)
    with fitting(path):
        check_finite(content["state_dict"], f"checkpoint {path}", DIVERGED)
    return content, info


def _check_types(path: Path, values: dict[str, Any], kinds: dict[str, type], required: tuple[str, ...] = ()) -> None:
    """Raise UniEmoError where an entry of a checkpoint has another type than it was written with."""
    for name, kind in kinds.items():
        if name in values and not isinstance(values[name], kind):
            raise UniEmoError(
                f"checkpoint entry {name} must be of type {kind.__name__}; in {path} it is "
                f"{type(values[name]).__name__}: the file is damaged, take another"
            )
    missing = [name for name in required if name not in values]
    if missing:
        raise UniEmoError(f"checkpoint must hold {missing[0]}; {path} does not: the file is damaged, take another")


def _check_counts(path: Path, counts: dict[str, Any]) -> None:
    """Raise UniEmoError for a count of epochs, steps or batches, in sections however deep, that no run reaches."""
    left = [counts]
    seen: set[int] = set()  # of what stands in several places, or in itself
    while left:
        values = left.pop()
        seen.add(id(values))
        for name, value in values.items():
            if isinstance(value, int):
                try:
                    range_of(Natural).check(str(name), value)
                except UniEmoError as error:
                    raise UniEmoError(
                        f"checkpoint entry {error} in {path}: the file is damaged, take another"
                    ) from error
            elif isinstance(value, dict) and id(value) not in seen:
                left.append(value)


def check_stage(info: CheckpointInfo, stages: tuple[str, ...]) -> None:
    """Raise unless the checkpoint is of one of the stages (any, when empty)."""
    if stages and info.stage not in stages:
        wanted = " or ".join(stages)
        found = f"stage {info.stage}" + (f" ({info.method})" if info.method else "")
        recipe = "baselines/coop.yaml, say" if stages[0] == BASELINE else f"{stages[0]}.yaml"
        raise UniEmoError(
            f"checkpoint must be of stage {wanted} here; {info.path} is of {found}: "
            f"train one with uniemo fit --config {recipe}"
        )


def fingerprint(name: str) -> str:
    """Return 12 hex digits that change with the weights behind a backbone's name.

    Args:
        name: a folder, a file, a ``miniature:`` name, or any other name, which stands for itself.

    Returns:
        A hash over the names, sizes, first and last megabyte of the weight files.
    """
    sha = hashlib.sha256(b"" if name.startswith("miniature:") else name.encode())
    folder = resolve(name)
    if folder.exists():
        sha = hashlib.sha256()
        for file in sorted(folder.rglob("*")) if folder.is_dir() else [folder]:
            if file.suffix not in (".safetensors", ".bin", ".pth", ".pt"):
                continue
            size = file.stat().st_size
            sha.update(f"{file.relative_to(folder).as_posix()} {size}\n".encode())
            with file.open("rb") as stream:
                sha.update(stream.read(_HEAD_BYTES))
                if size > _HEAD_BYTES:
                    stream.seek(max(_HEAD_BYTES, size - _HEAD_BYTES))
                    sha.update(stream.read())
    return sha.hexdigest()[:12]


def check_backbones(info: CheckpointInfo, names: dict[str, str]) -> None:
    """Warn about frozen networks whose weights are not those that the checkpoint was trained with.

    Args:
        info: the checkpoint.
        names: name in use by kind ("clip", "diffusion").
    """
    for kind, name in names.items():
        known = info.backbones.get(kind)
        if known is not None and known["hash"] != fingerprint(name):
            warnings.warn(
                f"{info.path} was trained on the {kind} {known['name']} with fingerprint {known['hash']}; "
                f"{name} has other weights, results will differ",
                stacklevel=2,
            )


@contextmanager
def fitting(path: str | Path) -> Iterator[None]:
    """Say in one line that a checkpoint does not fit, where building a network from its content fails.

    Raises:
        UniEmoError: names, types or shapes in it are not those of this version.
    """
    try:
        yield
    except UniEmoError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UniEmoError(
            f"checkpoint must fit this version of uniemo; {path} does not ({reason}): use the version named in it"
        ) from error


def load_model(
    path: str | Path,
    stages: tuple[str, ...] = (),
    generation: bool = False,
    dtype: str | None = None,
    trust: bool = False,
) -> tuple[UniEmoModel, CheckpointInfo]:
    """Build the model of a checkpoint, in eval mode on the CPU.

    Args:
        path: the file.
        stages: stages that will do; empty for all three.
        generation: with what generation needs; without it no diffusion model is loaded.
        dtype: precision of the diffusion model; None is the checkpoint's.
        trust: also import classes that are not uniemo's, and fetch networks that it does not know.

    Returns:
        The model, and what the checkpoint says about itself.

    Raises:
        UniEmoError: see :func:`read_checkpoint`; a backbone that cannot be loaded.
    """
    content, info = read_checkpoint(path, stages or STAGES)
    return build_model(content, info, generation, dtype, trust), info


def build_model(
    content: dict[str, Any],
    info: CheckpointInfo,
    generation: bool = False,
    dtype: str | None = None,
    trust: bool = False,
) -> UniEmoModel:
    """Build the model of a stage's checkpoint that has been read; arguments and errors as of :func:`load_model`."""
    check_names(info.model, info.path, trust)
    with fitting(info.path):
        return _build(content, info, generation, dtype)


def _build(content: dict[str, Any], info: CheckpointInfo, generation: bool, dtype: str | None) -> UniEmoModel:
    from uniemo.models.attributes import AttributeConfig
    from uniemo.models.diffusion import DiffusionConfig
    from uniemo.models.emotion_space import EmotionSpaceConfig
    from uniemo.models.encoder import EncoderConfig
    from uniemo.models.fusion import FusionConfig
    from uniemo.models.head import HeadConfig
    from uniemo.models.losses import ConditionLossConfig
    from uniemo.models.uniemo import GenerationParts, UniEmoModel

    config = info.model
    encoder = make_config(EncoderConfig, config["encoder"])
    parts = None
    names = {"clip": encoder.clip}
    if generation:
        precision = {} if dtype is None else {"dtype": dtype}
        diffusion = make_config(DiffusionConfig, {**config["diffusion"], **precision})
        parts = GenerationParts(
            make_config(FusionConfig, config["fusion"]),
            diffusion,
            make_config(EmotionSpaceConfig, config["space"]),
            make_config(ConditionLossConfig, config["condition"]),
        )
        names["diffusion"] = diffusion.path
    check_backbones(info, names)
    model = UniEmoModel.build(
        info.vocabulary,
        encoder,
        make_config(HeadConfig, config["head"]),
        make_config(AttributeConfig, config["attributes"]),
        parts,
        encode_names=False,
    )
    state = {name.removeprefix(PREFIX): value for name, value in content["state_dict"].items()}
    model.load_trained_state_dict(state, shared_only=not generation)
    return model.eval()
