import json

import numpy as np
import pytest

from uniemo.data import duplicates
from uniemo.data.duplicates import content_hashes
from uniemo.data.manifest import SPLITS, Info, make_manifest
from uniemo.data.splits import assign, read_split, write_split
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

EMOTIONS = ("awe", "fear", "joy")
NUMBERS = {"awe": 100, "fear": 40, "joy": 3}
PINNED = ["awe/006.jpg", "awe/011.jpg", "awe/015.jpg", "awe/017.jpg"]  # the first test images of seed 3


def names_of(numbers=NUMBERS):
    return [f"{emotion}/{i:03d}.jpg" for emotion, count in numbers.items() for i in range(count)]


def manifest(names=None, split=lambda name: None, contents=None, tests=()):
    """A manifest of images whose folder names the emotion.

    Args:
        names: of the images.
        split: gives the split of a name.
        contents: {name: content} of images that are copies.
        tests: names that each fold tests on.
    """
    names = names_of() if names is None else names
    codes = [-1 if split(name) is None else SPLITS.index(split(name)) for name in names]
    columns = {
        "path": names,
        "emotion": [EMOTIONS.index(name.partition("/")[0]) for name in names],
        "split": codes,
        "hash": [(contents or {}).get(name) for name in names],
        "folds": [[k for k, test in enumerate(tests, 1) if name in test] for name in names],
    }
    return make_manifest(None, Info(layout="test", vocabulary=Vocabulary(EMOTIONS), folds=len(tests)), columns)


def by_emotion(train="awe", val="fear", test="joy"):
    """Give each emotion's images a split."""
    return lambda name: {train: "train", val: "val", test: "test"}.get(name.partition("/")[0])


def images(found, made, split):
    names = found.names()
    return sorted(names[row] for row in made.rows(split))


def splits(found, made):
    return {name: code for name, code in zip(found.names(), made.split.tolist(), strict=True) if code >= 0}


def emotions(names):
    return [name.partition("/")[0] for name in names]


def leaks(found, made, contents):
    sides = {}
    for name, code in splits(found, made).items():
        sides.setdefault(contents.get(name, name), set()).add(code)
    return [content for content, codes in sides.items() if len(codes) > 1]


def test_split_is_stratified():
    found = manifest()
    made = assign(found, fractions=(0.8, 0.05, 0.15))
    assert made.source == "seed"
    assert made.counts() == {"train": 113, "val": 8, "test": 22}
    for name, share in (("train", 0.8), ("val", 0.05), ("test", 0.15)):
        of = emotions(images(found, made, name))
        assert of.count("awe") == 100 * share
        assert of.count("fear") == 40 * share
        assert of.count("joy") == 1  # a small class is everywhere
    with pytest.raises(UniEmoError, match="sum to 1"):
        assign(found, fractions=(0.8, 0.1, 0.2))


def test_split_depends_on_the_seed_alone():
    found = manifest()
    made = splits(found, assign(found, seed=3))
    shuffled = manifest([names_of()[i] for i in np.random.default_rng(0).permutation(143)])
    assert splits(shuffled, assign(shuffled, seed=3)) == made
    assert splits(found, assign(found, seed=4)) != made
    assert images(found, assign(found, seed=3), "test")[:4] == PINNED  # whatever the hash seed of the process


def test_a_tree_that_loses_an_image_keeps_nearly_every_place():
    found, fewer = manifest(), manifest([name for name in names_of() if name != "awe/050.jpg"])
    before, after = splits(found, assign(found)), splits(fewer, assign(fewer))
    assert sum(before[image] != split for image, split in after.items()) <= 2


def test_copies_are_never_in_two_splits():
    contents = {name: f"content {i // 4}" for i, name in enumerate(names_of())}
    found, plain = manifest(contents=contents), manifest()
    made = assign(found, fractions=(0.5, 0.2, 0.3))
    assert not leaks(found, made, contents)
    assert abs(made.counts()["test"] - 43) <= 6
    for fold in range(1, 6):
        assert not leaks(found, assign(found, fold=fold), contents)
    assert leaks(plain, assign(plain, fractions=(0.5, 0.2, 0.3)), contents)


