import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trees import painted_tree
from uniemo.data import EmoSet, EmoSetDataset, PairedTransform
from uniemo.data.emoset import read_names
from uniemo.data.rows import Rows
from uniemo.errors import UniEmoError

REAL_INFO = Path(__file__).parents[3] / "shared" / "data" / "emoset_info.json"


@pytest.fixture
def tree(emoset_root, tmp_path):
    """A copy of the painted tree that a test may damage."""
    return Path(shutil.copytree(emoset_root, tmp_path / "tree"))


def _module(root):
    return EmoSet(str(root), image_size=32, diffusion_size=16, batch_size=8)


def _edit(path, change):
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def _refused(root, match):
    with pytest.raises(UniEmoError, match=match) as caught:
        _module(root).check()
    assert "\n" not in str(caught.value)


def test_three_and_four_tuples_agree(tree):
    before = _module(tree).records("train")
    _edit(tree / "train.json", lambda rows: [[e, Path(i).stem, i, a] for e, i, a in rows])
    after = _module(tree).records("train")
    assert before.names() == after.names()
    np.testing.assert_array_equal(before.scene, after.scene)


def test_flat_info_takes_names_from_annotations(tree):
    full = _module(tree)
    scenes = {full.vocabulary.scenes[i] for s in ("train", "val", "test") for i in full.records(s).scene if i >= 0}
    _edit(tree / "info.json", lambda info: info["emotion"])
    flat = _module(tree)
    assert flat.vocabulary.emotions == full.vocabulary.emotions
    assert flat.vocabulary.scenes == tuple(sorted(scenes))
    for split in ("train", "test"):
        full_scene, flat_scene = full.records(split).scene, flat.records(split).scene
        for i, j in zip(full_scene, flat_scene, strict=True):
            assert (i < 0 and j < 0) or full.vocabulary.scenes[i] == flat.vocabulary.scenes[j]


def test_missing_attributes_become_absent(tree):
    first = json.loads((tree / "train.json").read_text())[0]
    _edit(tree / first[2], lambda note: {"emotion": note["emotion"]})
    batch = next(iter(_module(tree).evaluation_loader("train")))
    assert batch.scene[0] == -1
    assert not batch.objects[0].any()
    _edit(tree / first[2], lambda note: {"emotion": note["emotion"], "scene": None, "object": "cake"})  # not a list
    batch = next(iter(_module(tree).evaluation_loader("train")))
    assert batch.scene[0] == -1
    assert batch.objects[0].nonzero().flatten().tolist() == [_module(tree).vocabulary.objects.index("Cake")]


def test_names_match_whatever_case_blanks_and_underscores(tmp_path):
    objects = ("Alarm clock", "boxing", "bakery/shop", "petting animal (not cat)", "carousel", "carrousel")
    expected = {"alarm_clock": 0, "Alarm clock": 0, " ALARM  CLOCK ": 0, "boxing ": 1, "Bakery/Shop": 2}
    expected |= {"petting_animal_(not_cat)": 3, "carousel": 4, "carrousel": 5, "bakery": -1}
    rows = Rows(tmp_path, ("awe",), objects=objects)
    for number, name in enumerate(expected):
        (tmp_path / f"{number}.jpg").touch()
        rows.add(f"{number}.jpg", "awe", objects=(name,))
    info, table = rows.manifest(EmoSet.layouts[0], tmp_path)
    assert table["objects"].to_pylist() == [[] if index < 0 else [index] for index in expected.values()]
    assert info.warnings == ("EmoSet: 1 object names are not in info.json (most often 'bakery') and count as absent",)


def test_scene_and_object_name_spaces_stay_apart(tree):
    def castle(info):
        for kind, index in (("scene", len(info["scene"]["label2idx"])), ("object", len(info["object"]["label2idx"]))):
            info[kind]["label2idx"]["castle" if kind == "scene" else "Castle"] = index
        return info

    _edit(tree / "info.json", castle)
    first, second = json.loads((tree / "train.json").read_text())[:2]
    _edit(tree / first[2], lambda note: {"emotion": note["emotion"], "scene": "Castle"})
    _edit(tree / second[2], lambda note: {"emotion": note["emotion"], "object": ["castle", "Castle "]})
    data = _module(tree)
    records = data.records("train")
    assert data.vocabulary.scenes[records.scene[0]] == "castle"
    assert len(records.objects(0)) == 0
    assert records.scene[1] == -1
    assert [data.vocabulary.objects[i] for i in records.objects(1)] == ["Castle"]


