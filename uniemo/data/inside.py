"""Lists stay inside their folder: what they name must not lie elsewhere, unless the user says that it may."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from uniemo.errors import UniEmoError


class Inside:
    """The places inside a folder, links followed; each folder of a path is looked up once, a file only if it is a link.

    Args:
        root: the folder; may be a link itself.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = os.path.realpath(root)
        self._folders: dict[str, bool] = {}

    def __contains__(self, path: str) -> bool:
        """Whether a path, absolute or relative to the root, leads to a place inside it."""
        return self.holds(path, os.path.islink(os.path.join(self.root, path)))

    def holds(self, path: str, is_link: bool) -> bool:
        """Return the same for a path of which is known whether it is a link itself."""
        folder, name = os.path.split(path)
        if is_link or name == "..":
            return self._leads_inside(path)
        if folder not in self._folders:
            self._folders[folder] = self._leads_inside(folder)
        return self._folders[folder]

    def _leads_inside(self, path: str) -> bool:
        try:
            place = os.path.realpath(os.path.join(self.root, path))
        except ValueError:  # a null character
            return False
        return place == self.root or place.startswith(os.path.join(self.root, ""))


def check_inside(root: Path, paths: Sequence[str], what: str) -> None:
    """Raise UniEmoError where a list leads out of its folder; ``what`` its paths are, for the error."""
    inside = Inside(root)
    refuse_outside(root, [path for path in paths if path not in inside], what)


def refuse_outside(root: Path, outside: Sequence[str], what: str) -> None:
    """Raise UniEmoError where paths lead out of a folder."""
    if outside:
        raise UniEmoError(
            f"{what} must lie inside {root}; {len(outside):,} lead out of it by a link, by .. or by an absolute path, "
            f"first {outside[0]}: if they may, add --data.follow_links true (commands without --data: --follow_links)"
        )
