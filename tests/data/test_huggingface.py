import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from uniemo.data import huggingface
from uniemo.data.emoset_files import read_attributes, read_entries
from uniemo.data.huggingface import LAYOUTS, unpack
from uniemo.data.listing import find_layout
from uniemo.errors import UniEmoError

pa = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

EMOTIONS = ["anger", "awe", "fear"]  # sorted, as ClassLabel names often are: not EmoSet's order
SCENES = ["beach", "bakery/shop"]
OBJECTS = ["Alarm clock", "Cake"]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _picture(number, kind="JPEG"):
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (number, 97 * number % 256, 7)).save(out, kind)
    return out.getvalue()


def _label(names):
    return {"names": names, "_type": "ClassLabel"}


def _table(rows, features=None, **types):
    """Return a table; ``features`` goes where Hugging Face datasets describes the columns."""
    columns = {"image": IMAGE, **types}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})} if features else None
    return pa.Table.from_pylist(rows, schema=pa.schema(list(columns.items()), metadata=metadata))


def _write_parquet(path, table):
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=2)


def _write_arrow(folder, table, **state):
    folder.mkdir(parents=True)
    with (
        pa.OSFile(str(folder / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    (folder / "state.json").write_text(
        json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}], **state})
    )


def _string_rows(count, start=0, **more):
    rows = []
    for n in range(start, start + count):
        name = EMOTIONS[n % 3]
        rows.append({"image": {"bytes": _picture(n), "path": f"{name}_{n:05d}.jpg"}, "emotion": name, **more})
    return rows


def _pictures(tree, split):
    return [(tree / entry.image).read_bytes() for entry in read_entries(tree, split)]


def _layout(root):
    return find_layout(root, LAYOUTS)[0].name


def test_parquet_of_class_labels_becomes_an_emoset_tree(tmp_path):
    root = tmp_path / "export"
    features = {
        "image": {"_type": "Image"},
        "emotion": _label(EMOTIONS),
        "scene": _label(SCENES),
        "object": {"feature": _label(OBJECTS), "_type": "List"},
    }
    types = {"emotion": pa.int64(), "scene": pa.int64(), "object": pa.list_(pa.int64())}
    rows = [
        {"image": {"bytes": _picture(0), "path": "fear_00007.jpg"}, "emotion": 2, "scene": 1, "object": [1, 0]},
        {"image": {"bytes": _picture(1, "PNG"), "path": None}, "emotion": 0, "scene": -1, "object": []},
        {"image": {"bytes": _picture(2), "path": "a/b/猫.JPG"}, "emotion": 1, "scene": None, "object": None},
    ]
    _write_parquet(root / "data/train-00000-of-00002.parquet", _table(rows, features, **types))
    _write_parquet(root / "data/train-00001-of-00002.parquet", _table(rows[:1], features, **types))
    _write_parquet(root / "data/validation-00000-of-00001.parquet", _table(rows[1:2], features, **types))
    _write_parquet(root / "data/test-00000-of-00001.parquet", _table(rows[2:], features, **types))
    assert _layout(root) == "parquet"
    tree = unpack(root, progress=False)
    entries = read_entries(tree, "train")
    assert [entry.emotion for entry in entries] == ["fear", "anger", "awe", "fear"]
    assert [entry.image for entry in entries] == [
        "image/fear/fear_00007.jpg",
        "image/anger/anger_00001.png",
        "image/awe/猫.jpg",
        "image/fear/fear_00007_2.jpg",
    ]
    assert _pictures(tree, "train") == [_picture(0), _picture(1, "PNG"), _picture(2), _picture(0)]
    assert _pictures(tree, "val") == [_picture(1, "PNG")]
    notes = read_attributes(tree, entries)
    assert [note.scene for note in notes] == ["bakery/shop", None, None, "bakery/shop"]
    assert [note.objects for note in notes] == [("Cake", "Alarm clock"), (), (), ("Cake", "Alarm clock")]
    info = json.loads((tree / "info.json").read_text())
    assert list(info["scene"]["label2idx"]) == SCENES
    assert list(info["emotion"]["label2idx"])[:2] == ["amusement", "awe"]  # EmoSet's order, all eight