@pytest.mark.skipif(not REAL_INFO.is_file(), reason="EmoSet's own index is not at hand")
def test_real_vocabulary(tmp_path):
    shutil.copy(REAL_INFO, tmp_path / "info.json")
    emotions, scenes, objects = read_names(tmp_path)
    assert [len(emotions), len(scenes), len(objects)] == [8, 254, 409]
    assert emotions[:2] == ("amusement", "awe")


def test_masks_follow_the_pictures(emoset_root):
    batch = next(iter(_module(emoset_root).test_dataloader()))
    assert batch.masks.shape == (8, 1, 32, 32)
    assert ((batch.masks.mean(dim=(1, 2, 3)) > 0.02) & (batch.masks.mean(dim=(1, 2, 3)) < 0.5)).all()
    assert next(iter(_module(emoset_root).train_dataloader())).masks is None


def test_image_without_a_mask_gets_zeros(tree):
    first = json.loads((tree / "test.json").read_text())[0]
    (tree / first[1].replace("image/", "mask/").replace(".jpg", ".png")).unlink()
    batch = next(iter(_module(tree).test_dataloader()))
    assert batch.masks[0].max() == 0
    assert batch.masks[1].max() > 0.5
    shutil.rmtree(tree / "mask")
    assert next(iter(_module(tree).test_dataloader())).masks is None


def test_dataset_alone(emoset_root):
    dataset = EmoSetDataset(emoset_root, "val", PairedTransform(32))
    sample = dataset[3]
    assert len(dataset) == 16
    assert sample.image.shape == (3, 32, 32)
    assert sample.target is None
    assert dataset.vocabulary.emotions[sample.emotion] in sample.name
    assert sample.objects.dtype == torch.bool


def test_refusals(tree, tmp_path):
    _refused(tmp_path / "nowhere", "existing folder")
    (tmp_path / "void").mkdir()
    _refused(tmp_path / "void", "is empty")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.txt").write_text("x")
    _refused(tmp_path / "other", r"info\.json")
    _edit(tree / "val.json", lambda rows: [])
    _refused(tree, r"val\.json lists none")
    (tree / "val.json").write_text("no json")
    _refused(tree, r"val\.json must be JSON")
    _edit(tree / "test.json", lambda rows: [["awe", "x.jpg"]])
    (tree / "val.json").write_text((tree / "train.json").read_text())
    _refused(tree, "entry 0 of")
    (tree / "train.json").unlink()
    _refused(tree, r"train\.json does not exist")


def test_missing_image_is_named(tree):
    first = json.loads((tree / "train.json").read_text())[0]
    (tree / first[1]).unlink()
    _refused(tree, Path(first[1]).name)
    with pytest.raises(UniEmoError, match=Path(first[1]).name):
        EmoSetDataset(tree, "train", PairedTransform(32))
    _module(tree).check(("test",))  # the other splits can be used


def test_unknown_emotion_and_bad_info(tree):
    _edit(tree / "train.json", lambda rows: [["joy", *rows[0][1:]], *rows[1:]])
    with pytest.raises(UniEmoError, match="label 'joy'"):
        _module(tree).records("train")
    _edit(tree / "info.json", lambda info: {"something": 1})
    with pytest.raises(UniEmoError, match="label2idx"):
        _ = _module(tree).vocabulary


# Splits and copies.


def _files(data):
    return {split: data.records(split).names() for split in ("train", "val", "test")}


def test_a_copy_in_training_gives_way_to_the_test_image(tree, tmp_path):
    rows = {split: json.loads((tree / f"{split}.json").read_text()) for split in ("train", "test")}
    shutil.copy(tree / rows["test"][0][1], tree / rows["train"][3][1])
    before, data = [row[1] for row in rows["train"]], _module(tree)
    with pytest.warns(UserWarning, match="2 images are copies"):
        data.check()
    assert data.records("train").names() == [*before[:3], *before[4:]]
    assert len(data.records("test")) == 16
    assert data.records("train").sample_id.tolist() == [*range(3), *range(4, 32)]  # attributes stay with their image
    data.write_split(tmp_path / "split.json")
    written = json.loads((tmp_path / "split.json").read_text())
    assert list(written["left_out"]) == [rows["train"][3][1]]
    assert written["counts"] == {"train": 31, "val": 16, "test": 16}


