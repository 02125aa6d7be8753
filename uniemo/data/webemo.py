"""WEBEmo: stock photographs in 25 emotions, which six emotions and two polarities comprise.

::

    images/**/*.jpg  category.txt       ('affection', 'love', '+'): a line for each of the 25, numbered from 0
                     train25.txt  test25.txt                       address and number

The lists give addresses: an image is found by the last part of its own, wherever it lies in ``images/``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

from uniemo.data.datamodule import EmotionDataModule
from uniemo.data.files import child, entry, fold, image_folder
from uniemo.data.lists import ImageList, Labels, read_lines, read_text
from uniemo.data.manifest import Layout, Problem, Split
from uniemo.data.rows import Rows
from uniemo.errors import UniEmoError

_CATEGORY = re.compile(r"""\(\s*['"]([\w ]+)['"]\s*,\s*['"]([\w ]+)['"]\s*,\s*['"]([+-])['"]\s*\)""")
_LEVELS = ("25", "6", "2")
_SPLITS: tuple[Split, ...] = ("train", "test")


def _labels(path: Path, classes: str) -> Labels:
    """Return the classes of a level; the numbers of the lists mean what ``category.txt`` says.

    Raises:
        UniEmoError: no such level, or no categories.
    """
    if classes not in _LEVELS:
        raise UniEmoError(f"data.classes must be one of {', '.join(_LEVELS)}; got {classes}")
    rows = _CATEGORY.findall(read_text(path))
    if len(rows) < 2:
        raise UniEmoError(f"category.txt must list ('affection', 'love', '+') and so on; {path} does not: restore it")
    words = {"+": "positive", "-": "negative"}
    names = [row[_LEVELS.index(classes)].lower() for row in rows]
    names = [words.get(name, name) for name in names]
    order = ("positive", "negative") if classes == "2" else tuple(sorted(set(names)))
    return Labels(order, {str(number): name for number, name in enumerate(names)})


def _read(root: Path, classes: str = "25") -> Rows:
    images = ImageList(root, _labels(entry(root, "category.txt"), classes))
    base = image_folder(root)
    there = {fold(path.rpartition("/")[2]): path for path in reversed(images.images_below(base))}
    for split in _SPLITS:
        for line in read_lines(entry(root, f"{split}25.txt")):
            name = line.image.rpartition("/")[2]
            path, emotion = there.get(fold(name)), images.labels.find(line.label)
            if path is None:
                listed = f"{base}/{name}".lstrip("/")
                images.problems[listed] = Problem(listed, "it does not exist", split)
            elif emotion is None:
                images.add_unknown(path, line.label, split)
            else:
                images.put(path, emotion, split)
    return images.rows()


class WEBEmo(EmotionDataModule):
    """WEBEmo; arguments as in :class:`EmotionDataModule`, and one of its own.

    Validation images come from the training list. An image that the lists give two emotions is left out.

    Args:
        root: folder of the dataset.
        classes: 25 emotions, the six above them, or positive and negative.
        options: the further arguments of :class:`EmotionDataModule`.
    """

    layouts: ClassVar[tuple[Layout, ...]] = (
        Layout(
            "webemo",
            "WEBEmo",
            "images/**/*.jpg category.txt train25.txt test25.txt",
            lambda root: child(root, "train25.txt") is not None and child(root, "category.txt") is not None,
            _read,
            ("classes",),
        ),
    )
    # Panda et al., ECCV 2018; addresses rot: copies are smaller.
    published: ClassVar[Mapping[str, Mapping[str, int]]] = {
        "train": {"all": 213952},
        "test": {"all": 53489},
        "all": {"all": 267441},
    }

    # The command line reads the options off EmotionDataModule's signature.
    def __init__(self, root: str, classes: Literal[25, 6, 2] = 25, **options: Any) -> None:  # noqa: ANN401
        super().__init__(root, **options)
        self.layout_options = {"classes": str(classes)}