def test_saved_dataset_of_strings(tmp_path):
    root = tmp_path / "saved"
    types = {"label": pa.string(), "scene": pa.string(), "object": pa.string(), "brightness": pa.float64()}
    for name, count in (("train", 5), ("validation", 2), ("test", 3)):
        rows = [
            {
                "image": row["image"],
                "label": row["emotion"].title(),
                "scene": "beach",
                "object": "Cake",
                "brightness": 0.4,
            }
            for row in _string_rows(count, 10 * count)
        ]
        _write_arrow(root / name, _table(rows, **types))
    (root / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "validation", "test"]}))
    assert _layout(root) == "hf-disk"
    tree = unpack(root, progress=False)
    assert [len(read_entries(tree, split)) for split in ("train", "val", "test")] == [5, 2, 3]
    assert read_entries(tree, "train")[0].emotion == EMOTIONS[50 % 3]
    note = json.loads((tree / read_entries(tree, "val")[0].annotation).read_text())
    assert note == {
        "image_id": "fear_00020",
        "emotion": "fear",
        "scene": "beach",
        "object": ["Cake"],
        "brightness": 0.4,
    }


def test_one_saved_dataset_knows_its_split_and_its_columns(tmp_path):
    table = _table([{"image": {"bytes": _picture(1), "path": None}, "emotion": 1}], emotion=pa.int64())
    _write_arrow(tmp_path / "one", table, _split="validation")
    (tmp_path / "one/dataset_info.json").write_text(json.dumps({"features": {"emotion": _label(EMOTIONS)}}))
    tree = unpack(tmp_path / "one", progress=False)
    assert [entry.emotion for entry in read_entries(tree, "val")] == ["awe"]
    assert not (tree / "train.json").exists()


@pytest.mark.parametrize("form", ["struct", "text"])
def test_nested_attributes(tmp_path, form):
    inner = {"scene": ["beach"], "object": ["Cake", "Alarm clock"], "human_action": "boxing ", "brightness": 1}
    if form == "text":
        value, kind = json.dumps(inner), pa.string()
    else:
        value = inner
        kind = pa.struct(
            [
                ("scene", pa.list_(pa.string())),
                ("object", pa.list_(pa.string())),
                ("human_action", pa.string()),
                ("brightness", pa.int64()),
            ]
        )
    table = _table(_string_rows(3, attributes=value), emotion=pa.string(), attributes=kind)
    _write_parquet(tmp_path / "x/train.parquet", table)
    tree = unpack(tmp_path / "x", progress=False)
    note = json.loads((tree / read_entries(tree, "train")[0].annotation).read_text())
    assert (note["scene"], note["object"], note["human_action"]) == ("beach", ["Cake", "Alarm clock"], "boxing ")
    assert list(json.loads((tree / "info.json").read_text())["object"]["label2idx"]) == ["Alarm clock", "Cake"]


def test_plain_bytes_and_paths_of_files(tmp_path):
    root = tmp_path / "x"
    (root / "pictures").mkdir(parents=True)
    (root / "pictures/one.png").write_bytes(_picture(1, "PNG"))
    rows = [{"image": {"bytes": None, "path": "pictures/one.png"}, "emotion": "awe"}]
    _write_parquet(root / "train.parquet", _table(rows, emotion=pa.string()))
    plain = pa.table({"image": [_picture(2)], "emotion": ["fear"]})
    _write_parquet(root / "test.parquet", plain)
    tree = unpack(root, progress=False)
    assert _pictures(tree, "train") == [_picture(1, "PNG")]
    assert (tree / read_entries(tree, "train")[0].image).is_symlink()
    assert _pictures(tree, "test") == [_picture(2)]
    (root / "pictures/one.png").unlink()
    os.utime(root / "train.parquet", ns=(1, 1))
    with pytest.raises(UniEmoError, match=r"row 0 of .*pictures/one\.png"):
        unpack(root, progress=False)


def test_unpacked_once_and_again_when_the_export_changed(tmp_path, cache, monkeypatch):
    path = tmp_path / "x/data/train-00000-of-00001.parquet"
    _write_parquet(path, _table(_string_rows(4), emotion=pa.string()))
    tree = unpack(tmp_path / "x", progress=False)
    with monkeypatch.context() as patch:
        patch.setattr(huggingface, "rows", None)  # a second start opens no file
        assert unpack(tmp_path / "x") == tree
    _write_parquet(path, _table(_string_rows(5), emotion=pa.string()))
    again = unpack(tmp_path / "x", progress=False)
    assert again != tree
    assert len(read_entries(again, "train")) == 5
    assert tree.is_dir()  # a run may still train on it
    os.utime(tree, (1, 1))
    os.utime(path, ns=(5, 5))
    unpack(tmp_path / "x", progress=False)
    assert not tree.exists()


