import json
import shutil

import pytest
from PIL import Image

from tests.data.probe import Probe, trainer
from tests.trees import painted_tree
from uniemo.data import FI, usable
from uniemo.errors import UniEmoError
from uniemo.taxonomy import MIKELS_8


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Painted trees; tests do not write into them."""
    folder = tmp_path_factory.mktemp("fi")
    names = ("fi-zip", "fi-splits", "fi-splits-noval", "fi-json", "fi-csv")
    return {name: painted_tree(name, folder / name, 64, size=32) for name in names}


def module(root, **changes):
    return FI(**{"root": str(root), "image_size": 32, "diffusion_size": None, "batch_size": 8, **changes})


def everything(parts):
    return [file for files in parts for file in files]


def splits(data):
    return {split: data.records(split).names() for split in ("train", "val", "test")}


@pytest.mark.parametrize("name", ["fi-zip", "fi-splits", "fi-splits-noval", "fi-json", "fi-csv"])
def test_every_layout_trains(painted, name):
    data = module(painted[name])
    assert data.vocabulary.emotions == MIKELS_8
    assert data.vocabulary.scenes == data.vocabulary.objects == ()
    parts = splits(data)
    assert sum(map(len, parts.values())) == 64
    assert len(set(everything(parts.values()))) == 64
    for split, files in parts.items():
        for file, label in zip(files, data.records(split).emotion, strict=True):
            assert MIKELS_8[label] in file.lower(), (split, file)  # the painter names files by emotion
    batch = next(iter(data.train_dataloader()))
    assert batch.images.shape == (8, 3, 32, 32)
    assert batch.objects.shape == (8, 0)
    assert (batch.scene == -1).all()
    assert batch.masks is None
    assert sum(len(part) for part in data.test_dataloader()) == len(parts["test"])


def test_split_folders_are_kept(painted):
    root = painted["fi-splits"] / "FI"
    for split, files in splits(module(painted["fi-splits"])).items():
        assert sorted(files) == sorted(p.relative_to(root).as_posix() for p in (root / split).rglob("*.jpg"))
    parts = splits(module(painted["fi-splits-noval"]))
    assert all(file.startswith("train/") for file in parts["train"] + parts["val"])
    assert all(file.startswith("test/") for file in parts["test"])
    assert len(parts["val"]) == 8  # one of each emotion at least


def test_zip_is_cut_by_the_seed(painted):
    parts = splits(module(painted["fi-zip"]))
    assert parts == splits(module(painted["fi-zip"]))
    assert parts["test"] != splits(module(painted["fi-zip"], seed=1))["test"]
    assert [len(files) for files in parts.values()] == [48, 8, 8]
    assert len(splits(module(painted["fi-zip"], val_fraction=0.3))["val"]) == 16


def test_split_is_written_beside_the_run_and_read_again(painted, tmp_path):
    data = module(painted["fi-zip"])
    trainer(tmp_path / "run").fit(Probe(), datamodule=data)
    file = tmp_path / "run" / "split.json"
    assert json.loads(file.read_text())["splits"]["test"] == splits(data)["test"]
    again = module(painted["fi-zip"], seed=7, split_file=str(file))
    assert splits(again) == splits(data)
    assert "split.json" in again.describe()
    trainer(tmp_path / "given").fit(Probe(), datamodule=module(painted["fi-splits"]))
    assert not (tmp_path / "given").exists()  # nothing to write: the tree gives its splits
    trainer(tmp_path / "fast", fast_dev_run=True).fit(Probe(), datamodule=module(painted["fi-zip"]))
    assert not (tmp_path / "fast").exists()


def test_split_file_of_another_tree_is_refused(painted, tmp_path):
    module(painted["fi-zip"]).write_split(tmp_path / "split.json")
    with pytest.raises(UniEmoError, match=r"must fit the tree; 64 of the 64 .*--data\.root"):
        module(painted["fi-csv"], split_file=str(tmp_path / "split.json")).check()
    with pytest.raises(UniEmoError, match="existing file"):
        module(painted["fi-zip"], split_file="nowhere.json").check()
    path = tmp_path / "half.json"
    path.write_text(json.dumps({"splits": {"train": splits(module(painted["fi-zip"]))["train"]}}))
    half = module(painted["fi-zip"], split_file=str(path))
    with pytest.warns(UserWarning, match="left out, first .*not in the split file"):
        half.check(("train",))
    with pytest.raises(UniEmoError, match=r"test .* has none"):
        half.check(("test",))


def test_folds_of_any_dataset(painted):
    tests = [splits(module(painted["fi-zip"], fold=k, folds=4))["test"] for k in (1, 2, 3, 4)]
    assert len(set(everything(tests))) == 64
    assert {len(test) for test in tests} == {16}
    for arguments, match in (
        ({"fold": 6}, r"data\.fold must lie in 1 … 5"),
        ({"folds": 1}, r"data\.folds"),
        ({"val_fraction": 1.5}, "val_fraction"),
        ({"on_error": "ignore"}, "on_error"),
    ):
        with pytest.raises(UniEmoError, match=match):
            module(painted["fi-zip"], **arguments)


def test_split_file_and_fold_must_agree(painted, tmp_path):
    module(painted["fi-zip"], fold=2).write_split(tmp_path / "split.json")
    assert module(painted["fi-zip"], fold=2, split_file=str(tmp_path / "split.json")).records("test")
    with pytest.raises(UniEmoError, match=r"of fold 2, data\.fold is 1"):
        module(painted["fi-zip"], fold=1, split_file=str(tmp_path / "split.json")).check()


# What is wrong with a tree.


@pytest.fixture
def tree(painted, tmp_path):
    """A copy of the author's zip that a test may damage."""
    return shutil.copytree(painted["fi-zip"], tmp_path / "tree")


