"""Generated images: the index that describes them, a dataset over it, and the mix with real images."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Dataset

from uniemo.cache import to_json, write_text
from uniemo.data.batch import EmotionSample
from uniemo.data.dataset import EmotionDataset
from uniemo.data.inside import check_inside
from uniemo.data.manifest import Info, make_manifest
from uniemo.data.transforms import PairedTransform
from uniemo.data.usable import check_files
from uniemo.errors import UniEmoError
from uniemo.text_files import parse_lines, read_utf8
from uniemo.vocabulary import Vocabulary

INDEX_NAMES: tuple[str, ...] = ("kept.jsonl", "index.jsonl")  # the filtered one first


def find_index(path: str | Path) -> Path:
    """Return the index file that ``path`` names: itself, or ``kept.jsonl`` or ``index.jsonl`` inside a folder.

    Raises:
        UniEmoError: there is no such file.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        for name in INDEX_NAMES:
            if (path / name).is_file():
                return path / name
        raise UniEmoError(
            f"generated must hold kept.jsonl or index.jsonl; {path} has neither: run uniemo generate first"
        )
    if not path.is_file():
        raise UniEmoError(
            f"generated must be an index file or its folder; {path} does not exist: run uniemo generate first"
        )
    return path


def read_index(path: str | Path, follow_links: bool = False) -> list[dict[str, Any]]:
    """Read an index of generated images (JSON Lines).

    Returns:
        One dict for each image: ``file`` (relative to the index's folder), ``emotion`` (name or None), ``weights``
        ({emotion: weight}), and what else the writer knew: seed, prompt, scores.

    Raises:
        UniEmoError: no such file, a line that is no JSON object with a ``file``, no line at all, or images elsewhere.
    """
    path = find_index(path)
    try:
        text = read_utf8(path)
    except ValueError as error:
        raise UniEmoError(f"index {path} must be JSON Lines; {error}: generate again") from error
    rows = []
    for number, row in parse_lines(text):
        if isinstance(row, ValueError):
            raise UniEmoError(f"index {path} must be JSON Lines; line {number} is not ({row}): generate again") from row
        if not isinstance(row.get("file"), str):
            raise UniEmoError(f'index {path} must name a "file" in every line; line {number} does not: generate again')
        rows.append(row)
    if not rows:
        raise UniEmoError(f"index {path} must list at least one image; it lists none: generate more or widen the band")
    if not follow_links:
        check_inside(path.parent, [row["file"] for row in rows], f"the images that {path.name} lists")
    return rows


def write_index(path: str | Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write an index as JSON Lines, whole or not at all."""
    write_text(path, "".join(map(to_json, rows)))


def intended_emotion(row: dict[str, Any]) -> str:
    """Return the emotion that an image was generated for; of a mixture the one with the largest weight.

    Raises:
        UniEmoError: the row has neither weights nor an emotion.
    """
    weights = row.get("weights")
    if weights:
        return str(max(weights, key=lambda name: weights[name]))
    if row.get("emotion"):
        return str(row["emotion"])
    raise UniEmoError(f'index must give an "emotion" or "weights" for every image; {row["file"]} has neither')


def emotion_labels(rows: Sequence[dict[str, Any]], vocabulary: Vocabulary) -> NDArray[np.int64]:
    """Return the class index (N,) of every row's intended emotion.

    Raises:
        UniEmoError: an emotion that the vocabulary does not have.
    """
    return np.array([vocabulary.emotion_index(intended_emotion(row)) for row in rows], dtype=np.int64)


def balanced_choice(emotion: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Choose ``count`` images as evenly over emotions as what exists allows.

    Args:
        emotion: (N,) class indices.
        count: how many, at most N.
        seed: of the choice.

    Returns:
        Sorted indices (count,).
    """
    rows = {int(label): np.flatnonzero(emotion == label) for label in np.unique(emotion)}
    rng = np.random.default_rng(seed)
    quota = dict.fromkeys(rows, 0)
    left = count
    while left > 0:
        open_labels = [label for label in rows if quota[label] < len(rows[label])]
        share, rest = divmod(left, len(open_labels))
        extra = set(rng.permutation(open_labels)[:rest].tolist())
        for label in open_labels:
            more = min(share + (label in extra), len(rows[label]) - quota[label])
            quota[label] += more
            left -= more
    chosen = [rng.permutation(rows[label])[: quota[label]] for label in rows]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, dtype=np.int64)


