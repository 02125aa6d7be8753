import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from uniemo.data.array_file import read_arrays, write_arrays
from uniemo.data.emoset_files import NameTable, read_attributes, read_entries
from uniemo.data.index import EmoSetIndex, emoset_records
from uniemo.data.index import emoset as module
from uniemo.errors import UniEmoError
from uniemo.vocabulary import Vocabulary

LONG_AGO = time.time_ns() - 10**13


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tree(emoset_root, tmp_path):
    root = Path(shutil.copytree(emoset_root, tmp_path / "tree"))
    for path in root.rglob("*"):
        _age(path)
    return root


@pytest.fixture
def read(monkeypatch):
    """Names of the annotations that were opened."""
    opened = []
    parse = EmoSetIndex._read_chunk

    def counted(self, paths):
        opened.extend(Path(path).stem for path in paths)
        return parse(self, paths)

    monkeypatch.setattr(EmoSetIndex, "_read_chunk", counted)
    return opened


def _age(path, nanoseconds=LONG_AGO):
    """Give a file an old time of change: what changed within two seconds is read again anyway."""
    os.utime(path, ns=(nanoseconds, nanoseconds))


def _vocabulary(root):
    info = json.loads((root / "info.json").read_text())
    return Vocabulary(*(tuple(info[kind]["label2idx"]) for kind in ("emotion", "scene", "object")))


def _index(root):
    return EmoSetIndex(root, progress=False)


def _records(root, split="train"):
    return _index(root).records(split, _vocabulary(root))


def _entry(root, number=0, split="train"):
    return read_entries(root, split)[number]


def _edit(path, old, new):
    content = path.read_bytes()
    assert old in content
    path.write_bytes(content.replace(old, new))


def _expected(root, split):
    """The plain way: every annotation read in order."""
    vocabulary, entries = _vocabulary(root), read_entries(root, split)
    scenes, objects = NameTable(vocabulary.scenes), NameTable(vocabulary.objects)
    notes = read_attributes(root, entries)
    return {
        "files": [entry.image for entry in entries],
        "emotion": [vocabulary.emotion_index(entry.emotion) for entry in entries],
        "scene": [-1 if note.scene is None else scenes.find(note.scene) for note in notes],
        "objects": [tuple(sorted({objects.find(name) for name in note.objects} - {-1})) for note in notes],
    }


def _agrees(records, expected):
    assert list(records.files) == expected["files"]
    assert records.emotion.tolist() == expected["emotion"]
    assert records.scene.tolist() == expected["scene"]
    assert list(records.objects) == expected["objects"]


def test_records_are_those_of_the_plain_way_first_and_later(tree, read):
    first = _entry(tree)
    note = {"emotion": first.emotion, "scene": "Forest ", "object": ["worm", "Cake", "cake", "Cake "]}
    (tree / first.annotation).write_text(json.dumps(note))
    _age(tree / first.annotation)
    for start in range(3):
        for split in ("val", "train", "test"):
            _agrees(_records(tree, split), _expected(tree, split))
        assert len(read) == 64, start  # the first start alone reads, each once


def test_stamps_and_masks(tree):
    (tree / _entry(tree, 1).image.replace("image/", "mask/").replace(".jpg", ".png")).unlink()
    records = _records(tree)
    for file, (size, changed) in zip(records.files, records.stamp.tolist(), strict=True):
        look = (tree / file).stat()
        assert (look.st_size, look.st_mtime_ns) == (size, changed)
    assert records.masks[1] is None
    assert all((tree / name).is_file() for i, name in enumerate(records.masks) if i != 1)
    shutil.rmtree(tree / "mask")
    assert _records(tree).masks is None


def test_changed_annotation_of_the_same_length_is_read_again_and_nothing_else(tree, read):
    before = _records(tree)
    row = int(np.flatnonzero(before.scene >= 0)[0])
    path = tree / _entry(tree, row).annotation
    size, name = path.stat().st_size, _vocabulary(tree).scenes[before.scene[row]]
    read.clear()
    _edit(path, f'"scene": "{name}"'.encode(), f'"scene":{" " * (len(name) - 3)}"moon"'.encode())
    _age(path, LONG_AGO + 1)
    assert path.stat().st_size == size
    with pytest.warns(UserWarning, match="moon"):
        after = _records(tree)
    assert read == [path.stem]
    assert after.scene[row] == -1
    assert np.delete(after.scene, row).tolist() == np.delete(before.scene, row).tolist()
    read.clear()
    with pytest.warns(UserWarning, match="moon"):
        _records(tree)
    assert read == []


