"""Where things lie: packaged miniature, cache folder, atomic writes."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from uniemo.errors import UniEmoError

MINIATURE = "miniature:"
_WEIGHTS = Path(__file__).parent / "miniature" / "weights"
CONFIGURATIONS = Path(__file__).parent / "configs"


def packaged_configurations() -> list[str]:
    """Return the names of the configurations that the package ships, relative to their folder, sorted."""
    return sorted(path.relative_to(CONFIGURATIONS).as_posix() for path in CONFIGURATIONS.rglob("*.yaml"))


def find_configuration(name: str) -> Path | None:
    """Return the file that a configuration's name means: in the working directory, else packaged; None for neither."""
    for path in (Path(name).expanduser(), CONFIGURATIONS / name):
        if path.is_file():
            return path
    return None


def cache_dir() -> Path:
    """Return the folder for things that can be made again (``UNIEMO_CACHE``, else ``~/.cache/uniemo``)."""
    root = Path(os.environ.get("UNIEMO_CACHE") or Path.home() / ".cache" / "uniemo")
    root.mkdir(parents=True, exist_ok=True)
    return root


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it over ``path`` when the block ends without an error.

    The block may create a file or a folder there. After an error or Ctrl-C nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent)) / path.name
    try:
        yield temporary
        if temporary.is_dir() and path.is_dir():
            path.rmdir()  # only an empty folder may be replaced by a folder
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary.parent, ignore_errors=True)


def miniature_tree() -> Path:
    """Return the painted EmoSet tree in the cache, painting it first when it is not there.

    The folder's name carries a fingerprint of the painter, so that another version of it never meets an old tree.
    """
    from filelock import FileLock

    from uniemo.miniature.dataset import synthesize_emoset

    painter = Path(__file__).parent / "miniature"
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in sorted(painter.glob("*.py")))).hexdigest()[:10]
    root = cache_dir() / f"miniature-emoset-{digest}"
    with FileLock(f"{root}.lock"):
        if not (root / "info.json").is_file():
            synthesize_emoset(root)
    return root


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
        return _WEIGHTS / name
    if name == "emoset":
        return miniature_tree()
    raise UniEmoError(
        f"a miniature: path must be miniature:clip, miniature:diffusion or miniature:emoset; got {path!r}"
    )
