"""What one image of a dataset is, its file read once: hashed, decoded to the last pixel, and described.

With it come the two small files that may belong to it, its mask and its annotation.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from PIL import Image, ImageFile

from uniemo.data.images import to_rgb
from uniemo.errors import UniEmoError

_CHUNK = 16  # files that a worker takes at a time
_ORIENTATION = 0x0112  # EXIF tag
_GREY = ("1", "L", "LA", "La")
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


@dataclass(frozen=True, slots=True)
class Task:
    """One image with what belongs to it; paths relative to the root."""

    image: str
    mask: str | None = None
    annotation: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a task's files.

    Attributes:
        bytes: size of the image file; 0 where it cannot be opened.
        content: hash of the image file's bytes; empty where it cannot be opened.
        pixels: hash of the upright RGB picture; empty where it cannot be decoded.
        size: width and height, upright; zeros where it cannot be decoded.
        format: Pillow's name of the file format.
        faults: (kind of finding, what exactly) of the image, its mask and its annotation.
        traits: odd but readable features of the image, as kinds of findings.
        attributes: (attribute, name as spelled) that the annotation gives; the emotion is one of them.
    """

    bytes: int = 0
    content: str = ""
    pixels: str = ""
    size: tuple[int, int] = (0, 0)
    format: str = ""
    faults: tuple[tuple[str, str], ...] = ()
    traits: tuple[str, ...] = ()
    attributes: tuple[tuple[str, str], ...] = ()


def look_at(root: Path, task: Task) -> Facts:
    """Read and decode the files of one task."""
    with warnings.catch_warnings():  # Pillow's remarks on odd metadata and very large pictures
        warnings.simplefilter("ignore")
        return _look_at(root, task)


def _look_at(root: Path, task: Task) -> Facts:
    """See :func:`look_at`."""
    facts: dict[str, Any] = {"traits": _name_traits(task.image)}
    faults: list[tuple[str, str]] = []
    try:
        data = (root / task.image).read_bytes()
    except OSError as error:
        faults.append(("unreadable", error.strerror or type(error).__name__))
    else:
        facts |= {"bytes": len(data), "content": _digest(data)}
        if not data:
            faults.append(("zero_byte", "0 bytes"))
        else:
            try:
                picture = _decode(data, facts, PurePosixPath(task.image).suffix)
            except Exception as error:  # on damaged files Pillow's plugins raise anything; the pass goes on
                faults.append((_kind_of(error), _reason(error)))
            else:
                facts["size"] = picture.size
                facts["pixels"] = _digest(f"{picture.size}".encode(), picture.tobytes())
    if task.mask is not None:
        faults += _look_at_mask(root / task.mask, task.mask, facts.get("size", (0, 0)))
    if task.annotation is not None:
        fault, facts["attributes"] = _look_at_annotation(root / task.annotation, task.annotation)
        faults += fault
    return Facts(faults=tuple(faults), **facts)


def _digest(*parts: bytes) -> str:
    """Return 128 bits of SHA-256, which processors compute in hardware."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return sha.hexdigest()[:32]


def _decode(data: bytes, facts: dict[str, Any], suffix: str) -> Image.Image:
    """Return the upright RGB picture; what is odd about it is added to ``facts``."""
    with Image.open(BytesIO(data)) as image:
        facts["format"] = image.format or ""
        traits = _traits(image, suffix)
        image.load()
        facts["traits"] += traits
        return to_rgb(image)


def _traits(image: ImageFile.ImageFile | Image.Image, suffix: str) -> tuple[str, ...]:
    """Return what is odd about an opened picture whose pixels are not read yet."""
    deep = image.mode.startswith(("I", "F")) or any(";16" in str(tile) for tile in getattr(image, "tile", ()))
    named = suffix.lower() in _SUFFIXES.get(image.format or "", (suffix.lower(),))
    found = {
        "cmyk": image.mode == "CMYK",
        "grey": image.mode in _GREY or (deep and image.mode != "RGB"),
        "sixteen_bit": deep,
        "palette": image.mode in ("P", "PA"),
        "transparent": image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info,
        # The further pictures in a camera's MPO are previews, not frames.
        "animated": bool(getattr(image, "is_animated", False)) and image.format != "MPO",
        "exif": image.getexif().get(_ORIENTATION, 1) in range(2, 9),
        "other_suffix": not named,
    }
    return tuple(name for name, there in found.items() if there)


def _name_traits(image: str) -> tuple[str, ...]:
    """Return what is odd about a file's name."""
    suffix = PurePosixPath(image).suffix
    return (("upper_extension",) if suffix != suffix.lower() else ()) + (() if image.isascii() else ("script_name",))


def _kind_of(error: BaseException) -> str:
    """Tell a file that ends too early from one that is no picture."""
    return "truncated" if "truncat" in str(error).lower() or isinstance(error, EOFError) else "unreadable"


def _reason(error: BaseException) -> str:
    """Return an error's first line, without the address of the stream that was decoded."""
    if isinstance(error, Image.UnidentifiedImageError):
        return "no picture"
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _look_at_mask(path: Path, name: str, size: tuple[int, int]) -> list[tuple[str, str]]:
    """Return what is wrong with the mask of a picture of this size."""
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


def _look_at_annotation(path: Path, name: str) -> tuple[list[tuple[str, str]], tuple[tuple[str, str], ...]]:
    """Return what is wrong with an annotation, and the names in it."""
    try:
        note = json.loads(path.read_bytes())
    except FileNotFoundError:
        return [("missing_annotation", name)], ()
    except (OSError, ValueError) as error:
        return [("bad_annotation", f"{name}: {_reason(error)}")], ()
    if not isinstance(note, dict):
        return [("bad_annotation", f"{name}: no JSON object")], ()
    return [], attributes_of(note)


def attributes_of(note: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return (attribute, name) pairs of an annotation; numbers are looked up as strings, as EmoSet's index has them."""
    pairs = []
    for kind in ("emotion", "brightness", "colorfulness", "scene", "object", "facial_expression", "human_action"):
        value = note.get(kind)
        for single in value if isinstance(value, list) else [value]:
            if single not in (None, ""):
                pairs.append((kind, str(single)))
    return tuple(pairs)


def look_at_all(root: Path, tasks: Sequence[Task], workers: int | None = None) -> Iterator[Facts]:
    """Yield the facts of each task, in their order, decoded by as many processes.

    Args:
        root: folder that paths are relative to.
        tasks: images.
        workers: processes; None takes one for each core that this process may use.

    Raises:
        UniEmoError: a process was killed, as the system does when memory runs out.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers or cores, -(-len(tasks) // _CHUNK))
    look = partial(look_at, root)
    if count <= 1:
        yield from map(look, tasks)
        return
    # Fork where there is one, as loaders do: else each process would import torch, for nothing.
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    pool = ProcessPoolExecutor(count, mp_context=multiprocessing.get_context(method))
    try:
        yield from pool.map(look, tasks, chunksize=_CHUNK)
    except BrokenProcessPool as error:
        raise UniEmoError(
            f"data check lost one of its {count} processes, perhaps for want of memory: try --workers 1"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
