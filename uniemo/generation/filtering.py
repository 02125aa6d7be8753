"""Algorithm 1: keep the generated images that are in the middle band of both emotion accuracy and semantic clarity.

The lowest ranks are images that miss the emotion or show nothing clear; the highest are stereotypes that a classifier
is surest of, and would narrow the training set.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from uniemo.cache import atomic_write
from uniemo.data.generated import (
    balanced_choice,
    emotion_labels,
    find_index,
    intended_emotion,
    read_index,
    write_index,
)
from uniemo.data.inside import Inside
from uniemo.distributed import gather, get_rank, get_world_size
from uniemo.errors import UniEmoError
from uniemo.metrics.image_batches import read_batches, to_unit
from uniemo.models.state import check_scores
from uniemo.vocabulary import Vocabulary

if TYPE_CHECKING:
    from uniemo.metrics.classifier import EmotionClassifier
    from uniemo.metrics.clip_networks import FrozenClip

Criteria = Literal["both", "emo_a", "sem_c"]
_DECODERS = 4  # threads that decode images while the batch before is scored


def _checked(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return scores as (N,) float64; UniEmoError for another shape or NaN."""
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1:
        raise UniEmoError(f"{name} must have one value for each image, shape (N,); got shape {scores.shape}")
    bad = np.flatnonzero(np.isnan(scores))
    if len(bad):
        raise UniEmoError(
            f"{name} must be numbers; {len(bad)} of {len(scores)} are NaN, first at index {bad[0]}: score them again"
        )
    return scores


def _band(scores: NDArray[np.float64], low: float, high: float) -> NDArray[np.int64]:
    """Return the indices at rank positions round(low·n) … round(high·n) - 1, ranks ascending, ties by index."""
    order = np.argsort(scores, kind="stable")
    return order[round(low * len(scores)) : round(high * len(scores))]


def check_band(low: float, high: float) -> None:
    """Raise UniEmoError unless 0 <= low < high <= 1."""
    if not 0 <= low < high <= 1:
        raise UniEmoError(f"filter band must satisfy 0 <= low < high <= 1; got low {low} and high {high}")


def dual_metric_filter(
    emotion_score: ArrayLike,
    clarity_score: ArrayLike,
    low: float = 0.2,
    high: float = 0.8,
    groups: ArrayLike | None = None,
    criteria: Criteria = "both",
) -> NDArray[np.int64]:
    """Choose images by Algorithm 1.

    Each score is ranked ascending by a stable argsort (equal scores keep their order); the positions from
    ``round(low · n)`` up to, not including, ``round(high · n)`` are the band; kept is what is in the band of both.

    Args:
        emotion_score: (N,) Emo-A of each image, the probability of its intended emotion.
        clarity_score: (N,) Sem-C of each image.
        low: η, where the band starts, as a share of the ranks.
        high: δ, where it ends.
        groups: (N,) labels to rank within, so that every emotion keeps its share; None ranks all images together, the
            algorithm's literal form (``global``).
        criteria: ``both``, or one score alone (``emo_a``, ``sem_c``) for the ablation.

    Returns:
        Sorted indices of the kept images; empty when no image is in both bands.

    Raises:
        UniEmoError: NaN scores, lengths that differ, a band outside 0 <= low < high <= 1, unknown criteria.
    """
    check_band(low, high)
    if criteria not in get_args(Criteria):
        raise UniEmoError(f"filter criteria must be one of {', '.join(get_args(Criteria))}; got {criteria!r}")
    scores = {"emo_a": _checked("emotion_score", emotion_score), "sem_c": _checked("clarity_score", clarity_score)}
    count = len(scores["emo_a"])
    labels = np.zeros(count, dtype=np.int64) if groups is None else np.asarray(groups)
    if len(scores["sem_c"]) != count or labels.shape != (count,):
        raise UniEmoError(
            "emotion_score, clarity_score and groups must have one value for each image; "
            f"got {count}, {len(scores['sem_c'])} and {len(labels)}"
        )
    used = [scores[name] for name in ("emo_a", "sem_c") if criteria in ("both", name)]
    kept: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        chosen = set(members.tolist())
        for score in used:
            chosen &= set(members[_band(score[members], low, high)].tolist())
        kept += chosen
    return np.array(sorted(kept), dtype=np.int64)


