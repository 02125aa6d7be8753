"""Models and checkpoints of ours out of the authors' released files, of both stages."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from uniemo import __version__
from uniemo.archives import is_ordinary
from uniemo.cache import save_tensors
from uniemo.checkpoint import JOINT, PREFIX, UNDERSTANDING
from uniemo.convert.coefficients import Rows
from uniemo.convert.pickles import check_file, check_shapes, fill, read_torch, tensors
from uniemo.convert.released import read_released
from uniemo.convert.released_model import Pixels, build_model, configs, convert_pixels
from uniemo.errors import UniEmoError
from uniemo.models.attributes import AttributeConfig
from uniemo.models.diffusion import DiffusionConfig
from uniemo.models.emotion_space import EmotionSpace, EmotionSpaceConfig
from uniemo.models.fusion import ConditionFusion, FusionConfig
from uniemo.models.losses import ConditionLossConfig, TripletConditionLoss
from uniemo.models.uniemo import UniEmoModel
from uniemo.plain_configs import plain_config

_MAPPERS = {"cls": "mapper.pth", "scene": "mapper_scene.pth", "object": "mapper_object.pth"}
_MAPPER = "mapper of the released stage 2"
_SPACE = {"cls": "cls_fea", "scene": "scene", "object": "object"}  # names in the files of UniEmo_space
_MODULES = {UNDERSTANDING: "UnderstandingModule", JOINT: "JointModule"}


def convert_released(
    source: str | Path,
    output: str | Path,
    emotions: Sequence[str] | None = None,
    scenes: Rows | None = None,
    objects: Rows | None = None,
    pixels: Pixels = "clip",
    space: str | Path | None = None,
    diffusion: str = "models/stable-diffusion-v1-5",
) -> None:
    """Write released files as a checkpoint of ours, the CLIP tower included: stage 1 of a file, stage 2 of a folder.

    In stage 2 α is found as our models find it: the file's projections compare features with attribute names in CLIP's
    text space. The released code compares mapped features instead, so that single values of α can differ. Without
    ``scenes`` and ``objects`` α is 1.

    Args:
        source: ``best.pth``, or a folder with ``VIT_query.pth``, ``mapper.pth``, ``mapper_scene.pth`` and
            ``mapper_object.pth``.
        output: the checkpoint to write; an old one is replaced when all is done.
        emotions: see :func:`uniemo.convert.released_model.build_model`, as the next.
        scenes: a row for each scene.
        objects: a row for each object.
        pixels: what images were normalised with when it was trained. Ours are by CLIP's statistics; another choice is
            worked into the tower, so that it sees on such images what it saw then.
        space: folder of the emotion space; None looks for ``UniEmo_space`` in ``source``. Without one the checkpoint
            cannot generate.
        diffusion: the Stable Diffusion that the mappers were trained for, as the checkpoint is to name it; it is not
            read here.
    """
    source = Path(source).expanduser()
    joint = source.is_dir()
    for name in _MAPPERS.values() if joint else ():
        check_file(source / name, _MAPPER)
    file = read_released(source)
    model = build_model(file, emotions, scenes, objects)
    convert_pixels(model, pixels)
    encoder, head = configs(file.sizes)
    parts: dict[str, Any] = {"encoder": encoder, "head": head, "attributes": AttributeConfig()}
    if joint:
        width = file.sizes.shape.width
        model.fusion, parts["fusion"], token_width = _read_fusion(source, width)
        model.condition_loss = _condition_loss(model, token_width)
        model.space = EmotionSpace(file.sizes.num_emotions, width, tuple(_MAPPERS))
        folder = find_space(source, space)
        if folder is not None:
            model.space.load_state_dict(_read_space(folder, model.vocabulary.emotions, width), strict=False)
        parts["condition"] = ConditionLossConfig(kind="triplet")
        parts["diffusion"] = DiffusionConfig(path=diffusion)
        parts["space"] = EmotionSpaceConfig(kind="gaussian")
    _write(output, model, JOINT if joint else UNDERSTANDING, parts)


def find_space(source: Path, given: str | Path | None) -> Path | None:
    """Return the folder of a released emotion space, None where there is none beside the weights and none is given."""
    if given is not None:
        return Path(given).expanduser()
    return source / "UniEmo_space" if (source / "UniEmo_space").is_dir() else None


def _read_fusion(folder: Path, width: int) -> tuple[ConditionFusion, FusionConfig, int]:
    """Return the fusion of three mappers, its configuration, and W, the width of its conditions.

    Raises:
        UniEmoError: files that are no mappers of features of this width, or do not fit each other.
    """
    given: dict[str, Tensor] = {}
    for token, name in _MAPPERS.items():
        path = folder / name
        state = tensors(read_torch(path, _MAPPER), path, _MAPPER)
        names = {f"mlp.{layer}.{end}" for layer in (0, 2) for end in ("weight", "bias")}
        other = sorted(names ^ set(state))
        if other:
            raise UniEmoError(
                f"{_MAPPER} must be mlp.0, ReLU, mlp.2; {path} {'has' if other[0] in state else 'lacks'} {other[0]}: "
                "it is of another version"
            )
        if state["mlp.0.weight"].shape[-1] != width:
            raise UniEmoError(
                f"{_MAPPER} must take features of width {width}, that of VIT_query.pth; {path} takes "
                f"{state['mlp.0.weight'].shape[-1]}: take all files from one folder"
            )
        hidden, out = state["mlp.0.bias"].numel(), state["mlp.2.bias"].numel()
        check_shapes(state, {"mlp.0.weight": (hidden, width), "mlp.2.weight": (out, hidden)}, path)
        given |= {f"{token}.{name}": value for name, value in state.items()}
    sizes = {token: tuple(given[f"{token}.mlp.{layer}.bias"].numel() for layer in (0, 2)) for token in _MAPPERS}
    if len(set(sizes.values())) > 1:
        raise UniEmoError(
            f"mappers of {folder} must have the same hidden and output widths; got {list(sizes.values())}: "
            "take all files from one folder"
        )
    hidden, out = sizes["cls"]
    config = FusionConfig(hidden=hidden, normalize=False)
    fusion = ConditionFusion(config, width, (out,))
    # ours "mappers.cls.0.2.weight" (0 is the text encoder), theirs "mlp.2.weight" of the mapper cls
    theirs = {name: ".mlp.".join(name.removeprefix("mappers.").split(".0.", 1)) for name in fusion.state_dict()}
    fill(fusion, given, theirs, folder)
    return fusion, config, out


def _read_space(folder: str | Path, emotions: Sequence[str], width: int) -> dict[str, Tensor]:
    """Read a released emotion space: ``{emotion}_{cls_fea,scene,object}_{mean,std}.pt``, each (D,).

    Returns:
        (C, D) each, by the names of :class:`uniemo.models.emotion_space.EmotionSpace`.

    Raises:
        UniEmoError: a file is missing, holds another thing than D finite numbers, or a deviation below 0.
    """
    what = "emotion space"
    state = {}
    for kind, released in _SPACE.items():
        for statistic in ("mean", "std"):
            rows = []
            for emotion in emotions:
                path = Path(folder) / f"{emotion}_{released}_{statistic}.pt"
                row = read_torch(path, what)
                fits = is_ordinary(row) and row.numel() == width and bool(torch.isfinite(row).all())
                if not fits or (statistic == "std" and bool((row < 0).any())):
                    raise UniEmoError(
                        f"{what} must hold {width} finite numbers a file, deviations from 0; {path} does not: "
                        "give that of this encoder"
                    )
                rows.append(row.detach().float().reshape(width))
            state[f"{statistic}_{kind}"] = torch.stack(rows)
    return state


@torch.no_grad()
def _condition_loss(model: UniEmoModel, width: int) -> TripletConditionLoss:
    """Return the released condition loss: its head is the classifier's last layer; zeros where widths do not agree."""
    last = model.head.state_dict()
    loss = TripletConditionLoss(len(model.vocabulary.emotions), (width,))
    weight, bias = loss.heads.parameters()
    weight.copy_(last["fc1.weight"] if last["fc1.weight"].shape == weight.shape else torch.zeros_like(weight))
    bias.copy_(last["fc1.bias"])
    return loss


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
    save_tensors(output, content)


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
