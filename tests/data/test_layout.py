"""Every layout is recognised without being told, and lists are read however they are written."""

import json
import os
import shutil

import pytest
from PIL import Image

import uniemo.data
from tests.real import real
from tests.trees import painted_tree
from uniemo.data import DATASETS
from uniemo.data.files import FileFinder, fold, images_below, path_parts
from uniemo.data.layout import find_layout, layouts_of, read_manifest
from uniemo.data.lists import read_cells, read_lines
from uniemo.data.manifest import SPLITS
from uniemo.errors import UniEmoError
from uniemo.miniature.layouts import LAYOUT_NAMES

SAME = {"fi-splits-noval": "fi-splits", "emoset-parquet": "parquet", "emoset-hf": "hf-disk"}
TREES = [name for name in LAYOUT_NAMES if name != "emoset-webdataset"]  # which is streamed
IMAGES = 32
AGREED = round(IMAGES * 882 / 1269)  # by all five annotators of Twitter I
COUNTS = {name: AGREED if name.startswith("twitter1") else IMAGES for name in TREES}


def read(root, forced=None, dataset=None, **options):
    return read_manifest(root, layouts_of(dataset), forced, **options)


def recognise(root):
    return find_layout(root, layouts_of(None))


def content(manifest):
    """Everything in a manifest, for comparisons."""
    return manifest.root, manifest.info, manifest.table.to_pylist()


