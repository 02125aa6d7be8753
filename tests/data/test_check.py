"""``check_tree`` finds every fault that the painter can write, in every layout, and nothing in clean trees."""

import json
import shutil
import struct
import zlib
from pathlib import Path

import pytest
from PIL import Image

from tests.other_trees import faulty
from tests.trees import painted_tree
from uniemo.data.check import check_tree
from uniemo.data.check_files import Item, inspect
from uniemo.data.check_report import ALL, KINDS
from uniemo.data.layout import layouts_of
from uniemo.errors import UniEmoError
from uniemo.miniature.layouts import FAULTS, LAYOUT_NAMES, possible_faults, synthesize

EXPORTS = ("emoset-parquet", "emoset-hf")
NAMES = [name for name in LAYOUT_NAMES if name not in (*EXPORTS, "emoset-webdataset")]
SPLIT = ("emoset", "emotionroi", "fi-splits", "fi-json", "twitter1-folds")  # beginnings of layouts with splits or folds


def write_split(path, split):
    splits = {}
    for image, name in split.items():
        splits.setdefault(name, []).append(image)
    path.write_text(json.dumps({"splits": splits}))


@pytest.fixture
def tree(tmp_path):
    """A clean EmoSet tree that a test may damage."""
    return painted_tree("emoset", tmp_path / "tree", 48, size=32)


def check(root, **options):
    return check_tree(root, **{"workers": 1, **options})


def files_of(report, kind):
    """Files of all findings of a kind, relative to the report's root."""
    return {file for finding in report.kinds().get(kind, ()) for file in finding.files}