def test_change_within_the_clock_of_the_disk_is_not_missed(tree, read):
    path = tree / _entry(tree).annotation
    now = time.time_ns()
    _age(path, now)
    _records(tree)
    note = json.loads(path.read_text())
    path.write_text(json.dumps({**note, "scene": "beach"}).ljust(path.stat().st_size))
    _age(path, now)  # as on a disk that counts in seconds
    read.clear()
    records = _records(tree)
    assert read == [path.stem]
    assert _vocabulary(tree).scenes[records.scene[0]] == "beach"


def test_added_and_removed_annotations_and_images(tree, read):
    _records(tree)
    entry = _entry(tree)
    for name, kind, suffix in ((entry.image, "image", ".jpg"), (entry.annotation, "annotation", ".json")):
        shutil.copy(tree / name, tree / kind / entry.emotion / f"a_new{suffix}")  # sorts before all others
        _age(tree / kind / entry.emotion / f"a_new{suffix}")
    lines = json.loads((tree / "train.json").read_text())
    lines.insert(5, [entry.emotion, f"image/{entry.emotion}/a_new.jpg", f"annotation/{entry.emotion}/a_new.json"])
    (tree / "train.json").write_text(json.dumps(lines))
    read.clear()
    records = _records(tree)
    assert read == ["a_new"]
    assert records.files[5].endswith("a_new.jpg")
    _agrees(records, _expected(tree, "train"))
    _agrees(_records(tree, "val"), _expected(tree, "val"))

    (tree / entry.annotation).unlink()
    with pytest.raises(UniEmoError, match=rf"1 of 33 are missing, first .*{Path(entry.annotation).name}"):
        _index(tree).check(("train",))
    shutil.copy(tree / "annotation" / entry.emotion / "a_new.json", tree / entry.annotation)
    (tree / entry.image).unlink()
    with pytest.raises(UniEmoError, match=rf"first .*{Path(entry.image).name}: restore"):
        _records(tree)
    _index(tree).check(("val", "test"))  # the others can be used
    _agrees(_records(tree, "val"), _expected(tree, "val"))


def test_changed_image_changes_the_fingerprint_but_reads_no_annotation(tree, read):
    before = {split: _records(tree, split).fingerprint() for split in ("train", "val")}
    read.clear()
    path = tree / _entry(tree).image
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    _age(path, LONG_AGO + 1)
    assert _records(tree, "train").fingerprint() != before["train"]
    assert _records(tree, "val").fingerprint() == before["val"]
    assert read == []


def test_changed_split_of_the_same_length(tree, read):
    _records(tree)
    lines = json.loads((tree / "val.json").read_text())
    (tree / "val.json").write_text(json.dumps(lines[::-1], indent=1) + "\n")
    read.clear()
    records = _records(tree, "val")
    assert list(records.files) == [line[1] for line in lines[::-1]]
    assert read == []


def test_old_info_takes_names_from_all_splits(tree, read):
    notes = [n for split in ("train", "val", "test") for n in read_attributes(tree, read_entries(tree, split))]
    scenes, objects = _index(tree).attribute_names()
    assert scenes == tuple(sorted({note.scene for note in notes if note.scene}))
    assert sorted(objects) == sorted({name for note in notes for name in note.objects})
    read.clear()
    assert _index(tree).attribute_names() == (scenes, objects)
    assert read == []
    gone = next(note.scene for note in notes if note.scene)  # a name that no annotation has any more is forgotten
    for path in (tree / "annotation").rglob("*.json"):
        note = json.loads(path.read_text())
        if note.get("scene") == gone:
            del note["scene"]
            path.write_text(json.dumps(note))
    assert gone not in _index(tree).attribute_names()[0]


def test_unknown_names_warn_at_every_start(tree):
    path = tree / _entry(tree).annotation
    path.write_text(json.dumps({"emotion": "awe", "scene": "moon base", "object": ["Cake", "rover", "rover"]}))
    for _ in range(2):
        with pytest.warns(UserWarning, match="are not in info") as caught:
            records = _records(tree)
        texts = [str(one.message) for one in caught]
        assert any("1 scene names" in text and "moon base" in text for text in texts)
        assert any("2 object names" in text and "rover" in text for text in texts)
        assert records.scene[0] == -1
        assert records.objects[0] == (_vocabulary(tree).objects.index("Cake"),)


def test_another_vocabulary_reads_nothing_again(tree, read):
    vocabulary = _vocabulary(tree)
    first = _records(tree)
    read.clear()
    other = Vocabulary(vocabulary.emotions[::-1], vocabulary.scenes[::-1], vocabulary.objects[1:])
    with pytest.warns(UserWarning, match=vocabulary.objects[0]):
        second = emoset_records(tree, "train", other, progress=False)
    assert read == []
    assert second.num_objects == len(vocabulary.objects) - 1
    assert [other.emotions[i] for i in second.emotion] == [vocabulary.emotions[i] for i in first.emotion]
    with pytest.raises(UniEmoError, match="emotion must be one of"):
        emoset_records(tree, "train", Vocabulary(("joy",)), progress=False)


