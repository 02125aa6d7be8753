"""The names ``miniature:clip``, ``miniature:diffusion`` and ``miniature:emoset`` in place of paths.

``miniature:emoset?train=500&seed=3&difficulty=0.3`` paints another one of that size, seed and difficulty.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from uniemo import cache
from uniemo.errors import UniEmoError

MINIATURE = "miniature:"
_HERE = Path(__file__).parent
_PAINTER = ("clutter", "objects", "painter", "pen", "scenes", "styles", "synthesis", "table")  # they decide the pixels
_OPTIONS: dict[str, type] = {name: int for name in ("train", "val", "test", "seed", "size")} | {"difficulty": float}


def miniature_tree(options: str = "") -> Path:
    """Return the painted EmoSet tree in the cache, painting it first when it is not there.

    Its name contains a digest of the painter, so that another version of it never meets an old tree.

    Args:
        options: of :func:`~uniemo.miniature.synthesis.synthesize_emoset`, as in ``train=500&seed=3``.

    Raises:
        UniEmoError: an unknown option, or one that is no number in its range.
    """
    painter = [(_HERE / f"{name}.py").read_bytes() for name in _PAINTER]
    try:
        chosen = {name: _OPTIONS[name](value) for name, value in parse_qsl(options, strict_parsing=bool(options))}
    except (KeyError, ValueError):
        raise UniEmoError(
            f"options of miniature:emoset must be {', '.join(_OPTIONS)} with numbers, as in "
            f"miniature:emoset?train=500&seed=3; got {options!r}"
        ) from None
    key = cache.digest(*painter, *(f"{name}={value}".encode() for name, value in sorted(chosen.items())))
    return cache.get("miniature", f"emoset-{key}", partial(_paint, chosen))


def _paint(options: dict[str, Any], folder: Path) -> None:
    from uniemo.miniature.synthesis import synthesize_emoset  # imports SciPy

    synthesize_emoset(folder, **options)


def existing_folder(path: str, option: str) -> Path:
    """Return :func:`resolve` of a dataset's folder.

    Raises:
        UniEmoError: there is no such folder, or nothing in it; ``option`` is named.
    """
    folder = resolve(path)
    if not folder.is_dir():
        raise UniEmoError(f"{option} must be an existing folder; got {path}: correct the path")
    if next(folder.iterdir(), None) is None:
        raise UniEmoError(f"{option} must hold a dataset; {path} is empty: correct the path")
    return folder


def resolve(path: str) -> Path:
    """Turn a path from a configuration into a path on disk.

    Args:
        path: ``miniature:clip`` and ``miniature:diffusion`` name the packaged weights, ``miniature:emoset`` the painted
            dataset (made in the cache at first use); anything else is an ordinary path, ``~`` allowed.

    Raises:
        UniEmoError: an unknown ``miniature:`` name.
    """
    if not path.startswith(MINIATURE):
        return Path(path).expanduser()
    name, _, options = path.removeprefix(MINIATURE).partition("?")
    if name in ("clip", "diffusion"):
        return _HERE / "weights" / name
    if name == "emoset":
        return miniature_tree(options)
    raise UniEmoError(
        f"a miniature: path must be miniature:clip, miniature:diffusion or miniature:emoset; got {path!r}"
    )
