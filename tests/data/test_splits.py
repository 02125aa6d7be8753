import json
import os
import subprocess
import sys

import numpy as np
import pytest

import uniemo.data.hashes
from uniemo.data.hashes import FileNotes, content_hashes, stamps
from uniemo.data.listing import Item, Listing
from uniemo.data.splits import (
    Assignment,
    assign,
    leaks,
    read_split,
    stratified_folds,
    stratified_split,
    write_split,
)
from uniemo.errors import UniEmoError

NUMBERS = {"awe": 100, "fear": 40, "joy": 3}


def items(numbers=NUMBERS, split=None):
    return [Item(f"{name}/{i:03d}.jpg", name, split) for name, count in numbers.items() for i in range(count)]


def listing(entries, folds=()):
    return Listing("test", None, tuple(NUMBERS), entries, folds)


def emotions(images):
    return [image.partition("/")[0] for image in images]


def test_split_is_stratified():
    made = stratified_split(items(), (0.8, 0.05, 0.15))
    assert made.counts() == {"train": 113, "val": 8, "test": 22}
    for name, share in (("train", 0.8), ("val", 0.05), ("test", 0.15)):
        of = emotions(made.images(name))
        assert of.count("awe") == 100 * share
        assert of.count("fear") == 40 * share
        assert of.count("joy") == 1  # a small class is everywhere
    assert stratified_split(items(), (0.9, 0.0, 0.1)).counts()["val"] == 0
    with pytest.raises(UniEmoError, match="sum to 1"):
        stratified_split(items(), (0.8, 0.1, 0.2))


def test_split_depends_on_the_seed_alone():
    made = stratified_split(items(), seed=3).split
    shuffled = [items()[i] for i in np.random.default_rng(0).permutation(len(items()))]
    assert stratified_split(shuffled, seed=3).split == made
    assert stratified_split(items(), seed=4).split != made
    code = (
        "from uniemo.data.splits import stratified_split; from uniemo.data.listing import Item; "
        f"print(stratified_split([Item(**x) for x in {[vars(item) for item in items()]!r}], seed=3).images('test'))"
    )
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "7"},
    )
    assert other.stdout.strip() == repr(sorted(image for image, split in made.items() if split == "test"))


def test_a_tree_that_loses_an_image_keeps_nearly_every_place():
    before = stratified_split(items()).split
    after = stratified_split([item for item in items() if item.image != "awe/050.jpg"]).split
    assert sum(before[image] != split for image, split in after.items()) <= 2


def test_copies_are_never_in_two_splits():
    groups = {item.image: f"content {i // 4}" for i, item in enumerate(items())}
    made = stratified_split(items(), (0.5, 0.2, 0.3), groups=groups)
    assert not leaks(made.split, groups)
    assert abs(made.counts()["test"] - 43) <= 6
    for test in stratified_folds(items(), groups=groups):
        assert not {groups[image] for image in test} & {groups[i.image] for i in items() if i.image not in test}
    plain = stratified_split(items(), (0.5, 0.2, 0.3))
    assert leaks(plain.split, groups)


def test_folds_are_even_and_cover_everything_once():
    folds = stratified_folds(items(), 5)
    assert sorted(image for fold in folds for image in fold) == sorted(item.image for item in items())
    assert {len(fold) for fold in folds} <= {28, 29}
    assert {emotions(fold).count("awe") for fold in folds} == {20}
    assert folds == stratified_folds(items()[::-1], 5)
    with pytest.raises(UniEmoError, match="at least 2"):
        stratified_folds(items(), 1)
    with pytest.raises(UniEmoError, match="at most the number"):
        stratified_folds(items({"awe": 3}), 5)


# Assigning.


def test_given_splits_are_taken():
    given = items({"awe": 10}, "train") + items({"fear": 4}, "val") + items({"joy": 5}, "test")
    made = assign(listing(given))
    assert made.source == "tree"
    assert made.split == {item.image: item.split for item in given}