def score_index(
    index: str | Path,
    clip: FrozenClip,
    classifier: EmotionClassifier,
    vocabulary: Vocabulary,
    batch_size: int = 64,
    follow_links: bool = False,
) -> list[dict[str, Any]]:
    """Score every image of an index and write the scores into it.

    Of R ranks each scores every R-th batch, so that a score does not depend on their number; every rank calls this and
    gets all rows. Only two batches of images are in memory.

    Args:
        index: ``.jsonl`` file or its folder.
        clip: that the images are scored with, on its device.
        classifier: Emo-A on that CLIP's features.
        vocabulary: emotions, scenes and objects; without the latter two ``sem_c`` is null.
        batch_size: images at a time.
        follow_links: allow images that lie outside of the index's folder.

    Returns:
        The rows with ``emo_a`` (probability of the intended emotion), ``sem_c`` and ``network`` added, as written.

    Raises:
        UniEmoError: unusable index, unknown emotion, unreadable image, a score that is not finite.
    """
    from uniemo.metrics.sem_c import ZeroShotClarity

    index = find_index(index)
    rows = read_index(index, follow_links)
    emotion = torch.from_numpy(emotion_labels(rows, vocabulary))
    reader = ZeroShotClarity(clip, vocabulary) if vocabulary.scenes or vocabulary.objects else None
    rank, ranks = get_rank(), get_world_size()
    batches = [range(start, min(start + batch_size, len(rows))) for start in range(0, len(rows), batch_size)]
    mine = batches[rank::ranks]
    files = [index.parent / rows[number]["file"] for part in mine for number in part]
    scores: dict[int, tuple[float, float | None]] = {}
    for part, images in zip(mine, read_batches(files, batch_size, _DECODERS), strict=True):
        features = clip.features(_stack(images, [rows[number]["file"] for number in part]))
        intended = emotion[part.start : part.stop].to(features.device)
        probability = classifier.probabilities(features).gather(1, intended[:, None]).squeeze(1)  # (n,)
        clarity = [None] * len(part) if reader is None else reader(features).tolist()
        scores.update(zip(part, zip(probability.tolist(), clarity, strict=True), strict=True))
    scores = {number: both for share in gather(scores) for number, both in share.items()}
    scored = [
        {**row, "emo_a": scores[number][0], "sem_c": scores[number][1], "network": clip.name}
        for number, row in enumerate(rows)
    ]
    finite = [all(math.isfinite(one) for one in both if one is not None) for both in scores.values()]  # of each image
    check_scores(torch.tensor(finite), "scores")
    if rank == 0:
        write_index(index, scored)
    return scored


def _stack(images: Sequence[Tensor], names: Sequence[str]) -> Tensor:
    """Return (n, 3, H, W) in [0, 1] of images (3, H, W) in bytes; UniEmoError when their sizes differ."""
    for name, image in zip(names, images, strict=True):
        if image.shape != images[0].shape:
            raise UniEmoError(f"images must all have one size; {name} has not that of {names[0]}: generate again")
    return to_unit(torch.stack(list(images)))


def _new_file(output: str | Path, source: Path) -> Path:
    """Return the file to write; UniEmoError where it or its folder is not new or empty."""
    output = Path(output).expanduser()
    target = output if output.suffix == ".jsonl" else output / "kept.jsonl"
    folder = target.parent
    if target == output and folder.resolve() == source.resolve():
        taken = output.exists() and output.stat().st_size > 0
    else:
        taken = output.is_file() or folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    if taken:
        raise UniEmoError(f"filter output must be new or empty; {output} is not: choose another or delete it")
    return target


