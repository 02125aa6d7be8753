"""The files of one image of a dataset: hashed, decoded to the last pixel and described, for ``uniemo data check``."""

from __future__ import annotations

import multiprocessing
import warnings
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image

from uniemo.cache import digest
from uniemo.data.images import exif_orientation, to_rgb
from uniemo.errors import UniEmoError, first_line
from uniemo.launch import cpu_cores
from uniemo.text_files import read_bytes, read_json
from uniemo.vocabulary import attribute_text

_CHUNK = 16  # images that a worker takes at a time
_ATTRIBUTES = ("brightness", "colorfulness", "scene", "object", "facial_expression", "human_action")  # EmoSet's
# Suffixes in use for each of Pillow's formats; others pass.
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),  # JPEGs of some cameras
    "PNG": (".png",),
    "GIF": (".gif",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
Fault = tuple[str, str]  # kind of finding (``check_report.KINDS``), and what exactly


@dataclass(frozen=True, slots=True)
class Item:
    """One image as the dataset's lists name it; paths are relative to the root."""

    image: str
    emotion: str = ""
    split: str | None = None
    annotation: str | None = None
    mask: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """The result for one item.

    Attributes:
        bytes: size of the image file; 0 where it cannot be opened.
        content: hash of the image file's bytes; empty where it cannot be opened.
        pixels: hash of the upright RGB image; empty where it cannot be decoded.
        size: width and height, upright; zeros where it cannot be decoded.
        format: Pillow's name of the file format.
        faults: of the image, its mask and its annotation, odd but readable features included.
        unknown: (attribute, name as spelled) of names in the annotation that ``info.json`` lacks.
    """

    bytes: int = 0
    content: str = ""
    pixels: str = ""
    size: tuple[int, int] = (0, 0)
    format: str = ""
    faults: tuple[Fault, ...] = ()
    unknown: tuple[Fault, ...] = ()


def inspect(item: Item, root: Path, names: Mapping[str, frozenset[str]] | None = None) -> Facts:
    """Read and decode the files of one item.

    Args:
        item: the image.
        root: folder that paths are relative to.
        names: known names of each attribute, see :func:`attribute_names`.
    """
    with warnings.catch_warnings():  # Pillow's on odd metadata and very large images
        warnings.simplefilter("ignore")
        facts = _inspect_image(root, item.image)
    faults = list(facts.faults)
    if item.mask is not None:
        faults += _mask_faults(root / item.mask, item.mask, facts.size)
    unknown: tuple[Fault, ...] = ()
    if item.annotation is not None:
        found, unknown = _inspect_annotation(root, item, names or {})
        faults += found
    return replace(facts, faults=tuple(faults), unknown=unknown)


def _inspect_image(root: Path, name: str) -> Facts:
    suffix = PurePosixPath(name).suffix
    odd = {"upper_extension": suffix != suffix.lower(), "script_name": not name.isascii()}
    faults = [(kind, "") for kind, there in odd.items() if there]
    try:
        data = read_bytes(root / name)
    except OSError as error:
        return Facts(faults=(*faults, ("unreadable", error.strerror or type(error).__name__)))
    facts = Facts(len(data), digest(data, length=32), faults=(*faults, *([] if data else [("zero_byte", "0 bytes")])))
    if not data:
        return facts
    try:
        with Image.open(BytesIO(data)) as image:
            image.verify()
        with Image.open(BytesIO(data)) as image:
            facts = replace(facts, format=image.format or "")
            traits = _traits(image, suffix)
            picture = to_rgb(image)
    except Exception as error:  # on damaged files Pillow's plugins raise anything; the pass goes on
        kind = "truncated" if "truncat" in str(error).lower() or isinstance(error, EOFError) else "unreadable"
        return replace(facts, faults=(*faults, (kind, _reason(error))))
    return replace(
        facts,
        pixels=digest(str(picture.size), picture.tobytes(), length=32),
        size=picture.size,
        faults=(*faults, *((kind, "") for kind in traits)),
    )


def _traits(image: Image.Image, suffix: str) -> list[str]:
    """Return what is odd about an opened image whose pixels are not read yet, as kinds of findings."""
    deep = image.mode.startswith(("I", "F")) or any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    found = {
        "cmyk": image.mode == "CMYK",
        "grey": image.mode in ("1", "L", "LA", "La") or (deep and image.mode != "RGB"),
        "sixteen_bit": deep,
        "palette": image.mode in ("P", "PA"),
        "transparent": image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        # The further images in a camera's MPO are previews, not frames.
        "animated": bool(getattr(image, "is_animated", False)) and image.format != "MPO",
        "exif": exif_orientation(image) != 1,
        "other_suffix": suffix.lower() not in _SUFFIXES.get(image.format or "", (suffix.lower(),)),
    }
    return [kind for kind, there in found.items() if there]


def _reason(error: BaseException) -> str:
    """Return an error's first line, without the address of the stream that was decoded."""
    return "no picture" if isinstance(error, Image.UnidentifiedImageError) else first_line(error)


def _mask_faults(path: Path, name: str, size: tuple[int, int]) -> list[Fault]:
    """Return what is wrong with the mask of an image of this size."""
    if not path.is_file():
        return [("missing_mask", name)]
    try:
        with Image.open(path) as image:
            image.load()
            width, height = image.size
    except Exception as error:  # as for images
        return [("bad_mask", f"{name}: {_reason(error)}")]
    # Another resolution is allowed, another shape is not; a pixel more or less is rounding.
    if size != (0, 0) and abs(width * size[1] - height * size[0]) > max(*size, width, height):
        return [("mask_shape", f"{name} is {width}x{height}, the image {size[0]}x{size[1]}")]
    return []


def _inspect_annotation(
    root: Path, item: Item, names: Mapping[str, frozenset[str]]
) -> tuple[list[Fault], tuple[Fault, ...]]:
    """Return what is wrong with an annotation, and the names in it that are not known."""
    try:
        note = read_json(root / (item.annotation or ""))
    except FileNotFoundError:
        return [("missing_annotation", item.annotation or "")], ()
    except (OSError, ValueError) as error:
        return [("bad_annotation", f"{item.annotation}: {_reason(error)}")], ()
    if not isinstance(note, dict):
        return [("bad_annotation", f"{item.annotation}: no JSON object")], ()
    faults = []
    for label in _texts(note.get("emotion")):
        if label.strip().lower() != item.emotion:
            faults.append(("other_label", f"{item.annotation}: {label!r}, the list says {item.emotion!r}"))
        elif label != item.emotion:
            faults.append(("label_case", f"{item.annotation}: {label!r}"))
    pairs = [(kind, name) for kind in _ATTRIBUTES if kind in names for name in _texts(note.get(kind))]
    return faults, tuple((kind, name) for kind, name in pairs if attribute_text(name) not in names[kind])


def _texts(value: Any) -> list[str]:  # noqa: ANN401
    """Return one or several names of an annotation; numbers are looked up as strings, as EmoSet's index has them."""
    values = value if isinstance(value, list) else [value]
    return [str(single) for single in values if single not in (None, "")]


def attribute_names(info: Path) -> dict[str, frozenset[str]]:
    """Return the names of each attribute in EmoSet's full ``info.json``, as training compares them."""
    try:
        tables: Any = read_json(info)
    except (OSError, ValueError):
        return {}
    return {
        kind: frozenset(map(attribute_text, table["label2idx"]))
        for kind, table in (tables.items() if isinstance(tables, dict) else ())
        if kind in _ATTRIBUTES and isinstance(table, dict) and isinstance(table.get("label2idx"), dict)
    }


def inspect_all(
    root: Path, items: Sequence[Item], names: Mapping[str, frozenset[str]] | None = None, workers: int | None = None
) -> Iterator[Facts]:
    """Yield :func:`inspect` of each item, in their order, from several processes.

    Args:
        root: folder that paths are relative to.
        items: images.
        names: see :func:`attribute_names`.
        workers: processes; None takes one for each core that this process may use.

    Raises:
        UniEmoError: a process was killed, as the system does when memory runs out.
    """
    count = min(workers or cpu_cores(), -(-len(items) // _CHUNK))
    one = partial(inspect, root=root, names=names)
    if count <= 1:
        yield from map(one, items)
        return
    # Fork where there is one, as loaders do: else each process would import torch, for nothing.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    try:
        with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context(method)) as pool:
            yield from pool.map(one, items, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise UniEmoError(
            f"data check lost one of its {count} processes, perhaps for want of memory: try --workers 1"
        ) from error
