"""CLIP models by name: open_clip architectures with their right activation, folders, single files, the hub."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from huggingface_hub import HfApi
from open_clip.pretrained import download_pretrained, get_pretrained_cfg, list_pretrained_tags_by_model
from torch import Tensor, nn

from uniemo.errors import UniEmoError, first_line
from uniemo.miniature.paths import MINIATURE, resolve
from uniemo.models.clip_files import read_clip_file
from uniemo.models.clip_shapes import TOKENIZER, ClipShape, build_shape
from uniemo.models.declared import check_layers, check_weights
from uniemo.models.hub import RANDOM, hub_folder, is_hub_name
from uniemo.models.state import check_finite
from uniemo.text_files import read_json
from uniemo.torchscript import is_torchscript

_SEED = 23372  # of random weights: a checkpoint finds the same ones again
_CONFIG = "open_clip_config.json"
_HUB_FILE = "open_clip_model.safetensors"
_SIZES = {"ViT-B-32": "605 MB", "ViT-B-16": "599 MB", "ViT-L-14": "1.7 GB"}  # in float32, both towers
_WEIGHTS = ("*.safetensors", "*.bin", "*.pth")  # what open_clip looks for in a folder
_TOKENIZER = ("tokenizer.json", "vocab.json")
_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt", "special_tokens_map.json")
# what makes open_clip and transformers fetch other networks, or run code that lies beside a tokenizer
_FOREIGN = ("hf_model_name", "tokenizer_kwargs", "timm_model_name", "auto_map")
_TEXT_BATCH = 256
_PATIENCE = 10  # seconds for an answer of the hub


@dataclass
class ClipParts:
    """A loaded CLIP, taken apart.

    Attributes:
        visual: the image tower, an open_clip ``VisionTransformer`` in eval mode.
        text: maps N strings to their (N, E) text features, not normalised, without gradient.
        width: D, width of the image tower.
        embed_dim: E, size of the space that image and text share.
        image_size: side R of the square images that the tower takes.
        mean: per-channel mean of CLIP's pixel normalisation.
        std: per-channel standard deviation of it.
        logit_scale: CLIP's learned inverse temperature (about 100 for the published weights).
        name: the name it was loaded by.
    """

    visual: Any
    text: TextEncoder
    width: int
    embed_dim: int
    image_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    logit_scale: float
    name: str


class TextEncoder:
    """CLIP's text tower as a function from strings to features; the tokenizer is made at the first call."""

    def __init__(self, model: nn.Module, source: str) -> None:
        self._model: Any = model
        self._source = source
        self._tokenizer: Callable[[list[str]], Tensor] | None = None

    @property
    def model(self) -> Any:  # noqa: ANN401
        """The open_clip model whose text tower this is."""
        return self._model

    def tokens(self, texts: Sequence[str]) -> Tensor:
        """Return (N, T) token ids of N texts, padded or cut to the tower's T places."""
        if self._tokenizer is None:
            with _quiet():
                self._tokenizer = _tokenizer(self._source)
        return self._tokenizer(list(texts))

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return (N, E) float32 features of N texts, not normalised."""
        chunks = [self.tokens(texts[start : start + _TEXT_BATCH]) for start in range(0, len(texts), _TEXT_BATCH)]
        device = self._model.logit_scale.device
        try:
            return torch.cat([self._model.encode_text(chunk.to(device)).float() for chunk in chunks])
        except IndexError as error:
            raise UniEmoError(
                f"clip must have the tokenizer that it was trained with; that of {self._source} knows other tokens: "
                "copy its files there anew"
            ) from error


def load_clip(name: str) -> ClipParts:
    """Load a CLIP.

    Args:
        name: one of

            - ``"miniature:clip"`` or a folder with ``open_clip_config.json``, weights and tokenizer;
            - an open_clip architecture such as ``"ViT-B-32"``, ``"ViT-B-16"``, ``"ViT-L-14"``: OpenAI's weights in the
              quick-GELU variant that they were trained with;
            - ``"architecture/tag"`` such as ``"ViT-B-32/laion2b_s34b_b79k"``: other weights, with their activation;
            - ``"owner/repository"`` on the hub in open_clip's layout, downloaded unless ``HF_HUB_OFFLINE`` is set;
            - a file: OpenAI's own archive such as ``"ViT-L-14.pt"``, or ``"architecture/file"`` for any other, for
              OpenAI's weights with ``-quickgelu`` as in ``"ViT-L-14-quickgelu/model.safetensors"``;
            - any of these but files after ``"random:"``: the architecture with random weights, always the same;
            - ``"random:vit-w1024-l24-p14-r224-e768"``: width, layers, patch size, image size and embedding size of an
              image tower with OpenAI's blocks, random weights (see :mod:`uniemo.models.clip_shapes`).

    Raises:
        UniEmoError: unknown name or tag, a folder with a file missing, weights that cannot be had, or an image tower
            that is not a plain ViT with a class token.
    """
    random = name.startswith(RANDOM)
    shape = ClipShape.from_name(name.removeprefix(RANDOM)) if random else None
    if shape is not None:
        with _seeded(random):
            return take_apart(build_shape(shape), TOKENIZER, name)
    architecture, tag, place = _look_up(name)
    if place is not None and place.is_file():
        with _quiet():
            model = read_clip_file(place, architecture)
        check_finite(model.state_dict(), f"clip {name!r}", "take another file")
        return take_apart(model, architecture or TOKENIZER, name)
    source = f"local-dir:{place}" if place is not None else str(architecture)
    pretrained = None if random or place is not None else tag
    try:
        with _quiet(), _seeded(random):
            if place is not None and not random:
                check_weights(lambda: _create(source, load_weights=False, device="meta"), _weight_files(place))
            model = _create(source, pretrained=pretrained, load_weights=not random, require_pretrained=not random)
    except Exception as error:  # the files are anyone's
        raise UniEmoError(
            f"clip {name!r} could not be loaded ({first_line(error)}); download its weights once with a network, "
            f"or give a folder in open_clip's layout"
        ) from error
    if not random:
        check_finite(model.state_dict(), f"clip {name!r}", "fetch its files again")
    return take_apart(model.eval(), source, name)


def _create(source: str, **options: Any) -> nn.Module:  # noqa: ANN401
    """Return the model that open_clip finds by ``source``."""
    model: nn.Module = open_clip.create_model(source, **options)
    return model


def _weight_files(folder: Path) -> list[Path]:
    """Return the files of a folder that open_clip may load."""
    return [file for pattern in _WEIGHTS for file in folder.glob(pattern)]


def _tokenizer(source: str) -> Callable[[list[str]], Tensor]:
    """Return the tokenizer of what open_clip finds by ``source``.

    Raises:
        UniEmoError: its files cannot be read.
    """
    try:
        tokenizer: Callable[[list[str]], Tensor] = open_clip.get_tokenizer(source)
    except Exception as error:  # the files are anyone's
        why = first_line(error)
        raise UniEmoError(f"clip must have a readable tokenizer; that of {source} is not ({why})") from error
    return tokenizer


def find_clip(name: str) -> int | None:
    """Raise the error about what is missing, unless a CLIP's weights are here or can be downloaded.

    Returns:
        Side of the images that it takes; None where its weights alone know.
    """
    shape = ClipShape.from_name(name.removeprefix(RANDOM)) if name.startswith(RANDOM) else None
    if shape is not None:
        return shape.image_size
    architecture, _, place = _look_up(name)
    size = None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):  # load_clip says what is wrong with the file
        if architecture is not None:
            size = open_clip.get_model_config(architecture)["vision_cfg"]["image_size"]
        elif place is not None and place.is_dir():
            size = read_json(place / _CONFIG)["model_cfg"]["vision_cfg"]["image_size"]
    return size if isinstance(size, int) else None


def _look_up(name: str) -> tuple[str | None, str, Path | None]:
    """Return architecture and tag, or architecture (None where the file's tensors decide) and the place on disk.

    Raises:
        UniEmoError: see :func:`load_clip`.
    """
    random, wanted = name.startswith(RANDOM), name.removeprefix(RANDOM)
    architecture, _, tag = wanted.partition("/")
    if not wanted.startswith(MINIATURE) and architecture in open_clip.list_models():
        file = Path(tag).expanduser()
        if tag and file.is_file():
            quick = f"{architecture}-quickgelu"
            forced = is_torchscript(file) and quick in open_clip.list_models()
            return (quick if forced else architecture), "", None if random else file
        architecture, tag = _variant(architecture, tag or "openai")
        if not random:
            _find_tag(architecture.removesuffix("-quickgelu"), tag)
        return architecture, tag, None
    place = resolve(wanted)
    if place.is_file() and not random:
        if not is_torchscript(place):
            raise UniEmoError(
                f"clip file must be OpenAI's own archive or have its architecture in front; got {wanted!r}: give "
                f"ViT-L-14-quickgelu/{wanted} for OpenAI's weights, ViT-L-14/{wanted} for weights trained with GELU"
            )
        return None, "", place
    if not place.is_dir() and not wanted.startswith(MINIATURE) and is_hub_name(wanted):
        files = [_CONFIG] if random else [_CONFIG, _HUB_FILE]

        def missing(folder: Path) -> str | None:
            return next((file for file in files if not (folder / file).is_file()), None)

        place = hub_folder(wanted, [*files, *_TOKENIZER_FILES], missing, "clip")
    _check_folder(place, weights=not random)
    return None, "", place


def _find_tag(architecture: str, tag: str) -> None:
    """Let open_clip download published weights unless they are in the hub's cache.

    Raises:
        UniEmoError: they cannot be had.
    """
    config = get_pretrained_cfg(architecture, tag) or get_pretrained_cfg(f"{architecture}-quickgelu", tag) or {}
    owner, _, rest = str(config.get("hf_hub") or "").partition("/")
    name, _, file = rest.partition("/")
    if not name:
        return  # open_clip downloads it from elsewhere
    repo, files = f"{owner}/{name}", [file] if file else [_HUB_FILE, "open_clip_pytorch_model.bin"]

    def download() -> str:
        HfApi().model_info(repo, timeout=_PATIENCE)  # fails at once where open_clip would try for a minute
        with _quiet():
            return str(Path(download_pretrained(config)).parent)

    def missing(folder: Path) -> str | None:
        return None if any((folder / own).is_file() for own in files) else files[0]

    size = _SIZES.get(architecture, "") if tag == "openai" else ""
    hub_folder(repo, files[:1], missing, f"clip {architecture}", size, download)


def take_apart(model: Any, source: str, name: str) -> ClipParts:  # noqa: ANN401 - open_clip is not typed
    """Return the parts of an open_clip model; ``source`` is what open_clip finds its tokenizer by."""
    visual: Any = model.visual
    if not (
        isinstance(visual, open_clip.transformer.VisionTransformer)
        and visual.pool_type == "tok"
        and isinstance(visual.transformer.resblocks[0], open_clip.transformer.ResidualAttentionBlock)
        and visual.image_size[0] == visual.image_size[1]
    ):
        raise UniEmoError(
            f"clip must have a plain ViT with a class token and square images as image tower; {name!r} has not, "
            f"take ViT-B-32, ViT-B-16 or ViT-L-14"
        )
    preprocess = visual.preprocess_cfg
    return ClipParts(
        visual=visual,
        text=TextEncoder(model, source),
        width=visual.conv1.out_channels,
        embed_dim=visual.output_dim,
        image_size=visual.image_size[0],
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        logit_scale=float(model.logit_scale.detach().exp()),
        name=name,
    )


def _variant(architecture: str, tag: str) -> tuple[str, str]:
    """Return the architecture whose activation is the one that the weights ``tag`` were trained with."""
    plain = architecture.removesuffix("-quickgelu")
    config = get_pretrained_cfg(plain, tag) or get_pretrained_cfg(architecture, tag)
    if not config:
        tags = ", ".join(list_pretrained_tags_by_model(plain)) or "none"
        raise UniEmoError(f"clip weights must be a file or one of {tags} for {plain}; got {tag!r}")
    quick = f"{plain}-quickgelu"
    return (quick if config.get("quick_gelu") and quick in open_clip.list_models() else plain), tag


def _check_folder(folder: Path, weights: bool) -> None:
    """Raise the error that names the first file that a CLIP folder lacks."""
    if not folder.is_dir():
        raise UniEmoError(
            f"clip must be miniature:clip, a folder, a file, a name on the hub or an open_clip name such as ViT-B-32; "
            f"there is no {str(folder)!r}"
        )
    if not (folder / _CONFIG).is_file():
        raise UniEmoError(f"clip folder must hold {_CONFIG}; {str(folder)!r} has none, write it there")
    if weights and not _weight_files(folder):
        raise UniEmoError(
            f"clip folder must hold open_clip_model.safetensors; {str(folder)!r} has no weights, copy them there"
        )
    try:
        model = read_json(folder / _CONFIG)["model_cfg"]
        check_layers(model)
        names = {*model["text_cfg"], *model["vision_cfg"]}
        about_tokenizer = folder / "tokenizer_config.json"
        names |= set(read_json(about_tokenizer) if about_tokenizer.is_file() else {})
    except (ValueError, TypeError, LookupError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise UniEmoError(
            f"clip folder must hold open_clip's {_CONFIG}; that in {str(folder)!r} is another ({reason}): copy its "
            "files there anew"
        ) from error
    if foreign := sorted(names.intersection(_FOREIGN)):
        raise UniEmoError(
            f"clip folder must hold a plain CLIP; that in {str(folder)!r} asks for code or networks from elsewhere "
            f"({foreign[0]}), give another"
        )
    if "hf_tokenizer_name" in names and not any((folder / file).is_file() for file in _TOKENIZER):
        raise UniEmoError(f"clip folder must hold tokenizer.json; {str(folder)!r} has no tokenizer, copy it there")


@contextlib.contextmanager
def _seeded(random: bool) -> Iterator[None]:
    """Make the same random weights every time, and leave the caller's random state as it is."""
    if not random:
        yield
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        yield


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep open_clip's notes on the root logger below warnings, and random-weight warnings, off the screen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