def images(manifest):
    """(name, emotion, split) of each image."""
    splits = [None if code < 0 else SPLITS[code] for code in manifest.split]
    return list(zip(manifest.names(), manifest.emotions(), splits, strict=True))


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A painted tree of every layout, beside each other; tests do not write into them."""
    folder = tmp_path_factory.mktemp("layouts")
    return {name: painted_tree(name, folder / name / "tree", IMAGES, size=16) for name in TREES}


def picture(path, colour=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4), (colour % 256, 80, 40)).save(path, "PNG" if path.suffix.lower() == ".png" else "JPEG")


@pytest.mark.parametrize("name", TREES)
def test_recognised_and_read(trees, name):
    layout, _ = recognise(trees[name])
    assert layout.name == SAME.get(name, name)
    assert layout.dataset in DATASETS
    manifest = read(trees[name])
    assert (manifest.info.layout, manifest.info.dataset) == (layout.name, layout.dataset)
    assert abs(len(manifest) - COUNTS[name]) <= 1
    assert not manifest.info.problems
    assert set(manifest.emotions()) == set(manifest.vocabulary.emotions)
    assert len(set(manifest.names())) == len(manifest)
    for index in range(len(manifest)):
        assert manifest.path(index).is_file()
        assert manifest.mask(index) is None or manifest.mask(index).is_file()
    assert content(read(trees[name], forced=layout.name)) == content(manifest)  # the same when the layout is given
    assert content(read(trees[name], dataset=layout.dataset)) == content(manifest)


@pytest.mark.parametrize("name", [name for name in TREES if not name.startswith("emoset-")])
def test_recognised_inside_a_folder(trees, name):
    assert recognise(trees[name].parent)[0].name == SAME.get(name, name)


def test_no_layout_takes_another_ones_tree(trees):
    for name, tree in trees.items():
        taken = {layout.dataset for layout in layouts_of(None) if layout.matches(recognise(tree)[1])}
        assert taken == {recognise(tree)[0].dataset}, name


def test_unknown_tree_says_what_is_there_and_the_nearest(tmp_path):
    picture(tmp_path / "holiday" / "1.jpg")
    (tmp_path / "readme.txt").write_text("x")
    with pytest.raises(
        UniEmoError, match=r"holds holiday/, readme\.txt; the nearest known tree is FI/.* or take --data Folder"
    ) as caught:
        read(tmp_path, dataset="FI")
    assert "\n" not in str(caught.value)
    assert "Agg_AMT" not in str(caught.value)  # FI's trees only
    (tmp_path / "amt_results.csv").write_text("x")
    with pytest.raises(UniEmoError, match="the nearest known tree is TwitterI/twitter1-amt: Agg_AMT_Candidates"):
        read(tmp_path)
    with pytest.raises(UniEmoError, match=r"data\.layout must be one of fi-json, .*; got 'zip'"):
        read(tmp_path, forced="zip", dataset="FI")
    with pytest.raises(UniEmoError, match="dataset must be one of EmoSet"):
        layouts_of("fi")


def test_forced_layout_finds_the_tree_or_says_what_it_lacks(trees, tmp_path):
    assert find_layout(trees["fi-splits"], layouts_of("FI"), "fi-splits")[1].name == "FI"
    with pytest.raises(UniEmoError, match=r"FI\.csv"):
        read(trees["fi-zip"], forced="fi-csv")
    with pytest.raises(UniEmoError, match=r"training\.txt"):
        read(trees["fi-zip"], forced="emotionroi")


def test_names_of_layouts_differ_and_numbers_add_up():
    names = [layout.name for layout in layouts_of(None)]
    assert len(set(names)) == len(names)
    for dataset in DATASETS:
        published = getattr(uniemo.data, dataset).published
        for by_emotion in published.values():
            assert sum(by_emotion.values()) in (by_emotion["all"], 2 * by_emotion["all"])
        splits = [published[split]["all"] for split in SPLITS if split in published]
        assert not splits or sum(splits) == published["all"]["all"]


# Lists as people write them.


@pytest.fixture
def photos(tmp_path):
    for number, name in enumerate(("awe/a 1.jpg", "awe/Ä2.JPG", "fear/b.png", "sadness/c.jpeg")):
        picture(tmp_path / "images" / name, 60 * number)
    return tmp_path


LABELS = ("awe", "awe", "fear", "sadness")
FILES = ["images/awe/a 1.jpg", "images/awe/Ä2.JPG", "images/fear/b.png", "images/sadness/c.jpeg"]


@pytest.mark.parametrize(
    "text",
    [
        "path,class\nawe/a 1.jpg,awe\nawe/Ä2.JPG,awe\nfear/b.png,fear\nsadness/c.jpeg,sadness\n",
        "awe/a 1.jpg,awe\nawe/Ä2.JPG,awe\nfear/b.png,fear\nsadness/c.jpeg,sadness\n",  # no header
        "label,image\nAwe ,a 1.jpg\n AWE,Ä2.JPG\nFear,b.png\nSadness,c.jpeg\n",  # no folders, other order and case
        "filename\temotion\na 1.jpg\tawe\nä2.jpg\tawe\nb.png\tfear\nc.jpeg\tsadness\n",  # tabs, other case of the name
        "\ufeffname;emotion\r\nimages\\awe\\a 1.jpg;awe\r\nawe\\A\u03082.JPG;awe\r\n"
        "C:\\FI\\images\\fear\\b.png;fear\r\n.\\sadness\\c.jpeg;sadness\r\n",  # mark, accents in two characters
        "id,path,label,split\n0,awe/a 1.jpg,3,train\n1,awe/Ä2.JPG,3,val\n"
        "2,fear/b.png,5,test\n3,sadness/c.jpeg,7,test\n",
        '"file","class"\n"/home/me/FI/awe/a 1.jpg","awe"\n"awe/Ä2","awe"\n"fear/b","fear"\n"sadness/c","sadness"\n',
    ],
    ids=["plain", "no header", "bare names", "tabs", "windows", "numbers with folders", "no suffix"],
)
def test_csv_of_any_form(photos, text):
    (photos / "FI.csv").write_text(text, encoding="utf-8")
    manifest = read(photos)
    assert manifest.info.layout == "fi-csv"
    assert not manifest.info.problems
    splits = ("train", "val", "test", "test") if "split" in text else (None,) * 4
    assert images(manifest) == list(zip(FILES, LABELS, splits, strict=True))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gb18030"])
def test_encodings(tmp_path, encoding):
    picture(tmp_path / "images" / "敬畏.jpg")
    (tmp_path / "FI.csv").write_bytes("path,class\n敬畏.jpg,awe\n".encode(encoding))
    assert read(tmp_path).names() == ["images/敬畏.jpg"]


def test_numbers_without_names_are_refused(tmp_path):
    picture(tmp_path / "images" / "1.jpg")
    (tmp_path / "FI.csv").write_text("path,class\n1.jpg,3\n")
    with pytest.raises(UniEmoError, match=r"line 2 of .*FI\.csv has the number '3'"):
        read(tmp_path)
    (tmp_path / "FI.csv").write_text("path\n")
    with pytest.raises(UniEmoError, match="column of image files and one of labels"):
        read(tmp_path)


def test_an_image_listed_twice(tmp_path):
    for name in ("1.jpg", "2.jpg", "3.jpg"):
        picture(tmp_path / "images" / name)
    text = "path,class,split\n1.jpg,awe,test\n1.jpg,awe,train\n2.jpg,awe,train\n2.jpg,fear,test\n3.jpg,awe,train\n"
    (tmp_path / "FI.csv").write_text(text)
    manifest = read(tmp_path)
    assert images(manifest) == [("images/1.jpg", "awe", "test"), ("images/3.jpg", "awe", "train")]
    assert manifest.info.notes == (
        "1 image is listed more than once, first images/1.jpg",
        "1 image is listed with two emotions and left out, first images/2.jpg",
    )


def test_json_lists_of_any_form(tmp_path):
    for split in ("train", "test"):
        for name in ("1.jpg", "2.jpg"):
            picture(tmp_path / split / name)
    (tmp_path / "train.json").write_text(json.dumps([["1.jpg", "Awe"], ["train/2.jpg", "fear "]]))
    labels = {"1.jpg": "awe", "2.jpg": "fear"}
    (tmp_path / "test.json").write_text(json.dumps(labels))
    expected = [(f"{split}/{name}", label, split) for split in ("test", "train") for name, label in labels.items()]
    assert images(read(tmp_path)) == expected
    (tmp_path / "test.json").write_text(json.dumps([["1.jpg", 4]]))
    with pytest.raises(UniEmoError, match=r"entry 0 of .*test\.json has the number '4'"):
        read(tmp_path)
    for text, match in (("no", "must be JSON"), ("[]", "holds none"), ('["1.jpg"]', r"must be \[name, label\]")):
        (tmp_path / "test.json").write_text(text)
        with pytest.raises(UniEmoError, match=match):
            read(tmp_path)


def test_nothing_depends_on_the_order_of_the_disk(trees, tmp_path, monkeypatch):
    before = {name: content(read(trees[name])) for name in ("fi-zip", "emotionroi", "twitter2-topics")}
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "other"))
    listdir, scandir = os.listdir, os.scandir
    monkeypatch.setattr(os, "listdir", lambda path: listdir(path)[::-1])

    class Reversed:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = sorted(entries, key=lambda entry: entry.name, reverse=True)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(os, "scandir", Reversed)
    assert {name: content(read(trees[name])) for name in before} == before


def test_files_are_found(tmp_path):
    for name in ("Awe/1.jpg", "awe2/1.jpg", "Fear/Ü.PNG", "x/._1.jpg", "x/deep/er/2.gif"):
        picture(tmp_path / name)
    disk = FileFinder(tmp_path)
    assert disk.find("awe/1.JPG") == "Awe/1.jpg"
    assert disk.find("fear/u\u0308.png") == "Fear/Ü.PNG"
    assert disk.find("fear/Ü") == "Fear/Ü.PNG"
    assert disk.find("Fear/Ü.jpg") is None
    assert disk.find("Fear/Ü.jpg", any_suffix=True) == "Fear/Ü.PNG"
    assert disk.locate("somewhere\\else\\1.jpg", ["nowhere", ""], also=["awe"]) == "Awe/1.jpg"
    assert disk.locate("../../awe2/1.jpg", [""]) == "awe2/1.jpg"
    assert images_below(tmp_path, "x") == ["x/deep/er/2.gif"]
    assert images_below(tmp_path, "x", depth=2) == []
    assert images_below(tmp_path, "", depth=4) == ["Awe/1.jpg", "Fear/Ü.PNG", "awe2/1.jpg", "x/deep/er/2.gif"]
    assert path_parts("D:/a/./b.jpg") == ["a", "b.jpg"]
    assert fold("É") == fold("e\u0301")


def test_lines_of_any_form(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text('my photo 1.jpg 1\n\nb.jpg\t0\nc.jpg, positive\nd.jpg\n"e.jpg"\n')
    rows = [(row.number, row.image, row.label) for row in read_lines(path)]
    images = ("my photo 1.jpg", "b.jpg", "c.jpg", "d.jpg", "e.jpg")
    assert rows == list(zip((1, 3, 4, 5, 6), images, ("1", "0", "positive", "", ""), strict=True))


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize(("comma", "mark"), [(",", ""), (";", "\ufeff"), ("\t", "")])
def test_csv_with_any_line_ends(photos, ends, comma, mark):
    lines = (f'"images/{file}"{comma}{label}' for file, label in zip(FILES, LABELS, strict=True))
    text = ends.join([f"path{comma}class", *lines])
    (photos / "FI.csv").write_bytes((mark + text).encode())
    assert read(photos).emotions() == list(LABELS)


@pytest.mark.parametrize("content", [b'a,b\n"\x00,1\n', b"\xff\xfe\x00", b'"' + b"x" * 200_000, b"awe\r1.jpg,0\r", b""])
def test_a_foreign_table_breaks_no_recognition(trees, tmp_path, content):
    for name in ("fi-zip", "twitter2-topics", "emotionroi"):
        tree = shutil.copytree(trees[name], tmp_path / name)
        (tree / "a.csv").write_bytes(content)
        assert recognise(tree)[0].name == name


def test_oasis_beside_a_dataset_is_no_part_of_it(trees, tmp_path):
    tree = shutil.copytree(trees["fi-zip"], tmp_path / "tree")
    shutil.copy(real("oasis") / "OASIS.csv", tree)
    assert read(tree).info.layout == "fi-zip"
    assert len(read_cells(tree / "OASIS.csv")) == 901