def test_official_splits_are_kept_without_a_file(emoset_root):
    data = _module(emoset_root)
    assert data.assignment.source == "tree"
    assert data.describe() == "EmoSet (emoset): 32 train, 16 val, 16 test images; splits of the tree"


def test_other_splits_on_request(emoset_root, tmp_path):
    official = _files(_module(emoset_root))
    folds = [EmoSet(str(emoset_root), 32, None, fold=k) for k in range(1, 6)]
    tests = [set(_files(data)["test"]) for data in folds]
    assert set.union(*tests) == {file for files in official.values() for file in files}
    assert sum(map(len, tests)) == 64
    records, vocabulary = folds[0].records("train"), folds[0].vocabulary
    truth = json.loads((emoset_root / "truth.json").read_text())["images"]
    for file, scene in zip(records.names(), records.scene, strict=True):
        assert scene < 0 or vocabulary.scenes[scene] == truth[Path(file).stem]["scene"]
    assert len(set(records.sample_id.tolist())) == len(records)
    assert next(iter(folds[0].test_dataloader())).masks is not None
    folds[0].write_split(tmp_path / "split.json")
    again = EmoSet(str(emoset_root), 32, None, split_file=str(tmp_path / "split.json"))
    assert _files(again) == _files(folds[0])


@pytest.mark.parametrize("name", ["emoset-parquet", "emoset-hf"])
def test_exports_open(tmp_path, name):
    painted_tree(name, tmp_path / "export", 48, size=32)
    data = _module(tmp_path / "export")
    assert sum(map(len, _files(data).values())) == 48
    batch = next(iter(data.train_dataloader()))
    assert (batch.scene >= 0).any()
    assert batch.objects.any()
    assert data.manifest.info.layout == {"emoset-parquet": "parquet", "emoset-hf": "hf-disk"}[name]


def test_export_without_test_images_is_cut(tmp_path):
    painted_tree("emoset-parquet", tmp_path / "export", 48, size=32)
    for path in [*tmp_path.glob("export/**/*test*"), *tmp_path.glob("export/**/*val*")]:
        path.unlink()
    data = _module(tmp_path / "export")
    counts = [len(files) for files in _files(data).values()]
    assert all(counts)
    assert "stratified split" in data.describe()


@pytest.mark.parametrize("old_info", [False, True])
def test_entries_that_cannot_be_used_are_left_out_and_named(emoset_root, tmp_path, old_info):
    tree = Path(shutil.copytree(emoset_root, tmp_path / "tree"))
    entries = json.loads((tree / "train.json").read_text())
    if old_info:
        info = json.loads((tree / "info.json").read_text())["emotion"]
        (tree / "info.json").write_text(json.dumps(info))
    (tree / entries[0][1]).unlink()
    (tree / entries[1][2]).unlink()
    (tree / entries[2][2]).write_text("no json")
    entries[3][0] = "boredom"
    (tree / "train.json").write_text(json.dumps(entries))
    with pytest.raises(
        UniEmoError, match=r"4 images are listed and cannot be used .*its annotation does not exist.* first"
    ):
        EmoSet(str(tree), 32, None).check(("train",))
    data = EmoSet(str(tree), 32, None, on_error="skip")
    with pytest.warns(UserWarning, match="4 images are skipped"):
        data.check(("train",))
    records = data.records("train")
    assert list(records.names()) == [entry[1] for entry in entries[4:]]
    assert records.emotion.tolist() == [data.vocabulary.emotion_index(entry[0]) for entry in entries[4:]]
    assert list(data.left_out) == [entry[1] for entry in entries[:4]]
    reasons = list(data.left_out.values())
    assert reasons[0] == "it does not exist"
    assert reasons[1] == "its annotation does not exist"
    assert reasons[2].startswith("its annotation cannot be used")
    assert reasons[3] == "label 'boredom'"
