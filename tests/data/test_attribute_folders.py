"""EmoGen's attribute folders hold each image of an attribute once, by any spelling, as links that lead there."""

import json
import os
import shutil
from collections import Counter

import pytest

from tests.trees import painted_tree
from uniemo.cli import data_attributes, data_synthesize
from uniemo.data.attribute_folders import build_attribute_folders
from uniemo.errors import UniEmoError
from uniemo.miniature.layouts import synthesize


@pytest.fixture
def tree(tmp_path):
    return painted_tree("emoset-4tuple", tmp_path / "tree", 48, size=16)


def annotate(root, number, **values):
    """Overwrite the attributes of an amusement image; return its file name."""
    path = root / f"annotation/amusement/amusement_{number:05d}.json"
    path.write_text(json.dumps({"emotion": "amusement", **values}), encoding="utf-8")
    return f"{path.stem}.jpg"


def listed(root, key):
    """Return {name in lower case: images}, read straight from the annotations."""
    counts = Counter()
    for path in root.glob("annotation/*/*.json"):
        given = json.loads(path.read_text(encoding="utf-8")).get(key, [])
        counts.update({name.strip().lower() for name in ([given] if isinstance(given, str) else given)})
    return counts


def test_folders_hold_what_the_annotations_say(tree, tmp_path):
    out = tmp_path / "out"
    built = build_attribute_folders(tree, out)
    assert built.unannotated == 0
    for kind in ("object", "scene"):
        folders = {path.name: list(path.iterdir()) for path in (out / kind).iterdir()}
        assert built.images[kind] == {name: len(images) for name, images in folders.items()}
        assert list(built.images[kind].values()) == sorted(built.images[kind].values())
        # the way in which EmoGen's scripts read attribute and emotion off a path
        assert {name.split(")")[-1].lower(): int(name[1 : name.index(")")]) for name in folders} == listed(tree, kind)
        for images in folders.values():
            for image in images:
                emotion, number = image.stem.split("_")
                assert image.is_symlink()
                assert not os.path.isabs(os.readlink(image))
                assert image.samefile(tree / f"image/{emotion}/{emotion}_{number}.jpg")
    assert any(name.endswith(")Balloon") for name in built.images["object"]), "EmoSet's own spelling"


def test_names_as_they_are(tree, tmp_path):
    shutil.rmtree(tree / "annotation")
    (tree / "annotation/amusement").mkdir(parents=True)
    first = annotate(tree, 0, scene="bakery/shop", object=["Alarm clock", "alarm_clock ", "Cake"])
    second = annotate(tree, 1, scene="bakery/shop ", object=["Alarm clock"])
    annotate(tree, 2, scene="", object=[])
    annotate(tree, 3, scene="castle", object="Castle")
    out = tmp_path / "out"
    built = build_attribute_folders(tree, out)
    assert built.images["scene"] == {"(1)castle": 1, "(2)bakery_shop": 2}
    assert built.images["object"] == {"(1)Cake": 1, "(1)Castle": 1, "(2)Alarm clock": 2}
    assert sorted(os.listdir(out / "scene/(2)bakery_shop")) == [first, second]
    assert built.unannotated == 44


def test_copies_need_no_tree(tree, tmp_path):
    build_attribute_folders(tree, tmp_path / "out", ("object",), copy=True)
    before = (tree / "image/awe/awe_00000.jpg").read_bytes()
    shutil.rmtree(tree)
    copies = list((tmp_path / "out").glob("object/*/awe_00000.jpg"))
    assert [copy.read_bytes() for copy in copies] == [before] * len(copies)
    assert all(not copy.is_symlink() for copy in copies)


def test_what_cannot_be_built_leaves_nothing(tree, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/note.txt").write_text("mine")
    with pytest.raises(UniEmoError, match="out must be a new or an empty folder"):
        build_attribute_folders(tree, tmp_path / "full")
    broken = tree / "annotation/fear/fear_00000.json"
    broken.write_text("{")
    with pytest.raises(UniEmoError, match=r"annotations must be .*fear_00000\.jpg is not"):
        build_attribute_folders(tree, tmp_path / "out")
    shutil.rmtree(tree / "annotation")
    with pytest.raises(UniEmoError, match="root must be EmoSet's tree with its annotations"):
        build_attribute_folders(tree, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "full", "tree"]


def test_an_image_without_annotation_is_counted(tmp_path):
    struck = synthesize("emoset", tmp_path / "tree", 24, 0, 16, ("missing_annotation",))
    built = build_attribute_folders(tmp_path / "tree", tmp_path / "out")
    assert built.unannotated == 1
    name = struck["missing_annotation"][0].split("/")[-1]
    assert not list((tmp_path / "out").glob(f"*/*/{name}"))


def test_an_export_is_copied(tmp_path):
    painted_tree("emoset-parquet", tmp_path / "export", 24, size=16)
    files = painted_tree("emoset", tmp_path / "files", 24, size=16)
    with pytest.raises(UniEmoError, match="take copies, with --copy"):
        build_attribute_folders(tmp_path / "export", tmp_path / "out")
    built = build_attribute_folders(tmp_path / "export", tmp_path / "out", copy=True)
    assert built == build_attribute_folders(files, tmp_path / "other")


def test_command(tree, tmp_path, capsys):
    assert data_attributes.run([str(tree), "--out", str(tmp_path / "out"), "--kind", "scene"]) == 0
    assert os.listdir(tmp_path / "out") == ["scene"]
    folders = os.listdir(tmp_path / "out/scene")
    links = sum(len(os.listdir(tmp_path / "out/scene" / name)) for name in folders)
    assert f"scene: {len(folders)} folders with {links} links" in capsys.readouterr().out
    with pytest.raises(UniEmoError, match="--out must be a new or an empty folder"):
        data_attributes.run([str(tree), "--out", str(tmp_path / "out")])


def test_synthesize_command(tmp_path, capsys):
    args = ["--layout", "fi-splits", "--images", "48", "--size", "16", "--fault", "all", "--out", str(tmp_path / "fi")]
    assert data_synthesize.run(args) == 0
    printed = capsys.readouterr().out
    assert "painted 48 images" in printed
    assert "truncated: FI/" in printed
    assert "missing_image" not in printed, "a layout without lists cannot lack a listed image"
    for args, message in (
        (["--layout", "fi-zip", "--train", "8"], "--train must go with --layout emoset"),
        (["--layout", "emoset", "--images", "48", "--missing", "0.5"], "--missing must go with --layout emoset"),
        (["--layout", "fi"], "invalid choice: 'fi'"),
        (["--fault", "rust"], "invalid choice: 'rust'"),
    ):
        with pytest.raises(UniEmoError, match=message):
            data_synthesize.run([*args, "--out", str(tmp_path / "no")])
    assert not (tmp_path / "no").exists()
    args = ["--train", "16", "--val", "8", "--test", "0", "--size", "16", "--out", str(tmp_path / "emoset")]
    assert data_synthesize.run(args) == 0
    assert len(json.loads((tmp_path / "emoset/train.json").read_text())) == 16
    assert (tmp_path / "emoset/truth.json").is_file()
