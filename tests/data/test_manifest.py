"""The table of a tree is made once, shared by processes, and made again when the tree changes."""

import json
import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from uniemo.data import EmoSet, emoset
from uniemo.data.layout import layouts_of, read_manifest
from uniemo.data.manifest import SPLITS, Info, make_manifest
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

LONG_AGO = time.time_ns() - 10**13


@pytest.fixture
def tree(emoset_root, tmp_path):
    root = Path(shutil.copytree(emoset_root, tmp_path / "tree"))
    for path in root.rglob("*"):
        _age(path)
    return root


@pytest.fixture
def read(monkeypatch):
    """Number of annotations of each reading of a tree."""
    counts = []
    read_tree = emoset.read_tree

    def counted(root):
        rows = read_tree(root)
        counts.append(len(rows.columns["path"]))
        return rows

    layouts = tuple(type(one)(one.name, one.dataset, one.tree, one.matches, counted) for one in EmoSet.layouts)
    monkeypatch.setattr(EmoSet, "layouts", layouts)
    return counts


def _age(path, nanoseconds=LONG_AGO):
    """Give a file an old time of change: a tree that changed within two seconds is read again anyway."""
    os.utime(path, ns=(nanoseconds, nanoseconds))


def _open(root):
    return read_manifest(root, layouts_of("EmoSet"))


def _expected(root):
    """The plain way: every annotation read in order."""
    info = json.loads((root / "info.json").read_text())
    names = {kind: list(info[kind]["label2idx"]) for kind in ("emotion", "scene", "object")}
    rows = []
    for code, split in enumerate(SPLITS):
        for emotion, image, annotation in json.loads((root / f"{split}.json").read_text()):
            note = json.loads((root / annotation).read_text())
            scene = names["scene"].index(note["scene"]) if "scene" in note else -1
            objects = sorted({names["object"].index(name) for name in note.get("object", [])})
            rows.append((image, code, names["emotion"].index(emotion), scene, objects))
    return rows


def _rows(manifest):
    objects = [manifest.objects(row).tolist() for row in range(len(manifest))]
    numbers = (manifest.split.tolist(), manifest.emotion.tolist(), manifest.scene.tolist())
    return list(zip(manifest.names(), *numbers, objects, strict=True))


def test_the_table_is_that_of_the_plain_way_first_and_later(tree, read):
    for _ in range(3):
        assert _rows(_open(tree)) == _expected(tree)
    assert read == [64]


@pytest.mark.parametrize("change", ["annotation", "image", "new file", "list"])
def test_any_change_of_the_tree_is_seen(tree, read, change):
    before = _open(tree)
    emotion, image, annotation = json.loads((tree / "train.json").read_text())[0]
    if change == "annotation":  # of the same length
        path = tree / annotation
        text = json.dumps({"emotion": emotion, "scene": "beach"})
        path.write_text(text.ljust(path.stat().st_size))
    elif change == "image":
        path = tree / image
        content = bytearray(path.read_bytes())
        content[-3] ^= 1
        path.write_bytes(content)
    elif change == "new file":
        path = tree / "image" / emotion / "a_new.jpg"
        shutil.copy(tree / image, path)
    else:
        path = tree / "val.json"
        path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
    _age(path, LONG_AGO + 1)
    after = _open(tree)
    assert len(read) == 2
    assert _rows(after) == _expected(tree)
    same = {"annotation": True, "new file": True}.get(change, False)
    assert (before.fingerprint() == after.fingerprint()) == same
    _open(tree)
    assert len(read) == 2


def test_change_within_the_clock_of_the_disk_is_not_missed(tree):
    annotation = tree / json.loads((tree / "train.json").read_text())[0][2]
    now = time.time_ns()
    _age(annotation, now)
    _open(tree)
    text = json.dumps({**json.loads(annotation.read_text()), "scene": "beach"})
    annotation.write_text(text.ljust(annotation.stat().st_size))
    _age(annotation, now)  # as on a disk that counts in seconds
    manifest = _open(tree)
    assert manifest.vocabulary.scenes[manifest.scene[0]] == "beach"


