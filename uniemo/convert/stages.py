"""Released checkpoints of both stages as checkpoints of ours."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import open_clip
import torch
import yaml
from torch import Tensor

from uniemo import __version__
from uniemo.cache import atomic_write
from uniemo.checkpoint import JOINT, PREFIX, UNDERSTANDING, plain_config
from uniemo.convert.coefficients import Rows
from uniemo.convert.reading import check_file, check_shape, is_ordinary, pick, read_torch, tensors
from uniemo.convert.released import ReleasedFile, build_model, configs, read_released
from uniemo.errors import UniEmoError
from uniemo.models.attributes import AttributeConfig
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpace, EmotionSpaceConfig
from uniemo.models.fusion import ConditionFusion, FusionConfig
from uniemo.models.losses import ConditionLossConfig, TripletConditionLoss
from uniemo.models.uniemo import UniEmoModel

Pixels = Literal["clip", "imagenet", "half"]

# What the released code normalises pixels with: stage 1 by ImageNet's statistics, stage 2 by one half.
PIXELS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "clip": (open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
MAPPERS = {"cls": "mapper.pth", "scene": "mapper_scene.pth", "object": "mapper_object.pth"}
_SPACE = "UniEmo_space"
SPACE_NAMES = {"cls": "cls_fea", "scene": "scene", "object": "object"}
_DEFAULT_DIFFUSION = "models/stable-diffusion-v1-5"  # as in model/sd15.yaml
_MODULES = {UNDERSTANDING: "UnderstandingModule", JOINT: "JointModule"}


def convert_released(
    source: str | Path,
    output: str | Path,
    emotions: Sequence[str] | None = None,
    scenes: Rows | None = None,
    objects: Rows | None = None,
    pixels: Pixels = "clip",
) -> ReleasedFile:
    """Write a released checkpoint of stage 1 as a checkpoint of the understanding stage, its CLIP tower included.

    Args:
        source: ``best.pth``.
        output: the checkpoint to write; an old one is replaced when all is done.
        emotions: see :func:`uniemo.convert.released.load_released`, as the next.
        scenes: a row for each scene.
        objects: a row for each object.
        pixels: what images were normalised with when it was trained. Ours are by CLIP's statistics; another choice is
            worked into the tower, so that it sees on such images what it saw then.

    Returns:
        What was in the file.
    """
    file = read_released(source)
    model = build_model(file, emotions, scenes, objects)
    _take_pixels(model, pixels)
    _write(output, model, UNDERSTANDING, _parts(file))
    return file


def convert_folder(
    source: str | Path,
    output: str | Path,
    emotions: Sequence[str] | None = None,
    scenes: Rows | None = None,
    objects: Rows | None = None,
    pixels: Pixels = "clip",
    space: str | Path | None = None,
    diffusion: str = _DEFAULT_DIFFUSION,
) -> ReleasedFile:
    """Write a released folder of stage 2 as a checkpoint of the joint stage.

    α is found as our models find it: the file's projections compare features with attribute names in CLIP's text space.
    The released code compares mapped features instead, so that single values of α can differ. Without ``scenes`` and
    ``objects`` α is 1.

    Args:
        source: folder with ``VIT_query.pth``, ``mapper.pth``, ``mapper_scene.pth`` and ``mapper_object.pth``.
        output: as the next four of :func:`convert_released`.
        emotions: their names.
        scenes: a row for each scene.
        objects: a row for each object.
        pixels: the normalisation that it was trained with.
        space: folder of the emotion space; None looks for ``UniEmo_space`` in ``source``. Without one the checkpoint
            cannot draw.
        diffusion: the Stable Diffusion that the mappers were trained for, as the checkpoint is to name it; it is not
            read here.

    Returns:
        What was in ``VIT_query.pth``.
    """
    source = Path(source).expanduser()
    for name in MAPPERS.values():
        check_file(source / name, "mapper of the released stage 2")
    file = read_released(source)
    model = build_model(file, emotions, scenes, objects)
    _take_pixels(model, pixels)
    width = file.sizes.shape.width
    mappers = {token: _read_mapper(source / name, width) for token, name in MAPPERS.items()}
    sizes = {token: tuple(mapper[f"{layer}.bias"].numel() for layer in (0, 2)) for token, mapper in mappers.items()}
    if len(set(sizes.values())) > 1:
        raise UniEmoError(
            f"mappers of {source} must have the same hidden and output widths; got {list(sizes.values())}: "
            "take all files from one folder"
        )
    hidden, out = sizes["cls"]
    fusion = FusionConfig(hidden=hidden, normalize=False)
    model.fusion = ConditionFusion(fusion, width, (out,))
    own = {name: value.shape for name, value in model.fusion.state_dict().items()}
    given = {f"mappers.{token}.0.{name}": value for token, state in mappers.items() for name, value in state.items()}
    model.fusion.load_state_dict(pick(given, {name: name for name in own}, own, source))
    model.condition_loss = _condition_loss(model, out)
    model.space = EmotionSpace(file.sizes.num_emotions, width, tuple(MAPPERS))
    folder = find_space(source, space)
    if folder is not None:
        model.space.load_state_dict(read_space(folder, model.vocabulary.emotions, width), strict=False)
    parts = _parts(file) | {
        "fusion": fusion,
        "condition": ConditionLossConfig(kind="triplet"),
        "diffusion": DiffusionConfig(path=diffusion),
        "space": EmotionSpaceConfig(kind="gaussian"),
    }
    _write(output, model, JOINT, parts)
    return file


def find_space(source: Path, given: str | Path | None) -> Path | None:
    """Return the folder of a released emotion space, None where there is none beside the weights and none is given."""
    if given is not None:
        return Path(given).expanduser()
    return source / _SPACE if (source / _SPACE).is_dir() else None


def read_space(folder: str | Path, emotions: Sequence[str], width: int) -> dict[str, Tensor]:
    """Read a released emotion space: ``{emotion}_{cls_fea,scene,object}_{mean,std}.pt``.

    Args:
        folder: where the files lie.
        emotions: whose files are read.
        width: D.

    Returns:
        (C, D) each, by the names of :class:`uniemo.models.emotion_space.EmotionSpace`.

    Raises:
        UniEmoError: a file is missing, holds another thing than D finite numbers, or a deviation below 0.
    """
    what = "emotion space"
    state = {}
    for kind, released in SPACE_NAMES.items():
        for figure in ("mean", "std"):
            rows = []
            for emotion in emotions:
                path = Path(folder) / f"{emotion}_{released}_{figure}.pt"
                row = read_torch(path, what)
                fits = is_ordinary(row) and row.numel() == width and bool(torch.isfinite(row).all())
                if not fits or (figure == "std" and bool((row < 0).any())):
                    raise UniEmoError(
                        f"{what} must hold {width} finite numbers a file, deviations from 0; {path} does not: "
                        "give that of this encoder"
                    )
                rows.append(row.detach().float().reshape(width))
            state[f"{figure}_{kind}"] = torch.stack(rows)
    return state


def _read_mapper(path: Path, width: int) -> dict[str, Tensor]:
    """Return the tensors of a mapper under the names of a ``Sequential``."""
    what = "mapper of the released stage 2"
    state = tensors(read_torch(path, what), path, what)
    names = {f"{layer}.{end}": f"mlp.{layer}.{end}" for layer in (0, 2) for end in ("weight", "bias")}
    extra = sorted(set(state) - set(names.values()))
    if extra:
        raise UniEmoError(f"{what} must be mlp.0, ReLU, mlp.2; {path} has {extra[0]!r} too: it is of another version")
    lacking = sorted(set(names.values()) - set(state))
    if lacking:
        raise UniEmoError(f"{what} must have mlp.0 and mlp.2; {path} lacks {lacking[0]}: give another file")
    if state["mlp.0.weight"].shape[-1] != width:
        raise UniEmoError(
            f"{what} must take features of width {width}, that of VIT_query.pth; {path} takes "
            f"{state['mlp.0.weight'].shape[-1]}: take all files from one folder"
        )
    hidden, out = state["mlp.0.bias"].numel(), state["mlp.2.bias"].numel()
    check_shape(state, "mlp.0.weight", (hidden, width), path)
    check_shape(state, "mlp.2.weight", (out, hidden), path)
    return {new: state[old] for new, old in names.items()}


def _condition_loss(model: UniEmoModel, width: int) -> TripletConditionLoss:
    """Return the released condition loss: its head is the classifier's last layer; zeros where widths do not agree."""
    loss = TripletConditionLoss(len(model.vocabulary.emotions), (width,))
    last = model.head.state_dict()
    for name, own in loss.heads.state_dict(prefix="", keep_vars=True).items():  # "0.weight", "0.bias"
        value = last[name.replace("0.", "fc1.", 1)]
        own.data = value.clone() if value.shape == own.shape else torch.zeros_like(own)
    return loss