def test_nothing_is_left_of_an_export_that_fails(tmp_path, cache):
    path = tmp_path / "x/train.parquet"
    _write_parquet(path, _table(_string_rows(40), emotion=pa.string()))
    content = bytearray(path.read_bytes())
    content[len(content) // 2 :] = content[len(content) // 2 : -200]
    path.write_bytes(content)
    with pytest.raises(UniEmoError, match=r"export must be readable; .*train\.parquet is not") as caught:
        unpack(tmp_path / "x", progress=False)
    assert "\n" not in str(caught.value)
    assert [item.suffix for item in (cache / "huggingface").iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("rows", "kind", "match"),
    [
        ([], pa.string(), "at least one row"),
        ([{"emotion": 3}], pa.int64(), "must come with their names"),
        ([{"emotion": None}], pa.string(), "lacks one"),
        ([{"emotion": "../up"}], pa.string(), "plain name"),
        ([{"emotion": "awe", "image": {"bytes": None, "path": None}}], pa.string(), "must have bytes or the path"),
        ([{"mood": "awe"}], None, "has columns image, mood"),
    ],
)
def test_refusals(tmp_path, rows, kind, match):
    rows = [{"image": {"bytes": _picture(0), "path": None}, **row} for row in rows]
    types = {"mood": pa.string()} if kind is None else {"emotion": kind}
    _write_parquet(tmp_path / "x/train.parquet", _table(rows, **types))
    with pytest.raises(UniEmoError, match=match):
        unpack(tmp_path / "x", progress=False)


def test_empty_folder_and_full_disk(tmp_path, monkeypatch):
    (tmp_path / "void").mkdir()
    with pytest.raises(UniEmoError, match="holds neither"):
        unpack(tmp_path / "void")
    _write_parquet(tmp_path / "x/train.parquet", _table(_string_rows(1), emotion=pa.string()))
    monkeypatch.setattr(huggingface.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    with pytest.raises(UniEmoError, match="set UNIEMO_CACHE"):
        unpack(tmp_path / "x")


def test_missing_pyarrow_is_named(tmp_path, monkeypatch):
    _write_parquet(tmp_path / "x/train.parquet", _table(_string_rows(1), emotion=pa.string()))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UniEmoError, match=r'pip install "uniemo\[parquet\]"'):
        unpack(tmp_path / "x", progress=False)


def test_layouts_list_the_unpacked_tree(tmp_path):
    root = tmp_path / "x"
    _write_parquet(root / "data/train-00000-of-00001.parquet", _table(_string_rows(6), emotion=pa.string()))
    _write_parquet(root / "data/test-00000-of-00001.parquet", _table(_string_rows(3, 6), emotion=pa.string()))
    layout, folder = find_layout(root, LAYOUTS)
    listing = layout.read(folder)
    assert listing.layout == "parquet"
    assert listing.given_splits == ("train", "test")
    assert len(listing.items) == 9
    assert all((listing.root / item.image).is_file() for item in listing.items)


def test_data_module_trains_on_an_export(tmp_path):
    from uniemo.data import EmoSet

    features = {"emotion": _label(EMOTIONS)}
    for name, start in (("train", 0), ("validation", 30), ("test", 60)):
        rows = [{**row, "emotion": EMOTIONS.index(row["emotion"])} for row in _string_rows(3, start)]
        table = _table([{**row, "scene": "beach"} for row in rows], features, emotion=pa.int64(), scene=pa.string())
        _write_parquet(tmp_path / f"x/data/{name}-00000-of-00001.parquet", table)
    data = EmoSet(str(tmp_path / "x"), image_size=8, diffusion_size=None, batch_size=3)
    data.prepare_data()
    data.setup("fit")
    assert data.vocabulary.scenes == ("beach",)
    batch = next(iter(data.val_dataloader()))
    assert [data.vocabulary.emotions[i] for i in batch.emotion] == [EMOTIONS[n % 3] for n in (30, 31, 32)]
    assert batch.scene.tolist() == [0, 0, 0]
    assert (batch.images[0] - batch.images[1]).abs().max() > 0  # the pictures are the rows' own


def test_import_needs_neither_torch_nor_pyarrow():
    code = "import sys, uniemo.data.layouts; import uniemo.data.huggingface; print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "False"