def test_missing_validation_comes_from_training_only():
    given = items({"awe": 40, "fear": 20}, "train") + items({"joy": 9}, "test")
    made = assign(listing(given), val_fraction=0.1)
    assert made.source == "completed"
    assert made.images("test") == [f"joy/{i:03d}.jpg" for i in range(9)]
    assert sorted(emotions(made.images("val"))) == ["awe"] * 4 + ["fear"] * 2
    with pytest.raises(UniEmoError, match="val_fraction"):
        assign(listing(given), val_fraction=1.0)


def test_no_splits_are_cut_and_given_validation_stays():
    assert assign(listing(items())).counts() == stratified_split(items()).counts()
    half = assign(listing(items({"awe": 80}) + items({"fear": 10}, "val")))
    assert emotions(half.images("val")) == ["fear"] * 10
    assert half.counts()["test"] == 12
    assert assign(listing(items()), val_fraction=0.2).counts()["val"] == pytest.approx(0.2 * 0.85 * 143, abs=2)


def test_folds_are_the_trees_own_or_made():
    given = (frozenset({"awe/000.jpg"}), frozenset({"awe/001.jpg", "fear/000.jpg"}))
    made = assign(listing(items(), given), fold=2, folds=2)
    assert made.images("test") == ["awe/001.jpg", "fear/000.jpg"]
    assert (made.fold, made.folds, made.source) == (2, 2, "fold")
    assert not set(made.images("val")) & set(made.images("test"))
    tests = [set(assign(listing(items()), fold=k).images("test")) for k in range(1, 6)]
    assert tests == [set(test) for test in stratified_folds(items())]
    assert assign(listing(items()), fold=1, val_fraction=0.1).counts()["val"] == pytest.approx(0.1 * 114, abs=2)
    for arguments, match in (({"fold": 3, "folds": 2}, r"1 … 2"), ({"fold": 1, "folds": 5}, "must be 2, as the tree")):
        with pytest.raises(UniEmoError, match=match):
            assign(listing(items(), given), **arguments)


def test_copies_across_given_splits_stay_on_the_test_side():
    given = items({"awe": 6}, "train") + items({"fear": 3}, "val") + items({"joy": 3}, "test")
    groups = {item.image: item.image for item in given}
    groups |= {"awe/000.jpg": "x", "joy/000.jpg": "x"}  # train, test
    groups |= {"awe/001.jpg": "y", "fear/001.jpg": "y"}  # train, val
    groups |= {"awe/002.jpg": "z", "awe/003.jpg": "z"}  # train twice: no harm
    made = assign(listing(given), groups=groups)
    assert dict(made.left_out) == {
        "awe/000.jpg": "the same picture as joy/000.jpg in test",
        "awe/001.jpg": "the same picture as fear/001.jpg in val",
    }
    assert len(made.split) == 10
    assert made.duplicates == (
        ("awe/000.jpg", "joy/000.jpg"),
        ("awe/001.jpg", "fear/001.jpg"),
        ("awe/002.jpg", "awe/003.jpg"),
    )
    assert not leaks(made.split, groups)


def test_placeholder_is_left_out_everywhere():
    groups = {item.image: item.image for item in items()}
    groups |= dict.fromkeys(("awe/000.jpg", "fear/000.jpg", "joy/000.jpg"), "gone")
    groups |= dict.fromkeys(("awe/001.jpg", "awe/002.jpg", "awe/003.jpg"), "a burst of one photo")
    made = assign(listing(items()), groups=groups)
    assert [image for image, _ in made.left_out] == ["awe/000.jpg", "fear/000.jpg", "joy/000.jpg"]
    assert len({made.split[f"awe/00{i}.jpg"] for i in (1, 2, 3)}) == 1
    assert len(made.split) == 140


# Files.


def test_split_file_round_trip(tmp_path):
    groups = {item.image: f"content {i // 2}" for i, item in enumerate(items())}
    made = assign(listing(items()), seed=5, fold=2, groups=groups)
    write_split(tmp_path / "run" / "split.json", made)
    again = read_split(tmp_path / "run" / "split.json", [item.image for item in items()])
    assert again.split == made.split
    assert (again.source, again.seed, again.fold, again.folds) == ("file", 5, 2, 5)
    assert again.duplicates == made.duplicates
    assert json.loads((tmp_path / "run" / "split.json").read_text())["counts"] == made.counts()
    write_split(tmp_path / "cut.json", assign(listing(items())))
    assert read_split(tmp_path / "cut.json", [item.image for item in items()]).fractions == pytest.approx(
        (0.8, 0.05, 0.15)
    )


