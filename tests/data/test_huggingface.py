import io
import json
import os
import shutil

import pyarrow as pa
import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from datasets import Sequence as ListOf
from PIL import Image as PillowImage
from pyarrow import parquet

from uniemo.data import huggingface
from uniemo.data.layout import layouts_of, read_manifest
from uniemo.errors import UniEmoError

EMOTIONS = ["anger", "awe", "fear"]  # sorted, as ClassLabel names often are: not EmoSet's order
SCENES = ["beach", "bakery/shop"]
OBJECTS = ["Alarm clock", "Cake"]
TEXT = {"emotion": Value("string")}
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(number, kind="JPEG"):
    out = io.BytesIO()
    PillowImage.new("RGB", (8, 8), (number, 97 * number % 256, 7)).save(out, kind)
    return out.getvalue()


def dataset(rows, **types):
    return Dataset.from_list(rows, features=Features({"image": Image(), **types}))


def write(path, rows, **types):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset(rows, **types).to_parquet(str(path))


def write_plain(path, rows, **types):
    """Write a file without the library's own description of the columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows, schema=pa.schema(list(types.items()))), path)


def string_rows(count, start=0, **more):
    rows = []
    for n in range(start, start + count):
        name = EMOTIONS[n % 3]
        rows.append({"image": {"bytes": picture(n), "path": f"{name}_{n:05d}.jpg"}, "emotion": name, **more})
    return rows


def read(root, **kwargs):
    return read_manifest(root, layouts_of("EmoSet"), **kwargs)


def part(manifest, split):
    """Names below image/, pictures, scenes and objects of a split."""
    rows = [row for row, code in enumerate(manifest.split) if code == ("train", "val", "test").index(split)]
    names = manifest.vocabulary
    scenes = [None if manifest.scene[row] < 0 else names.scenes[manifest.scene[row]] for row in rows]
    objects = [{names.objects[index] for index in manifest.objects(row)} for row in rows]
    pictures = [manifest.path(row).read_bytes() for row in rows]
    return [manifest.name(row).removeprefix("image/") for row in rows], pictures, scenes, objects


def test_parquet_of_class_labels(tmp_path):
    root = tmp_path / "export"
    types = {
        "emotion": ClassLabel(names=EMOTIONS),
        "scene": ClassLabel(names=SCENES),
        "object": ListOf(ClassLabel(names=OBJECTS)),
    }
    rows = [
        {"image": {"bytes": picture(0), "path": "fear_00007.jpg"}, "emotion": 2, "scene": 1, "object": [1, 0]},
        {"image": {"bytes": picture(1, "PNG"), "path": None}, "emotion": 0, "scene": -1, "object": []},
        {"image": {"bytes": picture(2), "path": "a/b/猫.JPG"}, "emotion": 1, "scene": None, "object": None},
    ]
    write(root / "data/train-00000-of-00002.parquet", rows, **types)
    write(root / "data/train-00001-of-00002.parquet", rows[:1], **types)
    write(root / "data/validation-00000-of-00001.parquet", rows[1:2], **types)
    write(root / "data/test-00000-of-00001.parquet", rows[2:], **types)
    manifest = read(root)
    assert manifest.info.layout == "parquet"
    names, pictures, scenes, objects = part(manifest, "train")
    assert names == ["fear/fear_00007.jpg", "anger/anger_00001.png", "awe/猫.jpg", "fear/fear_00007_2.jpg"]
    assert pictures == [picture(0), picture(1, "PNG"), picture(2), picture(0)]
    assert scenes == ["bakery/shop", None, None, "bakery/shop"]
    assert objects == [{"Cake", "Alarm clock"}, set(), set(), {"Cake", "Alarm clock"}]
    assert part(manifest, "val")[1] == [picture(1, "PNG")]
    assert manifest.vocabulary.scenes == tuple(SCENES)
    assert manifest.vocabulary.emotions[:2] == ("amusement", "awe")  # EmoSet's order, all eight
    assert len(manifest.vocabulary.emotions) == 8


def test_saved_dataset_of_strings(tmp_path):
    types = {"label": Value("string"), "scene": Value("string"), "object": Value("string")}
    parts = {}
    for name, count in (("train", 5), ("validation", 2), ("test", 3)):
        rows = [
            {"image": row["image"], "label": row["emotion"].title(), "scene": "beach", "object": "Cake"}
            for row in string_rows(count, 10 * count)
        ]
        parts[name] = dataset(rows, **types)
    DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    manifest = read(tmp_path / "saved")
    assert manifest.info.layout == "hf-disk"
    assert [len(part(manifest, split)[0]) for split in ("train", "val", "test")] == [5, 2, 3]
    assert part(manifest, "val") == (
        ["fear/fear_00020.jpg", "anger/anger_00021.jpg"],
        [picture(20), picture(21)],
        ["beach"] * 2,
        [{"Cake"}] * 2,
    )


def test_one_saved_dataset_knows_its_split(tmp_path):
    rows = [{"image": {"bytes": picture(1), "path": None}, "emotion": 1}]
    write(tmp_path / "parquet/validation.parquet", rows, emotion=ClassLabel(names=EMOTIONS))
    one = Dataset.from_parquet(str(tmp_path / "parquet/validation.parquet"), split="validation", cache_dir=tmp_path)
    one.save_to_disk(str(tmp_path / "one"))
    manifest = read(tmp_path / "one")
    assert manifest.given_splits == ("val",)
    assert manifest.emotions() == ["awe"]


@pytest.mark.parametrize("form", ["struct", "text"])
def test_nested_attributes(tmp_path, form):
    inner = {"scene": ["beach"], "object": ["Cake", "Alarm clock"], "brightness": 1}
    kind = {"scene": ListOf(Value("string")), "object": ListOf(Value("string")), "brightness": Value("int64")}
    value, kind = (json.dumps(inner), Value("string")) if form == "text" else (inner, kind)
    write(tmp_path / "x/train.parquet", string_rows(3, attributes=value), attributes=kind, **TEXT)
    manifest = read(tmp_path / "x")
    assert part(manifest, "train")[2:] == (["beach"] * 3, [{"Cake", "Alarm clock"}] * 3)
    assert manifest.vocabulary.objects == ("Alarm clock", "Cake")


@pytest.mark.parametrize("text", ["{", "[" * 5000])
def test_nested_attributes_that_are_no_json(tmp_path, text):
    write(tmp_path / "x/train.parquet", string_rows(1, attributes=text), attributes=Value("string"), **TEXT)
    with pytest.raises(UniEmoError, match="column attributes must hold JSON; row 0 of train in "):
        read(tmp_path / "x")


def test_plain_bytes_and_paths_of_files(tmp_path):
    root = tmp_path / "x"
    (root / "pictures").mkdir(parents=True)
    (root / "pictures/one.png").write_bytes(picture(1, "PNG"))
    rows = [{"image": {"bytes": None, "path": "pictures/one.png"}, "emotion": "awe"}]
    write_plain(root / "train.parquet", rows, image=IMAGE, emotion=pa.string())
    rows = [{"image": picture(2), "emotion": "fear"}]
    write_plain(root / "test.parquet", rows, image=pa.binary(), emotion=pa.string())
    manifest = read(root)
    assert part(manifest, "train")[1] == [picture(1, "PNG")]
    assert manifest.path(0).is_symlink()
    assert part(manifest, "test")[1] == [picture(2)]
    (root / "pictures/one.png").unlink()
    os.utime(root / "train.parquet", ns=(1, 1))
    with pytest.raises(UniEmoError, match=r"row 0 of .*pictures/one\.png"):
        read(root)


def test_unpacked_once_and_again_when_the_export_changed(tmp_path, cache, monkeypatch):
    path = tmp_path / "x/data/train-00000-of-00001.parquet"
    write(path, string_rows(4), **TEXT)
    os.utime(path, ns=(3, 3))
    tree = read(tmp_path / "x").root
    with monkeypatch.context() as patch:
        patch.setattr(huggingface, "_unpack", None)  # a second start opens no file
        assert read(tmp_path / "x").root == tree
    shutil.rmtree(tree)
    assert len(read(tmp_path / "x")) == 4  # unpacked again where the cache was emptied
    write(path, string_rows(5), **TEXT)
    os.utime(path, ns=(4, 4))
    again = read(tmp_path / "x")
    assert again.root != tree
    assert len(again) == 5
    assert tree.is_dir()  # a run may still train on it
    os.utime(tree, (1, 1))
    os.utime(path, ns=(5, 5))
    read(tmp_path / "x")
    assert not tree.exists()


def test_nothing_is_left_of_an_export_that_fails(tmp_path, cache):
    path = tmp_path / "x/train.parquet"
    write(path, string_rows(40), **TEXT)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = content[len(content) // 2 : -200]
    path.write_bytes(content)
    with pytest.raises(UniEmoError, match=r"export must be readable; .*x is not") as caught:
        read(tmp_path / "x")
    assert "\n" not in str(caught.value)
    assert [item.suffix for item in (cache / "huggingface").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("rows", "kind", "match"),
    [
        ([], pa.string(), "export must"),
        ([{"emotion": 3}], pa.int64(), "must come with their names"),
        ([{"emotion": None}], pa.string(), "lacks one"),
        ([{"emotion": "../up"}], pa.string(), "plain name"),
        ([{"emotion": "awe", "image": {"bytes": None, "path": None}}], pa.string(), "must have bytes or the path"),
        ([{"mood": "awe"}], None, "has columns image, mood"),
    ],
)
def test_refusals(tmp_path, rows, kind, match):
    rows = [{"image": {"bytes": picture(0), "path": None}, **row} for row in rows]
    types = {"mood": pa.string()} if kind is None else {"emotion": kind}
    write_plain(tmp_path / "x/train.parquet", rows, image=IMAGE, **types)
    with pytest.raises(UniEmoError, match=match):
        read(tmp_path / "x")


def test_empty_folder_and_full_disk(tmp_path, monkeypatch):
    (tmp_path / "void").mkdir()
    with pytest.raises(UniEmoError, match="holds neither"):
        read(tmp_path / "void", forced="parquet")
    write(tmp_path / "x/train.parquet", string_rows(1), **TEXT)
    monkeypatch.setattr(huggingface.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UniEmoError, match="set UNIEMO_CACHE"):
        read(tmp_path / "x")
