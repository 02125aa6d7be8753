import shutil

import pytest

from tests.trees import painted_tree
from uniemo.data import EmotionROI
from uniemo.errors import UniEmoError
from uniemo.taxonomy import EMOTION_ROI_6

LAYOUTS = ("emotionroi", "emotionroi-root-lists", "emotionroi-csv")


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Painted trees; tests do not write into them."""
    folder = tmp_path_factory.mktemp("roi")
    return {name: painted_tree(name, folder / name, 60, size=32) for name in LAYOUTS}


def module(root, **changes):
    return EmotionROI(**{"root": str(root), "image_size": 32, "diffusion_size": None, "batch_size": 8, **changes})


@pytest.mark.parametrize("name", LAYOUTS)
def test_given_test_images_and_validation_from_training(painted, name):
    data = module(painted[name])
    assert data.vocabulary.emotions == EMOTION_ROI_6
    assert [len(data.records(split)) for split in ("train", "val", "test")] == [36, 6, 18]
    both = [*data.records("train").names(), *data.records("val").names()]
    if name == "emotionroi":
        folder = painted[name] / "training_testing_split"
        given = (folder / "training.txt").read_text().split()
        assert sorted(both) == sorted(f"images/{line}" for line in given)
    for split in ("train", "val", "test"):
        records = data.records(split)
        labels = [EMOTION_ROI_6[label] for label in records.emotion]
        assert labels == [file.split("/")[1].lower() for file in records.names()]
    assert data.records("val").names() == module(painted[name]).records("val").names()
    assert data.records("val").names() != module(painted[name], seed=1).records("val").names()


def test_maps_come_with_validation_and_test_batches(painted):
    data = module(painted["emotionroi"])
    records = data.records("test")
    for index, name in enumerate(records.names()):
        assert records.mask(index) == records.root / name.replace("images/", "ground_truth/")
    for loader in (data.val_dataloader(), data.test_dataloader()):
        masks = next(iter(loader)).masks
        assert masks.shape[1:] == (1, 32, 32)
        assert (masks.amax(dim=(1, 2, 3)) > 0.5).all()
        assert (masks.mean(dim=(1, 2, 3)) < 0.6).all()
    assert next(iter(data.train_dataloader())).masks is None


def test_a_map_of_another_file_type_and_one_that_lacks(painted, tmp_path):
    tree = shutil.copytree(painted["emotionroi"], tmp_path / "tree")
    maps = sorted((tree / "ground_truth" / "awe").parent.rglob("*.jpg"))
    maps[0].rename(maps[0].with_suffix(".PNG"))
    maps[1].unlink()
    manifest = module(tree).manifest
    masks = {name.removeprefix("images/"): manifest.mask(index) for index, name in enumerate(manifest.names())}
    inner = [path.relative_to(tree / "ground_truth").as_posix() for path in maps[:2]]
    assert masks[inner[0]] == tree / f"ground_truth/{inner[0].removesuffix('.jpg')}.PNG"
    assert masks[inner[1]] is None
    assert manifest.info.notes == (f"1 image has no map in ground_truth/, first images/{inner[1]}",)


def test_without_lists_the_folders_are_cut(painted, tmp_path):
    tree = shutil.copytree(painted["emotionroi"], tmp_path / "tree")
    shutil.rmtree(tree / "training_testing_split")
    data = module(tree)
    assert data.manifest.info.layout == "emotionroi-folders"
    assert [len(data.records(split)) for split in ("train", "val", "test")] == [36, 6, 18]
    assert data.records("test").has_masks()


def test_windows_lists_and_images_outside_the_lists(painted, tmp_path):
    tree = shutil.copytree(painted["emotionroi-root-lists"], tmp_path / "tree")
    lines = (tree / "training.txt").read_text().split()
    text = "\ufeff" + "\r\n".join(line.replace("/", "\\").upper() for line in lines[1:])
    (tree / "training.txt").write_text(text, encoding="utf-8")
    data = module(tree)
    assert len(data.records("train")) + len(data.records("val")) == 41
    assert data.manifest.info.notes == (f"1 image is in no list, first images/{lines[0]}",)
    (tree / "training.txt").write_text("")
    with pytest.raises(UniEmoError, match=r"training\.txt names none"):
        module(tree).check()
