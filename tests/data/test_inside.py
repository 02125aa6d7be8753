"""Lists stay inside their folder."""

import json
import os
import shutil
import time

import pytest
from trees import drawn_index, painted_emoset

from uniemo.cli import main
from uniemo.data import FI, EmoSet, GeneratedImageDataset, PairedTransform
from uniemo.data.check import check_tree
from uniemo.data.generated import read_index
from uniemo.data.inside import Inside
from uniemo.errors import UniEmoError
from uniemo.generation.filtering import filter_index
from uniemo.metrics.image_sets import read_images
from uniemo.vocabulary import Vocabulary


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def tree(tmp_path):
    return painted_emoset(tmp_path / "tree", train=8, val=8, test=8, size=16)


def change_first(tree, place, to):
    """Let the first training image's entry name something else."""
    entries = json.loads((tree / "train.json").read_text())
    before = entries[0][place]
    entries[0][place] = to(before)
    (tree / "train.json").write_text(json.dumps(entries))
    return tree / before


def test_inside(tmp_path):
    (tmp_path / "root/a").mkdir(parents=True)
    (tmp_path / "rooted").mkdir()
    for file in ("root/a/1.png", "1.png", "rooted/1.png"):
        (tmp_path / file).touch()
    os.symlink("root", tmp_path / "link")
    os.symlink("a", tmp_path / "root/b")
    os.symlink("..", tmp_path / "root/c")
    os.symlink("1.png", tmp_path / "root/a/2.png")
    os.symlink(tmp_path / "1.png", tmp_path / "root/a/3.png")
    for root in (tmp_path / "root", tmp_path / "link"):  # the folder itself may be a link
        inside = Inside(root)
        for path in ("a/1.png", "b/1.png", "a/2.png", "a/../a/1.png", "a/gone.png", str(root / "a/1.png")):
            assert path in inside, path
        for path in (
            "../1.png",
            "../rooted/1.png",
            "..",
            "c/1.png",
            "a/3.png",
            "b/3.png",
            str(tmp_path / "1.png"),
            "\0/x",
        ):
            assert path not in inside, path


@pytest.mark.parametrize("place", [1, 2])
@pytest.mark.parametrize("absolute", [False, True])
def test_lists_do_not_lead_out(tree, tmp_path, absolute, place):
    other = shutil.copytree(tree, tmp_path / "other")
    change_first(tree, place, lambda name: f"{other if absolute else '../other'}/{name}")
    with pytest.raises(UniEmoError, match=r"must lie inside .*; 1 lead out of it.*--data\.follow_links true"):
        EmoSet(str(tree)).check()
    data = EmoSet(str(tree), follow_links=True)
    data.check()
    assert data.dataset("train")[0].image.shape == (3, 224, 224)


def test_an_annotation_elsewhere_is_not_opened(tree, tmp_path):
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    change_first(tree, 2, lambda name: "../pipe")
    with pytest.raises(UniEmoError, match="must lie inside"):
        EmoSet(str(tree)).check()


def test_a_class_folder_on_another_disk_needs_follow_links(tree, tmp_path, capsys):
    EmoSet(str(tree)).check()  # the table of the tree is in the cache now
    shutil.copytree(tree / "image/awe", tmp_path / "disk", copy_function=shutil.copy2)
    shutil.rmtree(tree / "image/awe")
    os.symlink(tmp_path / "disk", tree / "image/awe")
    for use in (lambda: EmoSet(str(tree)).check(), lambda: check_tree(tree), lambda: read_images(tree)):
        with pytest.raises(UniEmoError, match=r"must lie inside .*first image/awe/"):
            use()
    EmoSet(str(tree), follow_links=True).check()
    assert len(read_images(tree, follow_links=True)) == 8
    assert main(["data", "split", str(tree), "--out", str(tmp_path / "split.json"), "--fresh"]) == 2
    assert "--follow_links" in capsys.readouterr().err
    assert main(["data", "split", str(tree), "--out", str(tmp_path / "split.json"), "--fresh", "--follow_links"]) == 0
    with pytest.raises(UniEmoError, match="must lie inside"):  # what was allowed once is not kept
        EmoSet(str(tree)).check()


def test_linked_images_and_a_linked_root(tree, tmp_path):
    os.symlink(tree, tmp_path / "link")
    EmoSet(str(tmp_path / "link")).check()
    root = tmp_path / "fi"
    for number, image in enumerate(sorted((tree / "image/awe").iterdir()) * 2):
        for emotion in ("awe", "fear", "amusement"):
            (root / emotion).mkdir(parents=True, exist_ok=True)
            os.symlink(image, root / emotion / f"{number}.jpg")
    with pytest.raises(UniEmoError, match=r"must lie inside .*; 18 lead out"):
        FI(str(root)).check()
    with pytest.raises(UniEmoError, match="must lie inside"):
        read_images(root)
    assert len(FI(str(root), follow_links=True).manifest) == len(read_images(root, follow_links=True)) == 18


def test_an_index_does_not_lead_out(tmp_path):
    index = drawn_index(tmp_path / "drawn", ("awe", "fear"), 5, scores=lambda i: (i / 10, i / 10))
    (tmp_path / "elsewhere.png").write_bytes((tmp_path / "drawn/images/awe_000.png").read_bytes())
    rows = read_index(index)
    rows[4]["file"] = "../elsewhere.png"
    index.write_text("".join(json.dumps(row) + "\n" for row in rows))
    vocabulary, transform = Vocabulary(("awe", "fear")), PairedTransform(16)
    for use in (
        lambda: read_images(index),
        lambda: GeneratedImageDataset(index, vocabulary, transform),
        lambda: filter_index(index, tmp_path / "kept"),
    ):
        with pytest.raises(UniEmoError, match=r"images that index\.jsonl lists must lie inside .*first \.\./elsewhere"):
            use()
    assert len(GeneratedImageDataset(index, vocabulary, transform, follow_links=True)) == 10
    assert sum(filter_index(index, tmp_path / "kept", 0, 1, follow_links=True).values()) == 10
    kept = [row["file"] for row in read_index(tmp_path / "kept", follow_links=True)]
    assert kept[4] == str(tmp_path / "elsewhere.png")  # stays where it is
    assert kept[0] == "images/awe_000.png"


def test_paths_of_an_export_do_not_lead_out(tree, tmp_path):
    datasets = pytest.importorskip("datasets")
    images = sorted((tree / "image/awe").iterdir())
    root = tmp_path / "export"
    columns = {"image": [str(image) for image in images], "emotion": ["awe"] * len(images)}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(columns)}).save_to_disk(str(root))
    with pytest.raises(UniEmoError, match=f"image paths of an export must lie inside .*; {len(images)} lead out"):
        EmoSet(str(root)).manifest  # noqa: B018
    assert len(EmoSet(str(root), follow_links=True).manifest) == len(images)


def test_a_hundred_thousand_paths_are_looked_at_quickly(tmp_path):
    for folder in range(8):
        (tmp_path / str(folder)).mkdir()
    inside = Inside(tmp_path)
    start = time.perf_counter()
    assert all(f"{number % 8}/{number}.jpg" in inside for number in range(100_000))
    assert time.perf_counter() - start < 2
