"""The names ``miniature:clip``, ``miniature:diffusion`` and ``miniature:emoset`` in place of paths."""

from __future__ import annotations

from pathlib import Path

from uniemo import cache
from uniemo.errors import UniEmoError

MINIATURE = "miniature:"
_HERE = Path(__file__).parent
_PAINTER = ("objects", "painter", "pen", "scenes", "synthesis", "table")  # files that decide the pixels


def miniature_tree() -> Path:
    """Return the painted EmoSet tree in the cache, painting it first when it is not there.

    Its name contains a digest of the painter, so that another version of it never meets an old tree.
    """
    painter = [(_HERE / f"{name}.py").read_bytes() for name in _PAINTER]
    return cache.get("miniature", f"emoset-{cache.digest(*painter)}", _paint)


def _paint(folder: Path) -> None:
    from uniemo.miniature.synthesis import synthesize_emoset  # imports SciPy

    synthesize_emoset(folder)


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
    name = path.removeprefix(MINIATURE)
    if name in ("clip", "diffusion"):
        return _HERE / "weights" / name
    if name == "emoset":
        return miniature_tree()
    raise UniEmoError(
        f"a miniature: path must be miniature:clip, miniature:diffusion or miniature:emoset; got {path!r}"
    )
