"""Layouts are painted with the real ones' names and quirks, every fault is there, equal arguments give equal bytes."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from tests.other_trees import faulty
from tests.trees import painted_tree
from uniemo.errors import UniEmoError
from uniemo.miniature import samples
from uniemo.miniature.layouts import FAULTS, LAYOUT_NAMES, possible_faults, synthesize
from uniemo.taxonomy import MIKELS_8

EXPORTS = ("emoset-parquet", "emoset-hf", "emoset-webdataset")
ON_DISK = tuple(name for name in LAYOUT_NAMES if name not in EXPORTS)
SMALL = {"size": 16}


def digest(root):
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def text(path):
    return path.read_text(encoding="utf-8")


def paint(tmp_path, layout, images=48, **options):
    return painted_tree(layout, tmp_path / layout, images, **{**SMALL, **options})


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_same_arguments_same_bytes(tmp_path, layout):
    trees = [painted_tree(layout, tmp_path / str(k), 24, seed, 16, ("cmyk",)) for k, seed in enumerate((3, 3, 4))]
    first, again, other = map(digest, trees)
    assert first == again
    assert set(first.values()) != set(other.values())


@pytest.mark.parametrize(("layout", "width"), [("emoset", 3), ("emoset-4tuple", 4), ("emoset-old-info", 3)])
def test_emoset(tmp_path, layout, width):
    root = paint(tmp_path, layout, images=160)
    info = json.loads(text(root / "info.json"))
    table = info["label2idx"] if layout == "emoset-old-info" else info["emotion"]["label2idx"]
    assert table == {name: index for index, name in enumerate(MIKELS_8)}
    lists = {split: json.loads(text(root / f"{split}.json")) for split in ("train", "val", "test")}
    assert {split: len(entries) for split, entries in lists.items()} == {"train": 128, "val": 8, "test": 24}
    notes = []
    for emotion, *middle, image, annotation in (entry for entries in lists.values() for entry in entries):
        assert len(middle) == width - 3
        assert middle in ([], [Path(image).stem])
        assert image == f"image/{emotion}/{Path(annotation).stem}.jpg"
        assert re.fullmatch(rf"annotation/{emotion}/{emotion}_\d{{5}}\.json", annotation)
        notes.append(json.loads(text(root / annotation)))
        assert notes[-1]["emotion"] == emotion
    for key in ("scene", "object", "brightness", "human_action", "facial_expression"):
        assert 0 < sum(key in note for note in notes) < len(notes), f"{key} is never or always there"
    assert any(note.get("scene", "").endswith(" ") for note in notes)
    assert any(note.get("human_action") == "boxing " for note in notes)
    assert (root / "mask").is_dir() == (layout == "emoset")
    if layout != "emoset-old-info":
        assert "bakery/shop" in info["scene"]["label2idx"]
        assert {note["scene"].strip() for note in notes if "scene" in note} <= set(info["scene"]["label2idx"])
        assert {name for note in notes for name in note.get("object", [])} <= set(info["object"]["label2idx"])


@pytest.mark.parametrize("layout", LAYOUT_NAMES)
def test_each_fault_strikes_images_of_its_own(layout):
    if layout in EXPORTS:
        assert set(FAULTS) - set(possible_faults(layout)) == {"missing_annotation", "missing_image"}
        return
    root, struck = faulty(layout)
    assert tuple(struck) == possible_faults(layout)
    files = [file for files in struck.values() for file in files]
    assert len(files) == len(set(files)) == len(struck) + 3  # two more placeholders, one more duplicate
    for fault, names in struck.items():
        assert all((root / name).is_file() == (fault != "missing_image") for name in names)


@pytest.mark.parametrize("layout", ON_DISK)
def test_content_faults(layout):
    root, struck = faulty(layout)
    path = {fault: root / files[0] for fault, files in struck.items()}
    assert path["zero_byte"].stat().st_size == 0
    with Image.open(path["truncated"]) as image, pytest.raises(OSError, match="truncated"):
        image.load()
    for fault, mode in (("cmyk", "CMYK"), ("grey", "L"), ("sixteen_bit", "I;16"), ("palette", "P")):
        with Image.open(path[fault]) as image:
            image.load()
            assert image.mode == mode
    with Image.open(path["sixteen_bit"]) as image:
        assert np.asarray(image).max() > 255
    with Image.open(path["animated"]) as image:
        assert image.n_frames == 3
    assert path["palette"].suffix == path["animated"].suffix == ".jpg", "content and name disagree, as on real disks"
    assert path["upper_extension"].suffix == ".JPG"
    assert not path["script_name"].relative_to(root).as_posix().isascii()
    first, second = (root / file for file in struck["duplicate_across_splits"])
    assert first.read_bytes() == second.read_bytes()
    assert len({(root / file).read_bytes() for file in struck["placeholder"]}) == 1


def test_exif_turns_the_painting_upright(tmp_path):
    root = tmp_path / "tree"
    file = root / synthesize("fi-zip", root, 24, 0, 32, ("exif",))["exif"][0]
    clean = painted_tree("fi-zip", tmp_path / "clean", 24, 0, 32) / file.relative_to(root)
    with Image.open(file) as turned, Image.open(clean) as upright:
        assert turned.getexif()[0x0112] == 6
        shown = np.asarray(ImageOps.exif_transpose(turned), dtype=int)
        assert np.abs(shown - np.asarray(upright, dtype=int)).mean() < 3
        assert np.abs(np.asarray(turned, dtype=int) - np.asarray(upright, dtype=int)).mean() > 10


def test_faults_of_lists_and_labels():
    root, struck = faulty("emoset")
    entries = {e[-2]: e for s in ("train", "val", "test") for e in json.loads(text(root / f"{s}.json"))}
    for fault, files in struck.items():
        assert (root / entries[files[0]][-1]).is_file() == (fault != "missing_annotation")
    assert entries[struck["label_case"][0]][0][0].isupper()
    assert entries[struck["unknown_label"][0]][0] not in MIKELS_8
    test_images = {entry[1] for entry in json.loads(text(root / "test.json"))}
    assert [file in test_images for file in struck["duplicate_across_splits"]] == [False, True]

    root, struck = faulty("fi-splits")
    assert [file.split("/")[1] for file in struck["duplicate_across_splits"]] == ["train", "test"]
    assert struck["label_case"][0].split("/")[2][0].isupper()

    root, struck = faulty("emotionroi")
    mask = struck["missing_annotation"][0].replace("images", "ground_truth")
    assert not (root / mask).exists()
    assert (root / struck["sixteen_bit"][0].replace("images", "ground_truth")).is_file()

    root, struck = faulty("twitter1-agrees")
    lines = dict(line.split() for line in text(root / "ground_truth/twitter_five_agrees.txt").splitlines())
    assert {Path(file).name for files in struck.values() for file in files} <= set(lines)
    assert lines[Path(struck["unknown_label"][0]).name] not in "01"
    assert Path(struck["missing_image"][0]).name in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": "fi"}, "layout must be one of emoset"),
        ({"images": 5}, "images must be at least 24; got 5"),
        ({"seed": -1}, "seed must be at least 0"),
        ({"size": 8}, "size must be at least 16"),
        ({"faults": ("rust",)}, "faults must be of truncated.*got 'rust'"),
        ({"faults": ("missing_image",)}, "faults of layout fi-zip must be of.*got 'missing_image'"),
    ],
)
def test_arguments_outside_their_range_are_named(tmp_path, arguments, message):
    with pytest.raises(UniEmoError, match=message):
        painted_tree(**{"layout": "fi-zip", "root": tmp_path / "tree", **arguments})
    assert not list(tmp_path.iterdir())


def test_a_tree_is_complete_or_absent(tmp_path, monkeypatch):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(UniEmoError, match="root must be a new or an empty folder"):
        painted_tree("fi-zip", tmp_path)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(samples.Tree, "write_table", interrupt)
    with pytest.raises(KeyboardInterrupt):
        paint(tmp_path, "fi-csv")
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]
