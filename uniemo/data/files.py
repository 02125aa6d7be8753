"""Looking for the files of a tree, whatever the spelling of a list or of the disk; the rule of what is a picture."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

DEPTH = 8  # folders inside each other that are looked into
# What Pillow knows by name but has no decoder for, and PostScript, which it would give to another program.
_UNDECODED = frozenset({"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"})
# What systems and network disks put beside people's files; names that begin with a dot are hidden too.
_SYSTEM = frozenset(
    (
        *("__macosx", "@eadir", "#recycle", "$recycle.bin", "system volume information", "lost+found"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini"),
    )
)
_ARCHIVES = frozenset((".zip", ".tar", ".gz", ".tgz", ".7z", ".rar"))


def fold(name: str) -> str:
    """Return a name without its letter case and, for accents, without the choice between one character and two."""
    return unicodedata.normalize("NFC", name).casefold()


@cache
def picture_suffixes() -> frozenset[str]:
    """Return the suffixes of all that this Pillow decodes, in lower case; HEIC where ``pillow-heif`` is installed."""
    from PIL import Image

    register_heic()
    known = Image.registered_extensions().items()
    return frozenset(suffix for suffix, name in known if name in Image.OPEN and name not in _UNDECODED)


@cache
def register_heic() -> None:
    """Let Pillow open HEIC where ``pillow-heif`` is installed."""
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden ("._x.jpg" is what macOS leaves in archives), or of a system's own."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_image(name: str) -> bool:
    """Whether a file name ends like an image's and is not hidden."""
    return os.path.splitext(name)[1].lower() in picture_suffixes() and not is_hidden(name)