class GeneratedImageDataset(EmotionDataset):
    """Images of an index: an emotion label, no attributes.

    Args:
        index: ``.jsonl`` file or its folder.
        vocabulary: of the real data; its emotions number the labels.
        transform: as for the real images.
        seed: as for the real images.
        first_id: sample id of the first line; the others count on from there.
        follow_links: see :func:`read_index`.
        distributions: give samples one-hot distributions.

    Raises:
        UniEmoError: see :func:`read_index`; an unknown emotion; a listed image that does not exist or is broken.
    """

    def __init__(
        self,
        index: str | Path,
        vocabulary: Vocabulary,
        transform: PairedTransform,
        seed: int = 0,
        first_id: int = 0,
        follow_links: bool = False,
        distributions: bool = False,
    ) -> None:
        self.index = find_index(index)
        self.rows = read_index(self.index, follow_links)
        files = [row["file"] for row in self.rows]
        looks = check_files(self.index.parent, files, f"index {self.index}")
        columns: dict[str, Any] = {
            "path": files,
            "emotion": emotion_labels(self.rows, vocabulary),
            "size": [size for size, _ in looks],
            "mtime": [changed for _, changed in looks],
        }
        records = make_manifest(self.index.parent, Info(vocabulary=vocabulary, generated=True), columns)
        records.sample_id += first_id
        super().__init__(records, transform, seed, distributions=distributions)


def choose_generated(real: int, emotion: NDArray[np.int64], proportion: float, seed: int) -> NDArray[np.int64]:
    """Choose so many generated images that they make up a share of the training set, as evenly over emotions as can be.

    Args:
        real: number of real images, N_r.
        emotion: (N,) class indices of the generated ones.
        proportion: p in [0, 1); round(p / (1 - p) · N_r) are taken, all where fewer exist (a warning then says which
            share was reached).
        seed: of the choice.

    Returns:
        Sorted indices.

    Raises:
        UniEmoError: ``proportion`` outside [0, 1).
    """
    check_proportion(proportion)
    wanted = round(proportion / (1 - proportion) * real)
    taken = min(wanted, len(emotion))
    if taken < wanted:
        warnings.warn(
            f"generated images make up {taken / (real + taken):.1%} of the training set, not {proportion:.1%}: "
            f"only {taken} of {wanted} exist",
            stacklevel=3,
        )
    return balanced_choice(emotion, taken, seed)


class MixedDataset(Dataset[EmotionSample]):
    """Real images and so many generated ones that they make up ``proportion`` of the whole.

    Args:
        real: N_r real images.
        generated: images to choose from, evenly over emotions.
        proportion: p in [0, 1), see :func:`choose_generated`.
        seed: of the choice.

    Raises:
        UniEmoError: ``proportion`` outside [0, 1).
    """

    def __init__(self, real: EmotionDataset, generated: EmotionDataset, proportion: float = 0.2, seed: int = 0) -> None:
        self.real = real
        self.generated = generated
        self.chosen = choose_generated(len(real), generated.records.emotion, proportion, seed)

    def __len__(self) -> int:
        """Return the number of real and chosen generated images."""
        return len(self.real) + len(self.chosen)

    def parts(self) -> list[tuple[EmotionDataset, NDArray[np.int64]]]:
        """Return the datasets that this one is made of, and which of their images it uses."""
        return [*self.real.parts(), (self.generated, self.chosen)]

    def __getitem__(self, key: int) -> EmotionSample | None:  # type: ignore[override]
        """Return the sample of ``key = epoch * len(self) + index``; real images come first; None for one skipped."""
        epoch, index = divmod(int(key), len(self))
        if index < len(self.real):
            return self.real.sample(index, epoch)
        return self.generated.sample(int(self.chosen[index - len(self.real)]), epoch)


def check_proportion(proportion: float) -> None:
    """Raise UniEmoError unless 0 <= proportion < 1."""
    if not 0 <= proportion < 1:
        raise UniEmoError(f"proportion of generated images must be at least 0 and below 1; got {proportion}")
