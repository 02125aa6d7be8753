import json

import pytest
from small import paint
from trees import drawn_index

from uniemo.errors import UniEmoError
from uniemo.metrics.image_sets import label_space, read_images
from uniemo.taxonomy import MIKELS_8


def test_class_folders_in_any_case(tmp_path):
    paint(tmp_path, ("Awe", "FEAR"), count=2)
    (tmp_path / "FEAR" / "more").mkdir()
    (tmp_path / "FEAR" / "0.png").rename(tmp_path / "FEAR" / "more" / "9.PNG")
    (tmp_path / "Awe" / "notes.txt").write_text("no picture")
    (tmp_path / "Awe" / ".hidden.png").write_text("left by an archive")
    paint(tmp_path, ("boredom",), count=1)
    found = read_images(tmp_path)
    assert dict(zip(found.names, found.emotions, strict=True)) == {
        "Awe/0.png": "awe",
        "Awe/1.png": "awe",
        "FEAR/1.png": "fear",
        "FEAR/more/9.PNG": "fear",
    }
    assert (found.layout, found.dataset, found.split, found.ignored) == ("folders", None, "all", 2)
    assert any("boredom" in note for note in found.notes)


def test_a_dataset_is_read_by_its_splits(emoset_root):
    test, val, every = read_images(emoset_root), read_images(emoset_root, "val"), read_images(emoset_root, "all")
    assert (test.dataset, test.split, len(test)) == ("EmoSet", "test", 16)
    assert not set(test.names) & set(val.names)
    assert set(test.names) | set(val.names) < set(every.names)
    assert len(read_images(emoset_root, training=True)) == 32
    assert label_space(test, preferred=test.classes) == MIKELS_8


def test_a_dataset_without_splits(tmp_path):
    root = paint(tmp_path / "emotion_dataset", MIKELS_8, count=10).parent
    every = read_images(root)
    assert (every.dataset, every.split, len(every)) == ("FI", "all", 80)
    assert any("names no splits" in note for note in every.notes)
    parts = [read_images(root, split) for split in ("train", "val", "test")]
    assert sum(map(len, parts)) == 80
    assert set(parts[2].by_emotion()) == set(MIKELS_8)
    assert read_images(root, training=True).names == parts[0].names


def test_an_index(tmp_path):
    drawn_index(tmp_path, ("awe", "fear"), per_emotion=2)
    rows = [json.loads(line) for line in (tmp_path / "index.jsonl").read_text().splitlines()]
    rows[0]["weights"] = {"awe": 0.3, "fear": 0.7}
    rows[0]["space"], rows[1]["space"] = "mixture", "gaussian"
    (tmp_path / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for path in (tmp_path, tmp_path / "index.jsonl"):
        found = read_images(path)
        assert found.counts() == {"fear": 3, "awe": 1}
        assert found.layout == "index"
        assert found.sampler == "gaussian, mixture"
        assert found.files()[0].is_file()
        assert "1 images" in found.notes[0]
    (tmp_path / rows[1]["file"]).unlink()
    with pytest.raises(UniEmoError, match=r"awe_001\.png"):
        read_images(tmp_path)


def test_what_cannot_be_read(tmp_path):
    (tmp_path / "note.txt").write_text("x")
    with pytest.raises(UniEmoError, match=r"--real .* does not exist"):
        read_images(tmp_path / "nothing", option="--real")
    with pytest.raises(UniEmoError, match="neither"):
        read_images(tmp_path / "note.txt")
    with pytest.raises(UniEmoError, match="folders named after emotions"):
        read_images(tmp_path)
    with pytest.raises(UniEmoError, match="--split must be all"):
        read_images(paint(tmp_path / "some", ("fear",)), "test")


def test_label_spaces(tmp_path):
    six = read_images(paint(tmp_path / "six", ("joy", "fear")))
    eight = read_images(paint(tmp_path / "eight", ("awe", "fear")))
    assert len(label_space(six)) == 6
    assert label_space(eight) == MIKELS_8
    with pytest.raises(UniEmoError, match="one label space"):
        label_space(six, eight)
