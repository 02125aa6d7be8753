import pickle
from pathlib import Path

import numpy as np
import pytest

from uniemo.data.array_file import read_arrays, write_arrays
from uniemo.data.dataset import Records
from uniemo.data.packed import PackedLists, PackedOptional, PackedStrings, dense
from uniemo.errors import UniEmoError

NAMES = ["image/awe/awe_1.jpg", "", "猫/köpek.JPG", b"caf\xe9.jpg".decode(errors="surrogateescape"), "x"]
LISTS = [(3, 1), (), (7,), (), (0, 0, 2)]


def _records(count=5, **more):
    return Records(
        root=Path("root"),
        files=NAMES[:count],
        emotion=np.arange(count),
        scene=np.full(count, -1),
        objects=LISTS[:count],
        num_objects=8,
        sample_id=np.arange(count),
        masks=["m.png", None, "n.png", None, None][:count],
        **more,
    )


@pytest.mark.parametrize(
    ("kind", "plain"),
    [(PackedStrings, NAMES), (PackedOptional, ["a", None, "ü", None]), (PackedLists, LISTS), (PackedStrings, [])],
)
def test_a_packed_sequence_is_the_plain_one(kind, plain):
    packed = kind.pack(plain)
    assert len(packed) == len(plain)
    assert list(packed) == plain
    assert packed == plain
    assert [packed[-i - 1] for i in range(len(plain))] == plain[::-1]
    assert list(packed[1:3]) == plain[1:3]
    assert list(packed[::-2]) == plain[::-2]
    assert kind.pack(packed) is packed
    assert list(pickle.loads(pickle.dumps(packed))) == plain
    for outside in (len(plain), -len(plain) - 1):
        with pytest.raises(IndexError):
            packed[outside]


def test_a_part_of_a_part_shares_the_buffer():
    packed = PackedStrings.pack(NAMES)
    part = packed.take(np.array([4, 2, 0, 0]))[1:]
    assert list(part) == [NAMES[2], NAMES[0], NAMES[0]]
    assert part.data is packed.data
    assert part != NAMES
    long = PackedStrings.pack(["a"] * 10_000)
    assert long[5:8].rows.base is None or long[5:8].rows.base.nbytes < 100  # keeps no array as long as the whole


def test_dense_leaves_out_what_is_not_there():
    part = dense(PackedLists.pack(LISTS).take(np.array([4, 1, 0])))
    assert list(part) == [LISTS[4], (), LISTS[0]]
    assert part.values.tolist() == [0, 0, 2, 3, 1]


def test_records_keep_their_faces():
    records = _records()
    assert records.files[0] == NAMES[0]
    assert isinstance(records.files, PackedStrings)
    assert records.objects[4] == (0, 0, 2)
    assert (records.masks[0], records.masks[1]) == ("m.png", None)
    part = records.subset([4, 2]).subset(np.array([1]))
    assert (list(part.files), part.objects[0], part.masks[0]) == ([NAMES[2]], (7,), "n.png")
    assert part.sample_id.tolist() == [2]
    assert part.files.data is records.files.data


def test_fingerprint_changes_with_names_labels_sizes_and_times(tmp_path):
    stamp = np.array([[10, 1000], [20, 2000]])
    first = _records(2, stamp=stamp).fingerprint()
    assert first == _records(5, stamp=np.repeat(stamp, [1, 4], axis=0)).subset([0, 1]).fingerprint()
    assert first != _records(2, stamp=stamp + np.array([[0, 0], [0, 1]])).fingerprint()
    assert first != _records(2, stamp=stamp[::-1]).fingerprint()
    (tmp_path / "a").write_bytes(b"x")
    plain = Records(tmp_path, ["a"], np.array([1]), np.array([-1]), [()], 0, np.array([0]))
    look = (tmp_path / "a").stat()
    known = Records(
        tmp_path, ["a"], np.array([1]), np.array([-1]), [()], 0, np.array([0]), stamp=np.array([[1, look.st_mtime_ns]])
    )
    assert plain.fingerprint() == known.fingerprint()


def test_array_file_comes_back_mapped(tmp_path):
    arrays = {"a": np.arange(7, dtype=np.int16).reshape(7, 1), "none": np.zeros((0, 2)), "b": np.array([1.5, -2])}
    write_arrays(tmp_path / "x", arrays, {"text": "ä"})
    header, back = read_arrays(tmp_path / "x")
    assert header == {"text": "ä"}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
        assert not back[name].flags.writeable
    assert list(tmp_path.iterdir()) == [tmp_path / "x"]


@pytest.mark.parametrize("damage", ["short", "flipped", "empty", "other", "absent"])
def test_damaged_array_file_counts_as_none(tmp_path, damage):
    path = tmp_path / "x"
    write_arrays(path, {"a": np.arange(100)}, {})
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[200] ^= 1
    path.write_bytes({"short": content[:-9], "empty": b"", "other": b"something else entirely"}.get(damage, content))
    if damage == "absent":
        path.unlink()
    assert read_arrays(path) is None


def _mapped_records(path, count=20_000):
    files = PackedStrings.pack([f"image/awe/awe_{i:05d}.jpg" for i in range(count)])
    arrays = {"data": files.data, "offsets": files.offsets, "label": np.arange(count)}
    write_arrays(path, arrays, {})
    _, back = read_arrays(path)
    names = PackedStrings(back["data"], back["offsets"])
    lists = PackedLists(np.zeros(0, np.int32), np.zeros(count + 1, np.int64))
    return Records(Path(), names, back["label"], back["label"], lists, 0, back["label"])


def test_mapped_labels_travel_as_their_place_in_the_file(tmp_path):
    records = _mapped_records(tmp_path / "x")
    sent = pickle.dumps(records)
    assert len(sent) < len(pickle.dumps(records.objects)) + 2000  # 940 kB of names and labels stay where they are
    for _ in range(2):  # as a worker gets them, and a worker's worker
        records = pickle.loads(sent)
        assert records.files[19_999] == "image/awe/awe_19999.jpg"
        assert records.emotion[-1] == 19_999
        assert not records.emotion.flags.owndata
        sent, before = pickle.dumps(records), sent
        assert len(sent) < len(before) + 1000


def test_vanished_file_is_explained(tmp_path):
    sent = pickle.dumps(_mapped_records(tmp_path / "x", 10))
    (tmp_path / "x").unlink()
    with pytest.raises(UniEmoError, match="start again"):
        pickle.loads(sent)
