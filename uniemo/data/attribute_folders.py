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

from uniemo.cache import atomic_write, check_new_folder
from uniemo.data.duplicates import map_files
from uniemo.data.emoset import read_annotation
from uniemo.data.layout import layouts_of, read_manifest
from uniemo.data.manifest import Manifest
from uniemo.errors import UniEmoError
from uniemo.progress_bars import progress_bar
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


def _folders(names: Sequence[Sequence[str]]) -> dict[str, list[int]]:
    """Return {folder name: rows of images}, the rarest attribute first.

    Spellings that differ in case, blanks or underscores are one name; the most frequent of them is taken.
    """
    rows: dict[str, list[int]] = {}
    spellings: dict[str, Counter[str]] = {}
    for row, given in enumerate(names):
        safe = [_UNSAFE.sub("_", name).strip().rstrip(".") for name in given]
        for key, name in {attribute_text(name): name for name in safe}.items():
            if key:
                rows.setdefault(key, []).append(row)
                spellings.setdefault(key, Counter())[name] += 1
    folders = {}
    for key in sorted(rows, key=lambda key: (len(rows[key]), key)):
        name = min(spellings[key], key=lambda name: (-spellings[key][name], name))
        folders[f"({len(rows[key])}){name}"] = rows[key]
    return folders


def build_attribute_folders(
    root: str | Path,
    out: str | Path,
    kinds: Sequence[Kind] = KINDS,
    copy: bool = False,
    follow_links: bool = False,
) -> AttributeFolders:
    """Build the folders; they are complete or absent.

    Args:
        root: EmoSet's tree.
        out: new or empty folder.
        kinds: of attributes.
        copy: copy the images; otherwise relative links lead to them, which break when either tree moves alone.
        follow_links: allow lists and links that lead out of ``root``.

    Raises:
        UniEmoError: ``root`` is no EmoSet tree with annotations, an annotation cannot be used, ``out`` has anything
            in it, or links are wanted where the system refuses them or of an export without image files.
    """
    out = Path(out).expanduser().resolve()
    check_new_folder(out, "out")
    root = Path(root).expanduser()
    manifest = read_manifest(root, layouts_of("EmoSet"), follow_links=follow_links)
    if not copy and not manifest.root.resolve().is_relative_to(root.resolve()):
        raise UniEmoError(
            f"links must lead to image files in root; those of {root} ({manifest.info.layout}) were unpacked to the "
            "cache, which may be emptied: take copies, with --copy"
        )
    unannotated = 0
    for problem in manifest.info.problems:
        if "annotation cannot be used" in problem.reason:
            raise UniEmoError(f"annotations must be JSON objects; that of {problem.image} is not: restore it")
        unannotated += problem.reason == "its annotation does not exist"
    if not len(manifest):
        raise UniEmoError(
            f"root must be EmoSet's tree with its annotations; {root} ({manifest.info.layout}) has none: "
            "give the folder with image/ and annotation/"
        )
    scenes, objects = _names(manifest)
    folders = {kind: _folders(objects if kind == "object" else scenes) for kind in kinds}
    total = sum(len(rows) for kind in kinds for rows in folders[kind].values())
    with atomic_write(out) as partial, progress_bar(desc="writing", unit="image", total=total) as bar:
        for kind in kinds:
            (partial / kind).mkdir(parents=True)
            for folder, rows in folders[kind].items():
                _fill(partial / kind / folder, out / kind / folder, manifest, rows, copy)
                bar.update(len(rows))
    counts = {kind: {folder: len(rows) for folder, rows in folders[kind].items()} for kind in kinds}
    return AttributeFolders(counts, unannotated)


def _names(manifest: Manifest) -> tuple[list[tuple[str, ...]], list[tuple[str, ...]]]:
    """Return the scene and the object names of each image: as its annotation spells them, where it has one."""
    annotations = manifest.column("annotation").to_pylist()
    known = manifest.vocabulary
    scenes: list[tuple[str, ...]] = [(known.scenes[index],) if index >= 0 else () for index in manifest.scene.tolist()]
    rows = range(len(manifest))
    objects: list[tuple[str, ...]] = [tuple(known.objects[index] for index in manifest.objects(row)) for row in rows]
    if None not in annotations:
        paths = [os.path.join(manifest.root, os.fsdecode(annotation)) for annotation in annotations]
        for row, note in enumerate(map_files(read_annotation, paths, "reading annotations")):
            if not isinstance(note, str):
                scenes[row], objects[row] = () if note[0] is None else (note[0],), note[1]
    return scenes, objects


def _fill(folder: Path, final: Path, manifest: Manifest, rows: Sequence[int], copy: bool) -> None:
    """Link or copy images into a folder; ``final`` is where it will lie, which is what relative links start from."""
    folder.mkdir()
    root = manifest.root.resolve()
    for row in rows:
        image, emotion = manifest.name(row), manifest.vocabulary.emotions[manifest.emotion[row]]
        name = PurePosixPath(image).name
        if not name.lower().startswith(f"{emotion}_"):
            name = f"{emotion}_{name}"  # EmoGen reads the emotion off the name
        if copy:
            shutil.copyfile(root / image, folder / name)
            continue
        try:
            (folder / name).symlink_to(os.path.relpath(root / image, final))
        except OSError as error:
            raise UniEmoError(f"links must be allowed in {final.parent}; {error}: take --copy") from error