def edit(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def kind_of(fault, name):
    """The kind of finding that a fault shows as in a layout."""
    if fault == "duplicate_across_splits":
        return "leak" if name.startswith(SPLIT) else "duplicate"
    if fault == "missing_annotation" and name.startswith("emotionroi"):
        return "missing_mask"
    return fault


@pytest.mark.parametrize("name", NAMES)
def test_every_fault_is_found_and_nothing_else(name):
    root, struck = faulty(name)
    report = check(root)
    assert set(struck) == set(possible_faults(name))
    assert report.exit_code == 1
    inner = report.root.relative_to(root).as_posix()
    for fault, files in struck.items():
        kind = kind_of(fault, name)
        named = {file.removeprefix(f"{inner}/") for file in files}
        found = files_of(report, kind)
        if fault == "label_case":  # found where it is spelled: a class's folder or a list
            assert found, fault
        else:
            assert named <= found, fault
        if fault in ("truncated", "zero_byte", "missing_image", "cmyk", "exif", "animated", "unknown_label"):
            assert len(report.kinds()[kind]) == len(files), kind
    expected = {kind_of(fault, name) for fault in struck}
    assert set(report.kinds()) <= expected | {"counts", "empty_class", "other_suffix"}  # PNG and GIF called .jpg


@pytest.mark.parametrize("name", NAMES)
def test_clean_trees(tmp_path, name):
    root = painted_tree(name, tmp_path / "tree", 48, size=32, seed=1)
    report = check(root)
    assert report.exit_code == 0
    assert set(report.kinds()) <= {"counts"}  # a painted tree is smaller than the published one
    assert report.layout in (name, name.removesuffix("-noval"))
    assert report.images == 48
    assert "clean: nothing that would stop or spoil training" in report.summary()


def test_every_layout_and_every_fault_is_met():
    exports = {"parquet", "hf-disk"}
    painted = {"EmoSet", "FI", "EmotionROI", "TwitterI", "TwitterII"}  # test_named.py has the others
    found = {layout.name for layout in layouts_of(None) if layout.dataset in painted}
    assert found - {"emotionroi-folders", "twitter2-partitions"} - exports <= set(NAMES)
    for fault in FAULTS:
        assert any(fault in faulty(name)[1] for name in NAMES), fault


@pytest.mark.parametrize("name", EXPORTS)
def test_exports(tmp_path, name):
    pytest.importorskip("pyarrow")
    faults = ("truncated", "cmyk", "duplicate_across_splits")
    struck = synthesize(name, tmp_path / "tree", 48, size=32, faults=faults)
    report = check(tmp_path / "tree")
    assert report.images == 48
    for fault, files in struck.items():
        stems = {Path(file).stem for file in files_of(report, kind_of(fault, "emoset"))}
        assert {Path(file).stem for file in files} == stems, fault


def test_json_report_is_complete_and_the_same_for_any_number_of_workers(tmp_path):
    root, struck = faulty("emoset")
    paths = [tmp_path / "deep" / f"{workers}.json" for workers in (1, 2)]
    for workers, path in enumerate(paths, 1):
        check(root, workers=workers).write(path)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    content = json.loads(paths[0].read_text(encoding="utf-8"))
    assert content["dataset"] == "EmoSet"
    assert content["layout"] == "emoset"
    assert set(content["versions"]) == {"uniemo", "pillow", "python"}
    assert content["images"] == sum(sum(row.values()) for row in content["counts"].values()) == 62
    assert list(content["counts"]) == ["train", "val", "test"]
    assert content["published"]["train"]["all"] == 94481
    assert content["clean"] is False
    assert content["sizes"] == {"min_width": 32, "max_width": 32, "min_height": 32, "max_height": 32}
    assert content["formats"] == {"GIF": 1, "JPEG": 57, "PNG": 2}  # the two broken files are of no format
    for kind, section in content["findings"].items():
        assert section["count"] == len(section["found"]) > 0
        assert section["level"] == KINDS[kind].level
    group = content["findings"]["leak"]["found"][0]
    assert sorted(group["files"]) == sorted(struck["duplicate_across_splits"])
    assert group["splits"] == ["train", "test"]
    assert group["identical"] is True
    levels = [section["level"] for section in content["findings"].values()]
    assert levels == sorted(levels, key=("stops", "spoils", "note").index)  # worst first


def test_summary_is_worst_first_and_says_what_to_do():
    text = check(faulty("emoset")[0]).summary()
    places = [text.index(words) for words in ("would stop training", "would spoil training", "worth knowing")]
    assert places == sorted(places)
    assert "--data.on_error skip" in text
    assert text.splitlines()[-1].startswith("not clean: empty files, truncated images")
    assert "(94,481)" in text


# Images.


def test_pixels_are_decoded_not_only_headers(tree):
    victim = next((tree / "image/awe").iterdir())
    Image.effect_noise((32, 32), 50).convert("RGB").save(tree / "noise.png")
    data = bytearray((tree / "noise.png").read_bytes())
    data[len(data) // 2] ^= 0xFF  # between the ends, which stay whole
    victim.write_bytes(data)
    assert files_of(check(tree), "unreadable") == {f"image/awe/{victim.name}"}


def test_same_pixels_leak_in_other_bytes_and_contradict_under_two_emotions(tree):
    train, test = (json.loads((tree / f"{split}.json").read_text()) for split in ("train", "test"))
    source = next(row for row in train if row[0] == test[0][0])
    Image.open(tree / source[1]).save(tree / "copy.png")
    shutil.move(tree / "copy.png", tree / test[0][1])
    first = next(row for row in train if row != source)
    other = next(row for row in train if row != source and row[0] != first[0])
    shutil.copy(tree / first[1], tree / other[1])
    report = check(tree)
    ((leak,), (contradiction,)) = (report.kinds()[kind] for kind in ("leak", "contradiction"))
    assert (set(leak.files), leak.facts["identical"]) == ({source[1], test[0][1]}, False)
    assert set(contradiction.files) == {first[1], other[1]}
    assert contradiction.facts["emotions"] == sorted({first[0], other[0]})
    assert report.serious == ("leak", "contradiction")


def test_odd_files(tmp_path):
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(range(8 * 6)) for _ in range(8))  # 8 RGB pixels of 16 bits in each row
    header = struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    Image.new("RGBA", (8, 8), (1, 2, 3, 4)).save(tmp_path / "clear.png")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    for name, kind in (("deep", "sixteen_bit"), ("clear", "transparent")):
        assert inspect(Item(f"{name}.png"), tmp_path).faults == ((kind, ""),)
    assert inspect(Item("text.jpg"), tmp_path).faults == (("unreadable", "no picture"),)
    assert [kind for kind, _ in inspect(Item("gone.jpg"), tmp_path).faults] == ["unreadable"]


# Lists, annotations, masks.


def test_annotations(tree):
    first, second, third, fourth = json.loads((tree / "train.json").read_text())[:4]
    edit(tree / first[2], lambda note: {**note, "scene": "moon base", "object": ["Cake", "gramophone"]})
    other = "awe" if second[0] != "awe" else "fear"
    edit(tree / second[2], lambda note: {**note, "scene": "moon base", "brightness": 0.37, "emotion": other})
    (tree / third[2]).write_text("[1, 2")
    (tree / fourth[2]).write_text("[1, 2]")
    report = check(tree)
    found = {(each.facts["attribute"], each.facts["name"], each.files) for each in report.kinds()["unknown_attribute"]}
    assert found == {
        ("brightness", "0.37", (second[1],)),
        ("object", "gramophone", (first[1],)),
        ("scene", "moon base", tuple(sorted([first[1], second[1]]))),
    }
    assert files_of(report, "other_label") == {second[1]}
    assert files_of(report, "bad_annotation") == {third[1], fourth[1]}
    (tree / "info.json").write_text(
        json.dumps({"label2idx": json.loads((tree / "info.json").read_text())["emotion"]["label2idx"]})
    )
    assert "unknown_attribute" not in check(tree).kinds()  # an old info.json knows no attributes


def test_masks(tmp_path):
    root = painted_tree("emotionroi", tmp_path / "tree", 48, size=32)
    masks = sorted((root / "ground_truth").rglob("*.jpg"))
    Image.new("L", (64, 32)).save(masks[0])
    Image.new("L", (64, 64)).save(masks[1])  # another resolution is no other shape
    masks[2].write_bytes(b"")
    masks[3].unlink()
    report = check(root)
    names = [mask.relative_to(root).as_posix().replace("ground_truth", "images", 1) for mask in masks]
    assert files_of(report, "mask_shape") == {names[0]}
    assert files_of(report, "bad_mask") == {names[2]}
    assert files_of(report, "missing_mask") == {names[3]}
    assert set(report.serious) == {"mask_shape", "bad_mask", "missing_mask"}


def test_unlisted_images_and_near_names(tree):
    first = json.loads((tree / "train.json").read_text())[0]
    shutil.copy(tree / first[1], tree / "image" / first[0] / "extra.jpg")
    (tree / "image" / first[0] / "._hidden.jpg").write_bytes(b"resource fork")
    (tree / first[1]).rename((tree / first[1]).with_suffix(".JPEG"))
    report = check(tree)
    assert files_of(report, "unlisted") == {
        f"image/{first[0]}/extra.jpg",
        Path(first[1]).with_suffix(".JPEG").as_posix(),
    }
    (absent,) = report.kinds()["missing_image"]
    assert absent.files == (first[1],)
    assert absent.detail == f"{Path(first[1]).with_suffix('.JPEG').as_posix()} is there"


def test_missing_split_and_empty_class_are_counted(tree):
    edit(tree / "test.json", lambda rows: [row for row in rows if row[0] != "awe"])
    (tree / "val.json").unlink()
    report = check(tree)
    assert "no awe in test" in [finding.detail for finding in report.kinds()["empty_class"]]
    assert "val, all: 0 images, published 5,905" in [finding.detail for finding in report.kinds()["counts"]]


# Splits.


def test_split_file(tmp_path):
    root = painted_tree("fi-zip", tmp_path / "tree", 48, size=32)
    images = sorted(path.relative_to(root).as_posix() for path in root.rglob("*.jpg"))
    shutil.copy(root / images[0], root / images[1])
    base = check(root)
    assert (base.splits, list(base.counts)) == ("none", [ALL])
    assert "leak" not in base.kinds()
    inner = base.root.relative_to(root).as_posix()
    names = [name.removeprefix(f"{inner}/") for name in images]
    split = {name: "train" for name in names} | {names[1]: "test", names[2]: "val"}
    write_split(tmp_path / "split.json", split)
    report = check(root, split_file=tmp_path / "split.json")
    assert (report.splits, list(report.counts)) == ("split file", ["train", "val", "test"])
    assert [finding.files for finding in report.kinds()["leak"]] == [(names[0], names[1])]
    write_split(tmp_path / "split.json", {"gone.jpg": "train"})
    with pytest.raises(UniEmoError, match=r"gone\.jpg"):
        check(root, split_file=tmp_path / "split.json")


def test_leaks_across_given_folds(tmp_path):
    root = painted_tree("twitter1-folds", tmp_path / "tree", 48, size=32)
    tests = [(root / f"five_agrees/test{fold}/test.txt").read_text().split() for fold in (1, 2)]
    first, second = (next(name for name, label in zip(t[::2], t[1::2], strict=True) if label == "1") for t in tests)
    shutil.copy(root / "images" / first, root / "images" / second)
    report = check(root)
    assert report.splits == "folds"
    (leak,) = report.kinds()["leak"]
    assert set(leak.files) == {f"images/{first}", f"images/{second}"}
    assert {"1 (five agree)", "2 (five agree)"} <= set(leak.facts["folds"])
    assert list(report.counts) == ["three", "four", "five"]
    assert report.published["four"]["all"] == 1116
    assert [len(sizes) for sizes in report.folds.values()] == [5, 5, 5]
    alone = check(root, agreement="five")
    assert list(alone.counts) == ["five"]
    assert alone.images < report.images == 48


# Bad input.


def test_refusals(tmp_path, tree):
    with pytest.raises(UniEmoError, match="existing folder"):
        check(tmp_path / "nowhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.txt").write_text("x")
    with pytest.raises(UniEmoError, match="known trees"):
        check(tmp_path / "other")
    with pytest.raises(UniEmoError, match=r"data\.layout must be one of"):
        check(tree, layout="fi-zipp")
    with pytest.raises(UniEmoError, match="agreement"):
        check(tree, agreement="five")
    (tree / "train.json").write_text("[]")
    with pytest.raises(UniEmoError, match=r"train\.json"):
        check(tree)


# The report alone.
