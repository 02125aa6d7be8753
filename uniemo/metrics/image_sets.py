"""Which images are evaluated and which emotion each stands for: class folders, datasets, indexes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, get_args

from uniemo.data.files import images_below, passed_over, subfolders
from uniemo.data.generated import INDEX_NAMES, intended_emotion, read_index
from uniemo.data.inside import check_inside
from uniemo.data.layout import describe_folder, find_layout, layouts_of, read_manifest
from uniemo.data.manifest import SPLITS, Layout
from uniemo.data.splits import assign
from uniemo.errors import UniEmoError
from uniemo.miniature.paths import resolve
from uniemo.taxonomy import TAXONOMIES

Part = Literal["train", "val", "test", "all"]
PARTS: tuple[Part, ...] = get_args(Part)

_CLASS_FOLDERS = ("fi-zip", "emotionroi-folders")  # layouts that are nothing but a folder for each emotion
_EMOTIONS = {name for names in TAXONOMIES.values() for name in names}


@dataclass(frozen=True)
class ImageSet:
    """Images with their emotions; nothing has been opened yet.

    Attributes:
        source: as the user named it.
        root: folder that the names are relative to.
        names: of the images, ``/`` between folders, each once, sorted.
        emotions: name of each image's emotion.
        layout: ``folders``, ``index`` or the dataset's layout.
        dataset: name of its data module's class; None where it is no known dataset.
        split: which part of a dataset; ``all`` elsewhere.
        classes: the dataset's emotions in class order; empty elsewhere.
        ignored: files in the folders that are no pictures, hidden ones included.
        follow_links: whether a dataset's files may lie elsewhere.
        notes: what a reader of the result should know.
        sampler: how features were sampled for generated images, as their index says; empty where it does not.
        prompts: of generated images by name, where their index says.
    """

    source: str
    root: Path
    names: tuple[str, ...]
    emotions: tuple[str, ...]
    layout: str
    dataset: str | None = None
    split: str = "all"
    classes: tuple[str, ...] = ()
    ignored: int = 0
    follow_links: bool = False
    notes: tuple[str, ...] = ()
    sampler: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def files(self, names: Sequence[str] | None = None) -> list[Path]:
        """Return the paths of images; None takes all."""
        return [self.root / name for name in (self.names if names is None else names)]

    def by_emotion(self) -> dict[str, list[str]]:
        """Return the names by emotion."""
        parts: dict[str, list[str]] = {}
        for name, emotion in zip(self.names, self.emotions, strict=True):
            parts.setdefault(emotion, []).append(name)
        return parts

    def counts(self) -> dict[str, int]:
        """Return the number of images of each emotion."""
        return dict(Counter(self.emotions))

    def only(self, emotions: Sequence[str]) -> ImageSet:
        """Return the images of some emotions."""
        kept = {name: one for name, one in zip(self.names, self.emotions, strict=True) if one in emotions}
        return replace(self, names=tuple(kept), emotions=tuple(kept.values()))


def read_images(
    path: str | Path,
    split: Part | None = None,
    option: str = "--generated",
    training: bool = False,
    follow_links: bool = False,
) -> ImageSet:
    """List the images that a path stands for.

    Args:
        path: a folder with a folder for each emotion (whatever its letter case), a dataset that uniemo knows, an index
            of ``uniemo generate`` or ``uniemo filter``, the folder that holds it, or ``miniature:emoset``.
        split: of a dataset; None takes its own test split, and all images where the tree names no splits. A split that
            the tree lacks is cut as training cuts it (seed 0).
        option: named in errors.
        training: without a split, take the training split, of a dataset whose tree names none as training cuts it.
        follow_links: allow images that lie outside of the folder.
    """
    source, root = str(path), resolve(str(path))
    if not root.exists():
        raise UniEmoError(f"{option} must be a folder of images or an index; {root} does not exist: correct the path")
    if not (root.is_file() or root.is_dir()):
        raise UniEmoError(
            f"{option} must be a folder of images or an index; {root} is a pipe or a device: give another"
        )
    if root.is_file() or any((root / name).is_file() for name in INDEX_NAMES):
        if root.is_file() and root.suffix.lower() != ".jsonl":
            raise UniEmoError(
                f"{option} must be a folder of images or a .jsonl index; {root} is neither: give the folder"
            )
        found = _read_index(source, root, option, follow_links)
    else:
        layout, folder = _layout(root)
        classes = {name: name.casefold() for name in subfolders(root) if name.casefold() in _EMOTIONS}
        plain = classes and layout is not None and layout.name in _CLASS_FOLDERS and split in (None, "all")
        if layout is None or plain:
            found = _read_classes(source, root, classes)
            if not follow_links:
                check_inside(root, found.names, f"the images of {option}")
            if split not in (None, "all"):
                raise UniEmoError(f"--split must be all for class folders without splits; got {split}: leave it out")
        else:
            part: Part | None = split or ("train" if training else None)
            found = _read_dataset(source, layout, folder, part, option, follow_links)
    if not found.names:
        raise UniEmoError(
            f"{option} must hold images in folders named after emotions ({', '.join(TAXONOMIES['mikels8'])}, …), a "
            f"dataset or an index.jsonl; {root} holds {describe_folder(root)}: give another folder"
        )
    return found


def label_space(*sets: ImageSet, preferred: Sequence[str] = ()) -> tuple[str, ...]:
    """Return the class names, in class order, that hold all emotions of the sets.

    Args:
        sets: the images.
        preferred: class names, for example of the classifier's training data; taken where they hold all.
    """
    present = {emotion for images in sets for emotion in images.emotions}
    for names in (tuple(preferred), *TAXONOMIES.values()):
        if present <= set(names):
            return names
    raise UniEmoError(
        f"emotions must be of one label space ({'; '.join(', '.join(names) for names in TAXONOMIES.values())}); got "
        f"{', '.join(sorted(present))}: evaluate folders of the same emotions"
    )


def _image_set(source: str, root: Path, emotion_of: dict[str, str], layout: str, **more: object) -> ImageSet:
    """Return an image set, sorted by name."""
    names = tuple(sorted(emotion_of))
    return ImageSet(source, root, names, tuple(emotion_of[name] for name in names), layout, **more)  # type: ignore[arg-type]


def _layout(root: Path) -> tuple[Layout | None, Path]:
    """Return the dataset layout of a tree and its folder; None where it is no known dataset."""
    try:
        return find_layout(root, layouts_of(None))
    except UniEmoError:
        return None, root


def _read_index(source: str, root: Path, option: str, follow_links: bool) -> ImageSet:
    """Read an index of generated images; a mixture counts for the emotion with the largest weight."""
    rows = read_index(root, follow_links)
    base = root.parent if root.is_file() else root
    found: dict[str, str] = {}
    for row in rows:
        if row["file"] in found:
            raise UniEmoError(f"{option} must list an image once; {source} lists {row['file']} twice: mend the index")
        found[row["file"]] = intended_emotion(row).strip().casefold()
    missing = [name for name in found if not (base / name).is_file()]
    if missing:
        raise UniEmoError(
            f"{option} must list existing images; {len(missing)} of {len(found)} in {source} are missing, first "
            f"{missing[0]}: generate again"
        )
    mixed = sum(len([weight for weight in (row.get("weights") or {}).values() if weight]) > 1 for row in rows)
    notes = (f"{mixed} images of {source} are mixtures and count for their strongest emotion",) if mixed else ()
    sampler = ", ".join(sorted({str(row["space"]) for row in rows if row.get("space")}))
    prompts = {row["file"]: row["prompt"] for row in rows if isinstance(row.get("prompt"), str)}
    return _image_set(source, base, found, "index", notes=notes, sampler=sampler, prompts=prompts)


def _read_classes(source: str, root: Path, classes: dict[str, str]) -> ImageSet:
    """Read a folder for each emotion, folders inside it included; hidden files do not count."""
    passed: Counter[str] = Counter()
    found = {name: emotion for folder, emotion in classes.items() for name in images_below(root, folder, passed=passed)}
    other = [name for name in subfolders(root) if name not in classes]
    notes = [f"{source}: {line}" for line in passed_over(passed)]
    if other and found:
        notes.append(f"{source}: folders that name no emotion are left out: {', '.join(other)}")
    return _image_set(source, root, found, "folders", ignored=passed.total(), notes=tuple(notes))


def _read_dataset(
    source: str, layout: Layout, folder: Path, split: Part | None, option: str, follow_links: bool
) -> ImageSet:
    """Read a split of a dataset."""
    manifest = read_manifest(folder, [layout], layout.name, follow_links)
    info = manifest.info
    absent = [problem for problem in info.problems if problem.label is None and problem.annotation is None]
    unknown = [problem for problem in info.problems if problem.label is not None]
    if absent:
        raise UniEmoError(
            f"{option} must be whole; {len(absent)} images that {source} lists are missing, first "
            f"{manifest.root / absent[0].image}: restore them"
        )
    given = manifest.given_splits
    part: Part = split or ("test" if "test" in given else "all")
    notes = [f"{source}: {note}" for note in info.notes]
    if unknown:
        notes.append(f"{source}: {len(unknown)} images have no known label, first {unknown[0].image}")
    if part == "all":
        if split is None:
            notes.append(
                f"{source}: all images, since the tree names no splits; --split test takes what training spares"
            )
        chosen = manifest
    elif part in given:
        chosen = manifest.take((manifest.split == SPLITS.index(part)).nonzero()[0])
    else:
        chosen = manifest.take(assign(manifest).rows(part))
        notes.append(f"{source}: {part} split as training cuts it, seed 0")
    found = dict(zip(chosen.names(), chosen.emotions(), strict=True))
    for problem in info.problems:  # an image whose annotation alone is at fault
        if problem.emotion is not None and part in ("all", problem.split):
            found[problem.image] = problem.emotion
    return _image_set(
        source,
        manifest.root,
        found,
        layout.name,
        dataset=layout.dataset,
        split=part,
        classes=manifest.vocabulary.emotions,
        follow_links=follow_links,
        notes=tuple(notes),
    )
