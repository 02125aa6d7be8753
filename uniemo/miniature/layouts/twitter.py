"""Twitter I (DeepSent) and Twitter II (SentiBank) as people have them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from uniemo.data.emotions import EIGHT_TO_TWO

from .shots import Shot, Studio

_ANNOTATORS = 5
_SHARES = ((5, 882 / 1269), (4, 1116 / 1269))  # of images on which at least so many annotators agree (DeepSent)
_FILES = {5: "five", 4: "four", 3: "three"}
FOLDS = 5
TOPICS: tuple[str, ...] = (  # 21, in the manner of SentiBank's hashtags
    *("abortion", "agt", "aids", "android", "androidgame", "blackfriday", "cairo", "cancer", "championsleague"),
    *("election", "gaymarriage", "globalwarming", "hurricanesandy", "iphonefan", "kodak", "memoriesiwontforget"),
    *("newyork", "nfl", "nuclearpower", "police", "religion"),
)
_SCRIPT_TOPIC = "写真"


def write_amt(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``Agg_AMT_Candidates/`` with ``amt_result.csv``: file, annotators, votes for positive and for negative."""
    agreement = _agreement(studio, shots)
    lines = ["filename,total,positive,negative\n"]
    for shot in shots:
        studio.save(shot, "Agg_AMT_Candidates")
        votes = agreement[shot.number]
        positive = votes if shot.name == "positive" else _ANNOTATORS - votes
        lines.append(f"{shot.filename},{_ANNOTATORS},{positive},{_ANNOTATORS - positive}\n")
    studio.write("amt_result.csv", "".join(lines))


def write_agrees(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``images/`` with ``ground_truth/twitter_{three,four,five}_agrees.txt``, lines ``file.jpg 0|1``."""
    for agreement, chosen in _save_images(studio, shots).items():
        studio.write(f"ground_truth/twitter_{_FILES[agreement]}_agrees.txt", _lines(chosen))


def write_folds(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``images/`` with ``{five,four,three}_agrees/test{1..5}/{train,test}.txt``, stratified."""
    for agreement, chosen in _save_images(studio, shots).items():
        fold_of = _folds(chosen, studio.rng(agreement))
        for fold in range(FOLDS):
            folder = f"{_FILES[agreement]}_agrees/test{fold + 1}"
            studio.write(f"{folder}/test.txt", _lines([s for s in chosen if fold_of[s.number] == fold]))
            studio.write(f"{folder}/train.txt", _lines([s for s in chosen if fold_of[s.number] != fold]))


def write_csv(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``images/`` with ``{3,4,5}agree.csv``: path below ``images`` and 0 or 1."""
    for agreement, chosen in _save_images(studio, shots).items():
        rows = [(shot.filename, _number(shot)) for shot in chosen]
        studio.write_table(f"{agreement}agree.csv", rows, ("path", "class"))


def write_topics(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``twitter/<topic>/<N>.jpg`` with ``twitter/groundTruthLabel.txt``: tweet and label, N its 1-based row."""
    lines = ["tweet\tsentiment\n"]
    for row, shot in enumerate(shots, start=1):
        topic = _SCRIPT_TOPIC if shot.fault == "script_name" else TOPICS[shot.number % len(TOPICS)]
        shot.stem = str(row)
        shot.suffix = shot.suffix.replace(".png", ".jpg")  # the list gives numbers only, so names are all alike
        studio.save(shot, f"twitter/{topic}")
        lines.append(f"#{topic} what a {shot.label.object}\t{shot.name}\n")
    studio.write("twitter/groundTruthLabel.txt", "".join(lines))


def write_second_csv(studio: Studio, shots: Sequence[Shot]) -> None:
    """Write ``images/`` with ``twitter_testing_2.csv``: path below ``images`` and 0 or 1."""
    for shot in shots:
        studio.save(shot, "images")
    rows = [(shot.filename, _number(shot)) for shot in shots]
    studio.write_table("twitter_testing_2.csv", rows, ("path", "class"))


def _save_images(studio: Studio, shots: Sequence[Shot]) -> dict[int, list[Shot]]:
    """Write ``images/`` and return the shots by least agreement: 3, 4 and 5 of five annotators."""
    agreement = _agreement(studio, shots)
    for shot in shots:
        studio.save(shot, "images")
    return {least: [shot for shot in shots if agreement[shot.number] >= least] for least in (3, 4, 5)}


def _agreement(studio: Studio, shots: Sequence[Shot]) -> dict[int, int]:
    """Return for each shot how many annotators agree on its class, shared out in each class as in DeepSent.

    All agree on shots with a fault, so that every list has them.
    """
    rng = studio.rng(0)
    result: dict[int, int] = {}
    struck = {shot.number for shot in shots if shot.struck}
    for rows in _classes(shots):
        for place, row in enumerate(sorted(rng.permutation(rows).tolist(), key=lambda row: row not in struck)):
            quantile = (place + 0.5) / len(rows)
            result[row] = next((votes for votes, share in _SHARES if quantile <= share), 3)
    return result


def _folds(shots: Sequence[Shot], rng: np.random.Generator) -> dict[int, int]:
    """Return each shot's test fold, 0 to 4: each class spread evenly."""
    result: dict[int, int] = {}
    for rows in _classes(shots):
        for row in rng.permutation(rows).tolist():
            result[row] = len(result) % FOLDS
    return result


def _classes(shots: Sequence[Shot]) -> list[list[int]]:
    """Return the shots' numbers by painted polarity, so that a fault in a label moves nothing else."""
    rows: dict[str, list[int]] = {}
    for shot in shots:
        rows.setdefault(EIGHT_TO_TWO[shot.label.emotion], []).append(shot.number)
    return list(rows.values())


def _number(shot: Shot) -> str:
    """Return the class as Twitter's files write it: 1 is positive, 0 negative; an unknown one stays a word."""
    return {"positive": "1", "negative": "0"}.get(shot.name, shot.name)


def _lines(shots: Sequence[Shot]) -> str:
    """Return lines ``file.jpg 0|1``."""
    return "".join(f"{shot.filename} {_number(shot)}\n" for shot in shots)