def filter_index(
    index: str | Path,
    output: str | Path,
    low: float = 0.2,
    high: float = 0.8,
    ranking: Literal["emotion", "global"] = "emotion",
    criteria: Criteria = "both",
    num: int | None = None,
    seed: int = 0,
    follow_links: bool = False,
) -> dict[str, int]:
    """Filter a scored index and write what is kept.

    In another folder than the index's the kept images are there too: as hard links, or as copies where the disk is
    another one. Images that the index names outside of its folder stay where they are.

    Args:
        index: scored ``.jsonl`` file (see :func:`score_index`) or its folder.
        output: a new ``.jsonl`` file beside the index, or a new or empty folder for ``kept.jsonl`` and the images.
        low: η, where the band starts, as a share of the ranks.
        high: δ, where it ends.
        ranking: ``emotion`` ranks within each intended emotion, ``global`` all images together.
        criteria: ``both``, ``emo_a`` or ``sem_c``.
        num: how many of the images in the band to keep, evenly over emotions; None keeps all.
        seed: of that choice.
        follow_links: allow images that lie outside of the index's folder.

    Returns:
        Kept images of each intended emotion, zeros included. With nothing in the band nothing is written.

    Raises:
        UniEmoError: non-empty output, images without scores, a bad band, ``num`` larger than the band.
    """
    check_band(low, high)
    if num is not None and num < 1:
        raise UniEmoError(f"filter num must be at least 1; got {num}")
    index = find_index(index)
    target = _new_file(output, index.parent)
    rows = read_index(index, follow_links)
    bare = [row["file"] for row in rows if not {"emo_a", "sem_c"} <= row.keys()]
    if bare:
        raise UniEmoError(
            f"index {index} must hold emo_a and sem_c for every image; {len(bare)} of {len(rows)} lack them, "
            f"first {bare[0]}: score the index first"
        )
    names = [intended_emotion(row) for row in rows]
    emotions = sorted(set(names))
    labels = np.array([emotions.index(name) for name in names], dtype=np.int64)
    emo_a, sem_c = (  # a score that is not a criterion may be null
        [_number(row[key]) if criteria in ("both", key) else 0.0 for row in rows] for key in ("emo_a", "sem_c")
    )
    kept = dual_metric_filter(emo_a, sem_c, low, high, labels if ranking == "emotion" else None, criteria)
    if num is not None:
        if num > len(kept):
            raise UniEmoError(
                f"filter num must not exceed the {len(kept)} images in the band; got {num}: "
                "widen low and high or generate more"
            )
        kept = kept[balanced_choice(labels[kept], num, seed)]
    if len(kept):
        _write_kept([rows[i] for i in kept], index.parent, target)
    return {name: int((labels[kept] == i).sum()) for i, name in enumerate(emotions)}


def _number(value: object) -> float:
    """Return a JSON score as a float; null is NaN."""
    return float(value) if isinstance(value, int | float) else math.nan


def _write_kept(rows: Sequence[dict[str, Any]], source: Path, target: Path) -> None:
    """Write an index of images of a folder; into another folder with the images, whole or not at all."""
    if target.parent.resolve() == source.resolve():
        write_index(target, rows)
        return
    inside, kept = Inside(source), []
    with atomic_write(target.parent) as folder:
        folder.mkdir()
        for row in rows:
            file, name = (source / row["file"]).resolve(), os.path.normpath(row["file"])
            if row["file"] not in inside or os.path.isabs(name):
                name = str(file)
            elif not (folder / name).exists():
                _link(file, folder / name)
            kept.append({**row, "file": name})
        write_index(folder / target.name, kept)


def _link(file: Path, place: Path) -> None:
    """Put a file at another place too: as a hard link, or as a copy where the disk allows none."""
    place.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(file, place)
    except OSError:
        shutil.copyfile(file, place)