@torch.no_grad()
def _take_pixels(model: UniEmoModel, pixels: Pixels) -> None:
    """Make the tower see, on images normalised with CLIP's statistics, what it saw with those of ``pixels``.

    A pixel p is (p - m) / s to us and was (p - m') / s' then: a scale and a shift of each channel. The first layer is
    linear and has no padding, so that the scale goes into its weights and the shift into the patches' positions.
    """
    if pixels == "clip":
        return
    visual = model.encoder.visual
    (mean, std), (old_mean, old_std) = (
        tuple(torch.tensor(values) for values in PIXELS[name]) for name in ("clip", pixels)
    )
    weight = visual.conv1.weight  # (D, 3, p, p)
    shift = torch.einsum("dcij,c->d", weight, (mean - old_mean) / old_std)
    visual.positional_embedding[1:] += shift
    weight.mul_((std / old_std).reshape(1, 3, 1, 1))


def _parts(file: ReleasedFile) -> dict[str, Any]:
    """Return the configuration dataclasses of stage 1 by part."""
    encoder, head = configs(file.sizes)
    return {"encoder": encoder, "head": head, "attributes": AttributeConfig()}


def _write(output: str | Path, model: UniEmoModel, stage: str, parts: dict[str, Any]) -> None:
    """Write a checkpoint as ``uniemo fit`` would, weights only."""
    config = {name: plain_config(part) for name, part in parts.items()}
    state = model.trained_state_dict(clip_tuned=True)
    content = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": importlib.metadata.version("lightning"),
        "state_dict": {PREFIX + name: value.detach().contiguous().clone() for name, value in state.items()},
        "hyper_parameters": {**config, "_instantiator": "lightning.pytorch.cli.instantiate_module"},
        "uniemo": {
            "version": __version__,
            "stage": stage,
            "vocabulary": model.vocabulary.to_dict(),
            "model": config,
            "backbones": {},  # the tower is in the file; what the diffusion model's weights were is not known
            "config": _yaml(stage, config, model.encoder.image_size),
        },
    }
    with atomic_write(output) as path:
        torch.save(content, path)


def _yaml(stage: str, config: dict[str, Any], image_size: int) -> str:
    """Return a configuration that ``uniemo test --ckpt`` can go by; the data's folder is for its user to give."""
    content = {
        "model": {"class_path": f"uniemo.modules.{_MODULES[stage]}", "init_args": config},
        "data": {
            "class_path": "uniemo.data.EmoSet",
            "init_args": {
                "image_size": image_size,
                "diffusion_size": 512 if stage == JOINT else None,
                "batch_size": 64,
            },
        },
        "trainer": {
            "accelerator": "auto",
            "logger": True,
            "num_sanity_val_steps": 0,
            "enable_model_summary": False,
        },
    }
    return yaml.safe_dump(content, sort_keys=False)