def test_folds_are_even_and_cover_everything_once():
    found = manifest()
    folds = [images(found, assign(found, fold=k), "test") for k in range(1, 6)]
    assert sorted(image for fold in folds for image in fold) == sorted(names_of())
    assert {len(fold) for fold in folds} <= {28, 29}
    assert {emotions(fold).count("awe") for fold in folds} == {20}
    backwards = manifest(names_of()[::-1])
    assert folds == [images(backwards, assign(backwards, fold=k), "test") for k in range(1, 6)]
    with pytest.raises(UniEmoError, match="at most the number"):
        assign(manifest(names_of({"awe": 3})), fold=1)


def test_no_splits_are_made_and_given_validation_stays():
    found = manifest(names_of({"awe": 80, "fear": 10}), by_emotion(train=None))
    half = assign(found)
    assert emotions(images(found, half, "val")) == ["fear"] * 10
    assert half.counts()["test"] == 12
    assert assign(manifest(), val_fraction=0.2).counts()["val"] == pytest.approx(0.2 * 0.85 * 143, abs=2)


def test_copies_across_given_splits_stay_on_the_test_side():
    contents = {"awe/000.jpg": "x", "joy/000.jpg": "x"}  # train, test
    contents |= {"awe/001.jpg": "y", "fear/001.jpg": "y"}  # train, val
    contents |= {"awe/002.jpg": "z", "awe/003.jpg": "z"}  # train twice: no harm
    found = manifest(names_of({"awe": 6, "fear": 3, "joy": 3}), by_emotion(), contents)
    made = assign(found)
    assert dict(made.left_out) == {
        "awe/000.jpg": "the same picture as joy/000.jpg in test",
        "awe/001.jpg": "the same picture as fear/001.jpg in val",
    }
    assert sum(made.counts().values()) == 10
    assert made.duplicates == (
        ("awe/000.jpg", "joy/000.jpg"),
        ("awe/001.jpg", "fear/001.jpg"),
        ("awe/002.jpg", "awe/003.jpg"),
    )
    assert not leaks(found, made, contents)


# Files.


def test_split_file_round_trip(tmp_path):
    found = manifest(contents={name: f"content {i // 2}" for i, name in enumerate(names_of())})
    made = assign(found, seed=5, fold=2)
    write_split(tmp_path / "run" / "split.json", found, made)
    again = read_split(tmp_path / "run" / "split.json", found)
    assert again.split.tolist() == made.split.tolist()
    assert (again.source, again.seed, again.fold, again.folds) == ("file", 5, 2, 5)
    assert again.duplicates == made.duplicates
    written = json.loads((tmp_path / "run" / "split.json").read_text())
    assert written["counts"] == made.counts()
    assert written["splits"]["val"] == images(found, made, "val")
    assert list(written)[:6] == ["layout", "source", "seed", "fractions", "fold", "folds"]
    write_split(tmp_path / "made.json", found, assign(found))
    assert read_split(tmp_path / "made.json", found).fractions == pytest.approx((0.8, 0.05, 0.15))


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "existing file"),
        ("{", "must be JSON"),
        ("[]", "must hold"),
        ('{"splits": {"training": []}}', "must hold"),
        ('{"splits": {"train": [1]}}', "must hold"),
        ('{"splits": {"train": ["awe/a.jpg"], "test": ["awe/a.jpg"]}}', r"a\.jpg in train and test"),
        ('{"splits": {"train": ["awe/a.jpg", "old.jpg"]}}', r"1 of the 2 images .* first old\.jpg"),
    ],
)
def test_split_file_that_does_not_fit(tmp_path, content, match):
    path = tmp_path / "split.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UniEmoError, match=match) as caught:
        read_split(path, manifest(["awe/a.jpg"]))
    assert "\n" not in str(caught.value)


# Contents.


def test_contents_are_equal_exactly_where_files_are(tmp_path, monkeypatch):
    body = bytes(range(256)) * 64  # 16 KiB: longer than the end that is looked at first
    files = {"one": body, "same": body, "head differs": b"!" + body[1:], "end differs": body[:-1] + b"!"}
    files |= {"longer": body + b"!", "empty": b"", "also empty": b""}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    read = []
    whole = duplicates.hash_file
    monkeypatch.setattr(duplicates, "hash_file", lambda path: (read.append(path), whole(path))[1])
    hashes = content_hashes(tmp_path, list(files), np.array([len(content) for content in files.values()]))
    assert hashes[0] == hashes[1] != hashes[2]
    assert hashes[3:] == [None] * 4  # no other file is like them
    assert [path.rpartition("/")[2] for path in read] == ["one", "same", "head differs"]
    assert content_hashes(tmp_path, [], np.zeros(0, dtype=np.int64)) == []