def test_copies_stay_on_one_side_and_are_reported(tree, tmp_path):
    folder = tree / "emotion_dataset" / "awe"
    for name in ("x.jpg", "y.jpg", "z.jpg", "w.jpg", "v.jpg"):
        shutil.copy(folder / "awe_0000.jpg", folder / name)
    data = module(tree)
    with pytest.warns(UserWarning, match=r"6 images are copies .*\(1 different\), first .*awe_0000\.jpg = .*v\.jpg"):
        data.check()
    names = {f"emotion_dataset/awe/{name}.jpg" for name in ("awe_0000", "v", "w", "x", "y", "z")}
    assert sorted(len(names & set(files)) for files in splits(data).values()) == [0, 0, 6]
    data.write_split(tmp_path / "split.json")
    assert json.loads((tmp_path / "split.json").read_text())["duplicates"] == [sorted(names)]


def test_placeholder_is_never_trained_on(tree):
    gone = [f"emotion_dataset/{emotion}/gone.jpg" for emotion in ("awe", "anger", "fear")]
    for name in gone:
        Image.new("RGB", (32, 32), "white").save(tree / name)
    with pytest.warns(UserWarning, match="3 images are left out"):
        parts = splits(module(tree))
    assert not set(gone) & set(everything(parts.values()))
    assert sum(map(len, parts.values())) == 64


def break_files(tree):
    """Truncate an image and empty another, in the training split."""
    names = splits(module(tree, check=False))["train"][:2]
    (tree / names[0]).write_bytes((tree / names[0]).read_bytes()[:20])
    (tree / names[1]).write_bytes(b"")
    return names


def test_broken_images_stop_before_the_first_step(tree):
    names = break_files(tree)
    with pytest.raises(UniEmoError, match=r"2 of 48 in train .*uniemo data check .*--data\.on_error skip") as caught:
        module(tree).check()
    assert names[0] in str(caught.value)
    assert "\n" not in str(caught.value)
    module(tree).check(("test",))  # the other splits can be used
    module(tree, check=False).check()


def test_broken_images_are_skipped_for_good_and_listed(tree, tmp_path):
    names = break_files(tree)
    data = module(tree, on_error="skip")
    with pytest.warns(UserWarning, match="2 images are skipped, first emotion_dataset"):
        trainer(tmp_path / "run").fit(Probe(), datamodule=data)
    assert len(data.records("train")) == 46
    rows = [json.loads(line) for line in (tmp_path / "run" / "skipped.jsonl").read_text().splitlines()]
    assert {row["file"] for row in rows} == {str(tree / name) for name in names}
    assert {row["reason"] for row in rows} == {"no picture of a known kind", "zero bytes"}


def test_a_mended_image_is_used_again(tree):
    names = break_files(tree)
    good = next(file for file in splits(module(tree, check=False))["train"] if file not in names)
    with pytest.raises(UniEmoError):
        module(tree).check()
    for name in names:
        shutil.copy(tree / good, tree / name)
        with open(tree / name, "ab") as file:
            file.write(name.encode())  # no copy of another image
    module(tree).check()


def test_headers_are_looked_at_once(tree, monkeypatch):

    looked = []
    verify = usable.verify_image
    monkeypatch.setattr(usable, "verify_image", lambda path: (looked.append(path), verify(path))[1])
    module(tree).check()
    assert len(looked) == 64
    module(tree).check()
    assert len(looked) == 64


def test_missing_images_and_labels_outside_are_refused_or_skipped(painted, tmp_path):
    tree = shutil.copytree(painted["fi-csv"], tmp_path / "csv")
    lines = (tree / "FI.csv").read_text().splitlines()
    (tree / "images" / lines[1].split(",")[0]).unlink()
    with pytest.raises(UniEmoError, match=r"1 image is listed and cannot be used, first .*on_error skip"):
        module(tree).check(("val",))
    lines[2] = lines[2].rpartition(",")[0] + ",boredom"
    (tree / "FI.csv").write_text("\n".join(lines))
    data = module(tree, on_error="skip")
    with pytest.warns(UserWarning, match="2 images are skipped"):
        data.check()
    assert len(everything(splits(data).values())) == 62
    shutil.rmtree(tree / "images")
    with pytest.raises(UniEmoError, match="64 images are listed and cannot be used"):
        module(tree).check()