@pytest.mark.parametrize("damage", ["truncated", "flipped", "format"])
def test_damaged_or_foreign_index_is_made_again(tree, cache, read, damage):
    _records(tree)
    for path in cache.glob("index/*/*.*"):
        if damage == "format" and path.suffix == ".ledger":
            header, arrays = read_arrays(path)
            write_arrays(path, arrays, {**header, "format": -1})
        elif damage != "format":
            content = bytearray(path.read_bytes())
            content[len(content) // 2] ^= 255
            path.write_bytes(content[:-50] if damage == "truncated" else content)
    read.clear()
    _agrees(_records(tree), _expected(tree, "train"))
    assert len(read) == 64


def test_unusable_annotations_are_counted_and_the_rest_is_kept(tree, read):
    first, second = _entry(tree, 3), _entry(tree, 7)
    original = (tree / first.annotation).read_bytes()
    (tree / first.annotation).write_text("no json")
    (tree / second.annotation).write_text('{"scene": ["a", "b"]}')
    with pytest.raises(UniEmoError, match=r"2 of train are not, first .* restore them") as caught:
        _records(tree)
    assert "\n" not in str(caught.value)
    assert str(tree) in str(caught.value)
    _agrees(_records(tree, "test"), _expected(tree, "test"))
    (tree / first.annotation).write_bytes(original)
    (tree / second.annotation).write_bytes(original)
    read.clear()
    _agrees(_records(tree), _expected(tree, "train"))
    assert sorted(read) == sorted([Path(first.annotation).stem, Path(second.annotation).stem])


def test_interrupted_reading_goes_on_where_it_was(tree, monkeypatch):
    monkeypatch.setattr(module, "_CHUNK", 8)
    monkeypatch.setattr(module, "THREADS", 1)
    parse, calls = EmoSetIndex._read_chunk, []

    def stopped(self, paths):
        calls.append(len(paths))
        if len(calls) == 4:
            raise KeyboardInterrupt
        return parse(self, paths)

    monkeypatch.setattr(EmoSetIndex, "_read_chunk", stopped)
    with pytest.raises(KeyboardInterrupt):
        _records(tree)
    calls[:] = [0] * 4
    _agrees(_records(tree), _expected(tree, "train"))
    assert sum(calls) == 64 - 24


def test_broken_split_files_do_not_hinder_the_others(tree):
    (tree / "val.json").write_text("no json")
    (tree / "test.json").unlink()
    _agrees(_records(tree), _expected(tree, "train"))
    with pytest.raises(UniEmoError, match=r"val\.json must be JSON"):
        _index(tree).check(("val",))
    with pytest.raises(UniEmoError, match=r"test\.json does not exist"):
        _records(tree, "test")


def test_one_index_for_one_folder_whatever_it_is_called(tree, tmp_path, cache, read):
    (tmp_path / "link").symlink_to(tree)
    _records(tree)
    read.clear()
    records = _records(tmp_path / "link")
    assert read == []
    assert records.root == tmp_path / "link"
    assert len(list(cache.glob("index/*"))) == 1


def test_index_of_a_tree_that_is_gone_is_removed_after_a_week(tree, tmp_path, cache):
    other = Path(shutil.copytree(tree, tmp_path / "other"))
    _records(other)
    shutil.rmtree(other)
    (old,) = cache.glob("index/*/tree.ledger")
    _records(Path(shutil.copytree(tree, tmp_path / "second")))
    assert old.is_file()  # it may be a disk that is not mounted today
    _age(old, time.time_ns() - 8 * 86_400 * 10**9)
    _records(tree)
    assert not old.parent.exists()


def test_labels_are_mapped_not_copied(tree):
    records = _records(tree)
    for array in (records.emotion, records.scene, records.sample_id, records.stamp, records.files.data):
        while type(array) is np.ndarray:
            array = array.base
        assert isinstance(array, np.memmap)


def _together(root, barrier, queue):
    barrier.wait()
    queue.put(_records(root).fingerprint())


def test_processes_that_start_together_agree(tree):
    import multiprocessing

    context = multiprocessing.get_context("fork")
    barrier, queue = context.Barrier(3), context.Queue()
    processes = [context.Process(target=_together, args=(tree, barrier, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    found = {queue.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert found == {_records(tree).fingerprint()}
