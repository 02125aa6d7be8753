"""Twitter I (DeepSent) and Twitter II (SentiBank) as people have them."""

from __future__ import annotations

from collections.abc import Sequence

from uniemo.miniature.samples import Sample, Tree
from uniemo.taxonomy import EIGHT_TO_TWO

_ANNOTATORS = 5
_SHARES = ((5, 882 / 1269), (4, 1116 / 1269))  # of images on which at least so many annotators agree (DeepSent)
_FILES = {5: "five", 4: "four", 3: "three"}
_FOLDS = 5
_TOPICS: tuple[str, ...] = (  # 21, in the manner of SentiBank's hashtags
    *("abortion", "agt", "aids", "android", "androidgame", "blackfriday", "cairo", "cancer", "championsleague"),
    *("election", "gaymarriage", "globalwarming", "hurricanesandy", "iphonefan", "kodak", "memoriesiwontforget"),
    *("newyork", "nfl", "nuclearpower", "police", "religion"),
)
_SCRIPT_TOPIC = "写真"


def write_amt(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``Agg_AMT_Candidates/`` with ``amt_result.csv``: file, annotators, votes for positive and for negative."""
    agreement = _agreement(tree, samples)
    lines = ["filename,total,positive,negative\n"]
    for sample in samples:
        tree.save(sample, "Agg_AMT_Candidates")
        votes = agreement[sample.number]
        positive = votes if sample.name == "positive" else _ANNOTATORS - votes
        lines.append(f"{sample.filename},{_ANNOTATORS},{positive},{_ANNOTATORS - positive}\n")
    tree.write("amt_result.csv", "".join(lines))


def write_agrees(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``images/`` with ``ground_truth/twitter_{three,four,five}_agrees.txt``, lines ``file.jpg 0|1``."""
    for agreement, chosen in _save_images(tree, samples).items():
        tree.write(f"ground_truth/twitter_{_FILES[agreement]}_agrees.txt", _lines(chosen))


def write_folds(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``images/`` with ``{five,four,three}_agrees/test{1..5}/{train,test}.txt``, stratified."""
    for agreement, chosen in _save_images(tree, samples).items():
        fold_of: dict[int, int] = {}  # each class spread evenly
        rng = tree.rng(agreement)
        for rows in _classes(chosen):
            for row in rng.permutation(rows).tolist():
                fold_of[row] = len(fold_of) % _FOLDS
        for fold in range(_FOLDS):
            folder = f"{_FILES[agreement]}_agrees/test{fold + 1}"
            tree.write(f"{folder}/test.txt", _lines([s for s in chosen if fold_of[s.number] == fold]))
            tree.write(f"{folder}/train.txt", _lines([s for s in chosen if fold_of[s.number] != fold]))


def write_csv(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``images/`` with ``{3,4,5}agree.csv``: path below ``images`` and 0 or 1."""
    for agreement, chosen in _save_images(tree, samples).items():
        tree.write_table(f"{agreement}agree.csv", _rows(chosen), ("path", "class"))


def write_topics(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``twitter/<topic>/<N>.jpg`` with ``twitter/groundTruthLabel.txt``: tweet and label, N its 1-based row."""
    lines = ["tweet\tsentiment\n"]
    for row, sample in enumerate(samples, start=1):
        topic = _SCRIPT_TOPIC if sample.fault == "script_name" else _TOPICS[sample.number % len(_TOPICS)]
        sample.stem = str(row)
        sample.suffix = sample.suffix.replace(".png", ".jpg")  # the list gives numbers only, so names are all alike
        tree.save(sample, f"twitter/{topic}")
        lines.append(f"#{topic} what a {sample.label.object}\t{sample.name}\n")
    tree.write("twitter/groundTruthLabel.txt", "".join(lines))


def write_second_csv(tree: Tree, samples: Sequence[Sample]) -> None:
    """Write ``images/`` with ``twitter_testing_2.csv``: path below ``images`` and 0 or 1."""
    for sample in samples:
        tree.save(sample, "images")
    tree.write_table("twitter_testing_2.csv", _rows(samples), ("path", "class"))


def _save_images(tree: Tree, samples: Sequence[Sample]) -> dict[int, list[Sample]]:
    """Write ``images/`` and return the samples by least agreement: 3, 4 and 5 of five annotators."""
    agreement = _agreement(tree, samples)
    for sample in samples:
        tree.save(sample, "images")
    return {least: [sample for sample in samples if agreement[sample.number] >= least] for least in (3, 4, 5)}


def _agreement(tree: Tree, samples: Sequence[Sample]) -> dict[int, int]:
    """Return for each sample how many annotators agree on its class, shared out in each class as in DeepSent.

    All agree on samples with a fault, so that every list has them.
    """
    rng = tree.rng(0)
    result: dict[int, int] = {}
    faulty = {sample.number for sample in samples if sample.faulty}
    for rows in _classes(samples):
        for place, row in enumerate(sorted(rng.permutation(rows).tolist(), key=lambda row: row not in faulty)):
            quantile = (place + 0.5) / len(rows)
            result[row] = next((votes for votes, share in _SHARES if quantile <= share), 3)
    return result


def _classes(samples: Sequence[Sample]) -> list[list[int]]:
    """Return the samples' numbers by painted polarity, so that a fault in a label changes nothing else."""
    rows: dict[str, list[int]] = {}
    for sample in samples:
        rows.setdefault(EIGHT_TO_TWO[sample.label.emotion], []).append(sample.number)
    return list(rows.values())


def _rows(samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """Return file names with 1 for positive and 0 for negative; an unknown class stays a word."""
    numbers = {"positive": "1", "negative": "0"}
    return [(sample.filename, numbers.get(sample.name, sample.name)) for sample in samples]


def _lines(samples: Sequence[Sample]) -> str:
    """Return lines ``file.jpg 0|1``."""
    return "".join(f"{file} {number}\n" for file, number in _rows(samples))