def test_split_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.json"
    path.write_text(json.dumps({"splits": {"train": ["ä.jpg"], "test": ["b.jpg"]}}), encoding="utf-8")
    made = read_split(path, ["ä.jpg", "b.jpg", "c.jpg"])
    assert made.split == {"ä.jpg": "train", "b.jpg": "test"}
    assert made.left_out == (("c.jpg", "not in the split file"),)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        (None, "existing file"),
        ("{", "must be JSON"),
        ("[]", "must hold"),
        ('{"splits": {"training": []}}', "must hold"),
        ('{"splits": {"train": [1]}}', "must hold"),
        ('{"splits": {"train": ["a.jpg"], "test": ["a.jpg"]}}', r"a\.jpg in train and test"),
        ('{"splits": {"train": ["a.jpg", "old.jpg"]}}', r"1 of the 2 images .* first old\.jpg"),
    ],
)
def test_split_file_that_does_not_fit(tmp_path, content, match):
    path = tmp_path / "split.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UniEmoError, match=match) as caught:
        read_split(path, ["a.jpg"])
    assert "\n" not in str(caught.value)


def test_assignment_counts():
    made = Assignment({"b": "train", "a": "train", "c": "test"})
    assert made.images("train") == ["a", "b"]
    assert made.counts() == {"train": 2, "val": 0, "test": 1}


# Contents.


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    tree = tmp_path / "tree"
    tree.mkdir()
    body = bytes(range(256)) * 64  # 16 KiB: longer than the end that is looked at first
    for name, content in {
        "one": body,
        "same": body,
        "head differs": b"!" + body[1:],
        "end differs": body[:-1] + b"!",
        "longer": body + b"!",
        "empty": b"",
        "also empty": b"",
    }.items():
        (tree / name).write_bytes(content)
    return tree


NAMES = ["one", "same", "head differs", "end differs", "longer", "empty", "also empty", "not there"]


def test_contents_are_equal_exactly_where_files_are(files):
    hashes = content_hashes(files, NAMES)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == len(NAMES) - 1
    assert content_hashes(files, NAMES[::-1])[::-1][:5] == hashes[:5]
    assert content_hashes(files, []) == []


def test_contents_are_remembered_until_a_file_changes(files, monkeypatch):
    read = []
    whole, tail = uniemo.data.hashes._whole, uniemo.data.hashes._tail
    monkeypatch.setattr(uniemo.data.hashes, "_whole", lambda path: (read.append(path), whole(path))[1])
    monkeypatch.setattr(uniemo.data.hashes, "_tail", lambda path: (read.append(path), tail(path))[1])
    before = content_hashes(files, NAMES)
    assert [path.rpartition("/")[2] for path in read] == [*NAMES[:4], *NAMES[:3]]  # no other has a twin in size
    read.clear()
    assert content_hashes(files, NAMES) == before
    assert content_hashes(files, NAMES[:2]) == before[:2]
    assert not read
    look = (files / "one").stat()
    (files / "one").write_bytes((files / "head differs").read_bytes())
    os.utime(files / "one", ns=(look.st_atime_ns, look.st_mtime_ns + 1))
    after = content_hashes(files, NAMES)
    assert after[0] == after[2]
    assert after[1] != after[0]
    assert [path.rpartition("/")[2] for path in read] == ["one", "one"]


def test_file_notes_keep_other_files_of_the_tree(files):
    for names, value in ((["one", "same"], 1), (["same", "longer"], 2)):
        notes = FileNotes("test", files, names, stamps(files, names), 1)
        notes.rows[:] = value
        notes.save()
    names = ["one", "same", "longer", "empty"]
    assert FileNotes("test", files, names, stamps(files, names), 1).rows[:, 0].tolist() == [1, 2, 2, 0]
    FileNotes("test", files, names, stamps(files, names), 1).path.write_bytes(b"damaged")
    assert not FileNotes("test", files, names, stamps(files, names), 1).rows.any()
