"""EmoGen's view of EmoSet: one folder for each scene and object, with the images that have it.

::

    out/object/(778)Sculpture/<emotion>_<id>.jpg
    out/scene/(12)bakery_shop/<emotion>_<id>.jpg

The number counts the attribute's images over all splits. EmoGen's scripts take the name behind the last ``)``, in lower
case and with underscores for blanks, so none follows it. A slash in a name becomes an underscore: as a folder separator
it would shorten "bakery/shop" to "shop", as it does in EmoGen's own tables.
"""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from tqdm import tqdm

from uniemo.cache import atomic_write
from uniemo.data.catalog import read_listing
from uniemo.data.emoset_files import parse_attributes
from uniemo.data.listing import Item
from uniemo.errors import UniEmoError
from uniemo.vocabulary import attribute_text

Kind = Literal["object", "scene"]
KINDS: tuple[Kind, ...] = ("object", "scene")

_UNSAFE = re.compile(r'[\\/:*?"<>|\x00-\x1f]')  # what some file system refuses in a name


@dataclass(frozen=True)
class AttributeFolders:
    """What was built.

    Attributes:
        images: for each kind {folder name: number of images}, the rarest attribute first.
        unannotated: images whose annotation is missing.
    """

    images: dict[Kind, dict[str, int]]
    unannotated: int


class _Names:
    """The images of each name of one kind; spellings that differ in case, blanks or underscores are one name."""

    def __init__(self) -> None:
        self.images: dict[str, list[Item]] = {}
        self.spellings: dict[str, Counter[str]] = {}

    def add(self, names: Sequence[str], item: Item) -> None:
        """Enter an image under the names that its annotation gives."""
        safe = {name: _UNSAFE.sub("_", name).strip().rstrip(".") for name in names}
        keys = {attribute_text(name): name for name in safe.values()}
        for key, name in keys.items():
            if key:
                self.images.setdefault(key, []).append(item)
                self.spellings.setdefault(key, Counter())[name] += 1

    def folders(self) -> dict[str, list[Item]]:
        """Return {folder name: images}, the rarest first; of several spellings the most frequent."""
        result = {}
        for key in sorted(self.images, key=lambda key: (len(self.images[key]), key)):
            name = min(self.spellings[key], key=lambda name: (-self.spellings[key][name], name))
            result[f"({len(self.images[key])}){name}"] = self.images[key]
        return result


def build_attribute_folders(
    root: str | Path, out: str | Path, kinds: Sequence[Kind] = KINDS, copy: bool = False, progress: bool = True
) -> AttributeFolders:
    """Build the folders; they are complete or absent.

    Args:
        root: EmoSet's tree.
        out: new or empty folder.
        kinds: of attributes.
        copy: copy the images; otherwise relative links lead to them, which break when either tree moves alone.
        progress: show progress bars.

    Raises:
        UniEmoError: ``root`` is no EmoSet tree with annotations, an annotation cannot be used, ``out`` has anything
            in it, or links are wanted where the system refuses them or of an export without image files.
    """
    out = Path(out).expanduser().resolve()
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise UniEmoError(f"out must be a new or an empty folder; {out} is not: choose another or remove it")
    listing = read_listing(Path(root).expanduser(), dataset="EmoSet")
    if not copy and not listing.root.resolve().is_relative_to(Path(root).expanduser().resolve()):
        raise UniEmoError(
            f"links must lead to image files in root; those of {root} ({listing.layout}) were unpacked to the cache, "
            "which may be emptied: take copies, with --copy"
        )
    names: dict[Kind, _Names] = {kind: _Names() for kind in kinds}
    unannotated = 0
    for item in tqdm(listing.items, desc="reading annotations", unit="file", disable=not progress):
        note = _read(listing.root, item)
        if note is None:
            unannotated += 1
            continue
        for kind in kinds:
            names[kind].add(note[kind], item)
    if unannotated == len(listing.items):
        raise UniEmoError(
            f"root must be EmoSet's tree with its annotations; {root} ({listing.layout}) has none: "
            "give the folder with image/ and annotation/"
        )
    folders = {kind: names[kind].folders() for kind in kinds}
    total = sum(len(images) for kind in kinds for images in folders[kind].values())
    with atomic_write(out) as partial, tqdm(total=total, desc="writing", unit="image", disable=not progress) as bar:
        for kind in kinds:
            (partial / kind).mkdir(parents=True)
            for folder, images in folders[kind].items():
                _fill(partial / kind / folder, out / kind / folder, listing.root.resolve(), images, copy)
                bar.update(len(images))
    counts = {kind: {folder: len(images) for folder, images in folders[kind].items()} for kind in kinds}
    return AttributeFolders(counts, unannotated)


def _read(root: Path, item: Item) -> dict[Kind, tuple[str, ...]] | None:
    """Return the names in an image's annotation, None where that is missing."""
    if item.annotation is None:
        return None
    path = root / item.annotation
    try:
        given = parse_attributes(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UniEmoError(f"annotation must be a JSON object; {path} is not ({error}): restore it") from error
    return {"object": given.objects, "scene": () if given.scene is None else (given.scene,)}


def _fill(folder: Path, final: Path, root: Path, items: Sequence[Item], copy: bool) -> None:
    """Link or copy images into a folder.

    Args:
        folder: where it is written.
        final: where it will lie, which is what relative links start from.
        root: of the images.
        items: the images.
        copy: copy them.
    """
    folder.mkdir()
    for item in items:
        name = PurePosixPath(item.image).name
        if not name.lower().startswith(f"{item.emotion}_"):
            name = f"{item.emotion}_{name}"  # EmoGen reads the emotion off the name
        if copy:
            shutil.copyfile(root / item.image, folder / name)
            continue
        try:
            (folder / name).symlink_to(os.path.relpath(root / item.image, final))
        except OSError as error:
            raise UniEmoError(f"links must be allowed in {final.parent}; {error}: take --copy") from error