def test_broken_split_files_do_not_hinder_the_others(tree):
    (tree / "val.json").write_text("no json")
    (tree / "test.json").unlink()
    data = EmoSet(str(tree), 32, None)
    assert len(data.records("train")) == 32
    for split, match in (("val", r"val\.json must be JSON"), ("test", r"test\.json does not exist")):
        with pytest.raises(UniEmoError, match=match):
            data.records(split)


def test_one_table_for_one_folder_whatever_it_is_called(tree, tmp_path, cache, read):
    (tmp_path / "link").symlink_to(tree)
    _open(tree)
    assert _open(tmp_path / "link").root == tmp_path / "link"
    assert len(read) == 1


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_table_is_made_again(tree, cache, damage):
    _open(tree)
    (path,) = cache.glob("manifests/*.arrow")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 255
    path.write_bytes(content[:-50] if damage == "truncated" else content)
    assert _rows(_open(tree)) == _expected(tree)


def test_old_tables_go_after_a_day(tree, cache):
    _open(tree)
    (old,) = cache.glob("manifests/*.arrow")
    _age(tree / "info.json", LONG_AGO + 1)
    _open(tree)
    assert old.is_file()  # a run may still use it
    _age(old, time.time_ns() - 25 * 3600 * 10**9)
    _age(tree / "info.json", LONG_AGO + 2)
    _open(tree)
    assert not old.is_file()


def test_workers_map_the_table_and_take_keeps_the_numbers(tree, cache):
    manifest = _open(tree)
    part = manifest.take([5, 3, 9]).take([2, 0])
    sent = pickle.dumps(part)
    again = pickle.loads(sent)
    assert again.names() == part.names() == [manifest.name(9), manifest.name(5)]
    assert again.sample_id.tolist() == [9, 5]
    assert len(sent) < 4000  # no labels
    for path in cache.glob("manifests/*.arrow"):
        path.unlink()
    with pytest.raises(UniEmoError, match="must stay in the cache"):
        pickle.loads(sent)


def test_a_manifest_of_lists(tmp_path):
    info = Info(vocabulary=Vocabulary(("awe", "fear"), (), ("Cake", "rover")))
    names = ["a/1.jpg", "b\udcff.jpg"]  # not all file names are text
    manifest = make_manifest(tmp_path, info, {"path": names, "emotion": [1, 0], "objects": [[0, 1], []]})
    assert manifest.names() == names
    assert manifest.emotions() == ["fear", "awe"]
    assert manifest.object_matrix().tolist() == [[True, True], [False, False]]
    assert manifest.scene.tolist() == [-1, -1]
    assert pickle.loads(pickle.dumps(manifest)).names() == names
    assert len(make_manifest(tmp_path, info, {"path": [], "emotion": []})) == 0
    np.testing.assert_array_equal(manifest.take([1]).emotion, [0])


def test_distributions_of_a_part_and_of_single_labels(tmp_path):
    info = Info(vocabulary=Vocabulary(("awe", "fear")))
    columns = {"path": ["1.jpg", "2.jpg"], "emotion": [0, 1]}
    votes = make_manifest(tmp_path, info, {**columns, "distribution": [[0.75, 0.25], [0.5, 0.5]]})
    assert pickle.loads(pickle.dumps(votes.take([1]))).distribution(0).tolist() == [0.5, 0.5]
    other = make_manifest(tmp_path, info, {**columns, "distribution": [[0.75, 0.25], [0.25, 0.75]]})
    single = make_manifest(tmp_path, info, columns)
    assert (votes.has_distributions(), single.has_distributions()) == (True, False)
    assert single.take([1]).distribution(0).tolist() == [0.0, 1.0]
    assert len({manifest.fingerprint() for manifest in (votes, other, single)}) == 3