def visible(folder: Path) -> list[str]:
    """Return the names in a folder, sorted, without hidden ones; none where there is no folder."""
    try:
        return sorted(name for name in os.listdir(folder) if not is_hidden(name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def child(folder: Path | None, *names: str) -> Path | None:
    """Return the first entry of ``folder`` with one of the names, whatever their case; None where it has none."""
    if folder is None:
        return None
    there = {fold(name): name for name in visible(folder)}
    return next((folder / there[fold(name)] for name in names if fold(name) in there), None)


def entry(folder: Path, name: str) -> Path:
    """Return the entry of a folder with a name, whatever its case; where it has none, the place where it is missing."""
    return child(folder, name) or folder / name


def has_parquet(root: Path) -> bool:
    """Whether a folder holds a parquet export of a Hugging Face dataset."""
    patterns = ("*.parquet", "data/*.parquet", "*/train/*.parquet")
    return any(not is_hidden(path.name) for pattern in patterns for path in root.glob(pattern))


def is_saved_dataset(root: Path) -> bool:
    """Whether a folder is what ``save_to_disk`` of a Hugging Face dataset wrote."""
    return (root / "dataset_dict.json").is_file() or (root / "state.json").is_file()


def image_folder(root: Path) -> str:
    """Return the name of the folder ``images``, whatever its case; "" where the images lie in the root itself."""
    found = child(root, "images", "image")
    return found.name if found is not None and found.is_dir() else ""


def subfolders(folder: Path | None) -> list[str]:
    """Return the names of the folders in ``folder``; none for None."""
    return [] if folder is None else [name for name in visible(folder) if (folder / name).is_dir()]


def images_below(root: Path, folder: str, depth: int = DEPTH, passed: Counter[str] | None = None) -> list[str]:
    """Return the images in a folder and in those inside it, sorted, relative to the root ("" is the root itself).

    A link to a folder is followed once, so that circles end; whether it may lead out of the root is for the caller
    (:mod:`uniemo.data.inside`).

    Args:
        root: folder that the paths are relative to.
        folder: where to look.
        depth: levels of folders.
        passed: counts what is passed over, by kind, for :func:`passed_over`.
    """
    passed = Counter() if passed is None else passed
    seen = {_identity(root), _identity(root / folder)}

    def walk(folder: str, depth: int) -> list[str]:
        found: list[str] = []
        with os.scandir(root / folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                path = f"{folder}/{entry.name}" if folder else entry.name
                if is_hidden(entry.name):
                    passed["hidden"] += 1
                elif not entry.is_dir():
                    if is_image(entry.name):
                        found.append(path)
                    else:
                        passed[os.path.splitext(entry.name)[1].lower() or "without suffix"] += 1
                elif depth > 1 and (identity := _identity(root / path)) not in seen:
                    seen.add(identity)
                    found += walk(path, depth - 1)
        return found

    return walk(folder, depth)


def _identity(folder: Path) -> tuple[int, int]:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def passed_over(passed: Counter[str]) -> list[str]:
    """Return a line about the files that are no pictures, or nothing where there are none."""
    if not passed:
        return []
    kinds = [f"{count:,} {kind}" for kind, count in sorted(passed.items(), key=lambda one: (-one[1], one[0]))]
    more = [f"{len(kinds) - 5} more kinds"] if len(kinds) > 5 else []
    archives = " (archives are not unpacked)" if _ARCHIVES & set(passed) else ""
    return [f"no pictures, passed over: {', '.join(kinds[:5] + more)}{archives}"]


def path_parts(listed: str) -> list[str]:
    r"""Return the parts of a path from a list: ``C:\data\.\awe\1.jpg`` gives data, awe, 1.jpg."""
    parts = [part for part in listed.strip().replace("\\", "/").split("/") if part not in ("", ".")]
    if ".." in parts:
        parts = parts[len(parts) - parts[::-1].index("..") :]
    return parts[1:] if parts and re.fullmatch(r"[A-Za-z]:", parts[0]) else parts


class FileFinder:
    """Finds the files of a tree whatever their letter case; each folder is listed once.

    Args:
        root: folder that all paths are relative to.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._folders: dict[str, tuple[dict[str, str], dict[str, str]]] = {}

    def _names(self, folder: str) -> tuple[dict[str, str], dict[str, str]]:
        """Return {folded name: name} and {folded stem: name} of a folder; two names that fold alike stand for none."""
        if folder not in self._folders:
            by_name: dict[str, str] = {}
            by_stem: dict[str, str] = {}
            twice: set[str] = set()
            try:
                names = sorted(os.listdir(self.root / folder))
            except OSError:
                names = []
            for name in names:
                key = fold(name)
                if key in by_name:
                    twice.add(key)
                by_name[key] = name
                if is_image(name):
                    by_stem.setdefault(os.path.splitext(key)[0], name)
            by_name = {key: name for key, name in by_name.items() if key not in twice}
            by_name.update({f"/{name}": name for name in names})  # exact names, which "/" keeps apart
            self._folders[folder] = by_name, by_stem
        return self._folders[folder]

    def find(self, path: str, any_suffix: bool = False) -> str | None:
        """Return the path as the disk spells it, or None.

        Args:
            path: relative to the root, ``/`` between folders; letter case and accents' form may differ.
            any_suffix: an image of the same stem will do too.
        """
        found = ""
        parts = path.split("/")
        for depth, part in enumerate(parts):
            by_name, by_stem = self._names(found)
            name = by_name.get(f"/{part}") or by_name.get(fold(part))
            if name is None and depth == len(parts) - 1 and (any_suffix or not is_image(part)):
                key = fold(part)
                name = by_stem.get(os.path.splitext(key)[0] if is_image(part) else key)
            if name is None:
                return None
            found = f"{found}/{name}" if found else name
        return found

    def locate(self, listed: str, bases: Sequence[str], also: Iterable[str] = ()) -> str | None:
        """Return the file that a list means, as the disk spells it, or None.

        The list may have been written on Windows or on somebody's own machine, and may or may not name the class's
        folder: the whole path is looked for in each base folder and its ``also`` folders, then the path without its
        first part, and so on down to the bare name.

        Args:
            listed: as in the list.
            bases: folders relative to the root, the likeliest first; "" is the root.
            also: names of folders in the bases, for example that of the class.
        """
        parts = path_parts(listed)
        for start in range(len(parts)):
            tail = "/".join(parts[start:])
            for base in bases:
                for inner in ("", *also):
                    found = self.find("/".join(part for part in (base, inner, tail) if part))
                    if found is not None:
                        return found
        return None
