"""What a dataset's files say before any image is opened: which images, which emotion, which split.

Each dataset's file describes the trees that people have of it as :class:`Layout` values; :func:`find_layout` recognises
the one at hand and :attr:`Layout.read` turns it into a :class:`Listing`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NoReturn

from uniemo.errors import UniEmoError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class Item:
    """One image as the dataset's files name it.

    Attributes:
        image: path relative to the listing's root, ``/`` between folders.
        emotion: name in lower case.
        split: where the tree puts it; None where the tree gives no split.
        annotation: path of its attributes, relative to the root; None where the dataset has none.
        mask: path of its grey-scale map, relative to the root; None where it has none.
    """

    image: str
    emotion: str
    split: Split | None = None
    annotation: str | None = None
    mask: str | None = None


@dataclass(frozen=True)
class Listing:
    """All images of a tree.

    Attributes:
        layout: name of the layout that was recognised.
        root: folder that the items' paths are relative to; at or below the folder that the user gave.
        emotions: the label space, in class index order.
        items: one for each image that is there.
        folds: for each given cross-validation fold the images (``Item.image``) it tests on; empty where none are given.
        absent: images that a list names and the disk lacks.
        unknown: (image, label as spelled) of labels outside the label space; such images are not in ``items``.
        notes: further findings in plain words, for reports.
    """

    layout: str
    root: Path
    emotions: tuple[str, ...]
    items: list[Item]
    folds: tuple[frozenset[str], ...] = ()
    absent: tuple[str, ...] = ()
    unknown: tuple[tuple[str, str], ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def given_splits(self) -> tuple[Split, ...]:
        """The splits that the tree itself names."""
        named = {item.split for item in self.items}
        return tuple(split for split in SPLITS if split in named)


@dataclass(frozen=True)
class Layout:
    """One way in which a dataset lies on disk.

    Attributes:
        name: short, as for ``--data.layout``.
        dataset: name of the data module's class, for example ``FI``.
        tree: the expected tree in a few lines, as errors show it.
        matches: whether a folder holds this layout; looks at a handful of names, never walks the tree.
        read: lists the tree's images; the keyword arguments are the dataset's own.
        options: names of those keyword arguments.
    """

    name: str
    dataset: str
    tree: str
    matches: Callable[[Path], bool]
    read: Callable[..., Listing]
    options: tuple[str, ...] = field(default=())


def find_layout(root: Path, layouts: Sequence[Layout], forced: str | None = None) -> tuple[Layout, Path]:
    """Recognise the layout of a tree.

    An archive often unpacks into a folder of its own: where ``root`` itself matches nothing and holds exactly one
    folder (hidden ones and files aside), that folder is looked at too, at most two levels down.

    Args:
        root: folder that the user gave.
        layouts: the known ones, the most telling first.
        forced: name of the layout to take, whatever the tree looks like.

    Returns:
        The layout and the folder that has it.

    Raises:
        UniEmoError: nothing matches (the message shows the expected trees and what is there), or no such layout.
    """
    if forced is not None:
        layouts = [layout for layout in layouts if layout.name == forced] or _no_such_layout(forced, layouts)
    folder: Path | None = root
    for _ in range(3):
        if folder is None:
            break
        for layout in layouts:
            if layout.matches(folder):
                return layout, folder
        folder = _only_folder(folder)
    if forced is not None:
        return layouts[0], root  # its reader says what is missing
    expected = "; or ".join(f"{layout.dataset}/{layout.name}: {' '.join(layout.tree.split())}" for layout in layouts)
    raise UniEmoError(
        f"data.root must hold one of the known trees; {root} holds {describe(root)}; expected is {expected}: "
        "correct --data.root, or force one with --data.layout"
    )


def _no_such_layout(name: str, layouts: Sequence[Layout]) -> NoReturn:
    raise UniEmoError(f"data.layout must be one of {', '.join(layout.name for layout in layouts)}; got {name!r}")


def _only_folder(folder: Path) -> Path | None:
    """Return the one visible folder in ``folder``, or None where there are several or none."""
    inner = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]
    return inner[0] if len(inner) == 1 else None


def describe(folder: Path, limit: int = 12) -> str:
    """Return what a folder holds in a line: its first names, folders with a slash, and how many there are."""
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in folder.iterdir())
    if not names:
        return "nothing"
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
