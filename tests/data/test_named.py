"""Datasets that the field asks for by name, on small trees in their layouts and on real lists."""

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import uniemo.data
from tests.data.probe import Probe, trainer
from tests.real import real
from uniemo.cli.arguments import _dataset
from uniemo.data.check import check_tree
from uniemo.data.layout import find_layout, layouts_of, read_manifest
from uniemo.errors import UniEmoError
from uniemo.taxonomy import EMOTION_ROI_6, MIKELS_8

COUNT = 40
LOVE_6 = ("anger", "fear", "joy", "love", "sadness", "surprise")
CATEGORIES = ("animal", "object", "person", "scenery")
FINE = (("affection", "love", "+"), ("disgust", "anger", "-"), ("horror", "fear", "-"), ("zest", "joy", "+"))
MIXED = ("amusement", "anger", "awe", "content", "disgust", "excitement", "fear", "sad")  # Abstract's and Artphoto's


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16), (6 * number % 256, number, 40)).save(path, "JPEG")


def votes(top, size, total):
    return [total - 1 if column == top else int(column == (top + 1) % size) for column in range(size)]


def emotion6(root):
    names = (*EMOTION_ROI_6, "neutral")
    lines = ["\t".join(["[image_filename]", "[valence]", "[arousal]", *(f"[prob. of {name}]" for name in names)])]
    for number in range(COUNT):
        file = f"{EMOTION_ROI_6[number % 6]}/{number}.jpg"
        picture(root / "images" / file, number)
        shares = [share / 15 for share in votes(number % 7, 7, 15)]
        lines.append("\t".join(map(str, (file, 4.5, 5.25, *shares))))
    (root / "ground_truth.txt").write_text("\r\n".join(lines))


def ldl(voters, given):
    def write(root):
        lines = [f"{number}.jpg {' '.join(map(str, votes(number % 8, 8, voters)))} " for number in range(COUNT)]
        for number in range(COUNT):
            picture(root / "images" / f"{number}.jpg", number)
        if not given:
            head = " ".join(("images-name", *(name.capitalize() for name in MIKELS_8)))
            (root / "ground_truth.txt").write_text("\n".join((head, *lines)))
            return
        for fold in range(5):
            test = [line for number, line in enumerate(lines) if number // 8 == fold]
            (root / f"val{fold + 1}.csv").write_text("\n".join(test))
            (root / f"train{fold + 1}.csv").write_text("\n".join(line for line in lines if line not in test))

    return write


def oasis(root):
    lines = [",Theme,Category,Source,Valence_mean,Valence_SD,Valence_N,Arousal_mean,Arousal_SD,Arousal_N"]
    for number in range(COUNT):
        picture(root / "Images" / f"Thing {number}.jpg", number)
        category = CATEGORIES[number % 4].capitalize()
        lines.append(f"I{number},Thing {number} ,{category},Pixabay,{1 + number / 10},1.2,99,4.5,1.8,98")
    (root / "OASIS.csv").write_text("\r".join(lines))


def artphoto(root):
    for number in range(COUNT):
        picture(root / "testImages_artphoto" / f"{MIXED[number % 8]}_{number:04}.jpg", number)


def abstract(root):
    root /= "testImages_abstract"
    lines = [",".join(f"'{name.capitalize()}'" for name in ("", *MIXED))]
    for number in range(COUNT):
        picture(root / f"abstract_{number:04}.jpg", number)
        lines.append(",".join((f"'abstract_{number:04}.jpg'", *map(str, votes(number % 8, 8, 14)))))
    (root / "ABSTRACT_groundTruth.csv").write_text("\n".join(lines))


def unbiasedemo(root):
    for number in range(COUNT):
        picture(root / "images" / LOVE_6[number % 6] / "dog" / f"{number}.jpg", number)


def webemo(root):
    (root / "images").mkdir(parents=True)
    (root / "category.txt").write_text("\n".join(map(str, FINE)))
    parts = {"train": [], "test": []}
    for number in range(COUNT):
        split = "test" if number >= 32 else "train"
        picture(root / "images" / split / FINE[number % 4][0] / f"220_F_{number}.jpg", number)
        parts[split].append(f"https://as2.example.net/jpg/00/{number}/220_F_{number}.jpg {number % 4}")
    for split, lines in parts.items():
        (root / f"{split}25.txt").write_text("\n".join(lines))


TREES = {
    "emotion6": ("Emotion6", (*EMOTION_ROI_6, "neutral"), emotion6),
    "flickr-ldl": ("FlickrLDL", MIKELS_8, ldl(11, given=False)),
    "flickr-ldl-folds": ("FlickrLDL", MIKELS_8, ldl(11, given=True)),
    "twitter-ldl": ("TwitterLDL", MIKELS_8, ldl(8, given=False)),
    "twitter-ldl-folds": ("TwitterLDL", MIKELS_8, ldl(8, given=True)),
    "oasis": ("OASIS", CATEGORIES, oasis),
    "artphoto": ("Artphoto", MIKELS_8, artphoto),
    "abstract": ("Abstract", MIKELS_8, abstract),
    "unbiasedemo": ("UnbiasedEmo", LOVE_6, unbiasedemo),
    "webemo": ("WEBEmo", tuple(sorted(row[0] for row in FINE)), webemo),
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A tree of each layout; tests do not write into them."""
    folder = tmp_path_factory.mktemp("named")
    for name, (_, _, write) in TREES.items():
        (folder / name).mkdir()
        write(folder / name)
    return folder


def module(root, dataset, **changes):
    kind = getattr(uniemo.data, dataset)
    return kind(**{"root": str(root), "image_size": 16, "diffusion_size": None, "batch_size": 8, **changes})


def expected(name, number):
    """Return the label of a picture of a tree."""
    emotions = TREES[name][1]
    if name.endswith(("ldl", "ldl-folds", "emotion6", "oasis", "unbiasedemo")):
        return emotions[number % len(emotions)]
    if name == "webemo":
        return FINE[number % 4][0]
    return {"content": "contentment", "sad": "sadness"}.get(MIXED[number % 8], MIXED[number % 8])


@pytest.mark.parametrize("name", TREES)
def test_recognised_and_labelled(trees, name, tmp_path):
    dataset, emotions, _ = TREES[name]
    layout, _ = find_layout(trees / name, layouts_of(None))
    assert (layout.name, layout.dataset) == (name, dataset)
    data = module(trees / name, dataset)
    manifest = data.manifest
    assert (manifest.info.layout, manifest.vocabulary.emotions) == (name, emotions)
    assert (len(manifest), manifest.info.problems) == (COUNT, ())
    for path, emotion in zip(manifest.names(), manifest.emotions(), strict=True):
        assert emotion == expected(name, int(re.findall(r"\d+", path)[-1])), path
    assert sum(len(data.records(split)) for split in ("train", "val", "test")) == COUNT
    trainer(tmp_path, fast_dev_run=True).fit(Probe(), datamodule=data)


@pytest.mark.parametrize("name", TREES)
def test_no_other_dataset_takes_the_tree_first(trees, name):
    dataset = TREES[name][0]
    root = find_layout(trees / name, layouts_of(None))[1]
    named = {layout.dataset for layout in layouts_of(None) if layout.matches(root)} - {"EmotionROI", "FI"}
    assert named == {dataset}  # the folders of joy and surprise are EmotionROI's too, which is asked later


def test_data_check(trees):
    report = check_tree(trees / "abstract", workers=1)
    assert (report.dataset, report.images, report.published["all"]["all"]) == ("Abstract", COUNT, 228)
    assert {finding.kind for finding in report.findings} == {"counts", "label_case"}  # 40 images, and "Awe" in its head
    assert check_tree(trees / "twitter-ldl-folds", workers=1).splits == "folds"


def test_short_names():
    for text in ("Emotion6", "Flickr_LDL", "twitter-ldl", "oasis", "ArtPhoto", "abstract", "UnBiasedEmo", "WebEmo"):
        assert _dataset(text).removeprefix("uniemo.data.") in uniemo.data.DATASETS


def test_emotion6_folders_are_the_keywords(trees):
    manifest = module(trees / "emotion6", "Emotion6", layout="emotion6-folders").manifest
    assert manifest.vocabulary.emotions == EMOTION_ROI_6
    assert all(
        name.split("/")[1] == emotion for name, emotion in zip(manifest.names(), manifest.emotions(), strict=True)
    )


def test_a_missing_image_is_no_other_folders(trees, tmp_path):
    tree = shutil.copytree(trees / "emotion6", tmp_path / "tree")
    shutil.move(tree / "images" / "fear" / "8.jpg", tree / "images" / "disgust")  # which is what people felt
    manifest = module(tree, "Emotion6").manifest
    assert [problem.image for problem in manifest.info.problems] == ["images/fear/8.jpg"]
    assert len(manifest) == COUNT - 1


def test_given_folds(trees):
    data = module(trees / "flickr-ldl-folds", "FlickrLDL", fold=2)
    assert sorted(data.records("test").names()) == sorted(f"images/{number}.jpg" for number in range(8, 16))
    assert "fold 2 of 5, given by the tree" in data.describe()
    assert "stratified" in module(trees / "flickr-ldl", "FlickrLDL").describe()


def test_ties_are_counted(trees, tmp_path):
    tree = shutil.copytree(trees / "twitter-ldl", tmp_path / "ldl")
    path = tree / "ground_truth.txt"
    text = path.read_text().replace("3.jpg 0 0 0 7 1 0 0 0", "3.jpg 0 0 0 4 4 0 0 0")
    path.write_text(text.replace("12.jpg 0 0 0 0 7 1 0 0", "12.jpg 0 0 0 0 0 0 0 0"))
    manifest = module(tree, "TwitterLDL").manifest
    assert dict(zip(manifest.names(), manifest.emotions(), strict=True))["images/3.jpg"] == "excitement"
    assert any(note.startswith("1 image is tied") and "images/3.jpg" in note for note in manifest.info.notes)
    assert [(one.image, one.label) for one in manifest.info.problems] == [("images/12.jpg", "no votes")]

    tree = shutil.copytree(trees / "abstract", tmp_path / "abstract")
    path = tree / "testImages_abstract" / "ABSTRACT_groundTruth.csv"
    path.write_text(path.read_text().replace("13,1,0,0,0,0,0,0", "7,7,0,0,0,0,0,0"))
    manifest = module(tree, "Abstract").manifest
    assert len(manifest) == COUNT - 5
    assert manifest.info.notes[0] == "5 images are tied between emotions: left out, first abstract_0000.jpg"


@pytest.mark.parametrize("name", ["emotion6", "flickr-ldl", "twitter-ldl-folds", "abstract"])
def test_votes_as_targets(trees, name):
    dataset, emotions, _ = TREES[name]
    data = module(trees / name, dataset, target="distribution")
    assert data.describe().endswith("; targets: distributions of votes")
    batch = next(iter(data.evaluation_loader("train")))
    size = len(emotions)
    voters = {"emotion6": 15, "flickr-ldl": 11, "twitter-ldl-folds": 8, "abstract": 14}[name]
    for image, row in zip(batch.names, batch.distribution, strict=True):
        top = int(re.findall(r"\d+", image)[-1]) % size
        shares = dict.fromkeys(emotions, 0.0)
        columns = MIXED if name == "abstract" else emotions
        words = {"content": "contentment", "sad": "sadness"}
        for column, count in zip(columns, votes(top, size, voters), strict=True):
            shares[words.get(column, column)] = count / voters
        assert row.tolist() == pytest.approx(list(shares.values()))
    single = module(trees / name, dataset)
    assert next(iter(single.val_dataloader())).distribution is None
    loader = data.train_dataloader()
    assert next(iter(loader)).to("cpu").distribution.shape == (8, size)


@pytest.mark.parametrize(("name", "layout"), [("artphoto", "artphoto"), ("emotion6", "emotion6-folders")])
def test_no_votes_no_distributions(trees, name, layout):
    data = module(trees / name, TREES[name][0], layout=layout, target="distribution")
    with pytest.raises(UniEmoError, match=rf"data\.target must be emotion for data without votes; .*\({layout}\)"):
        data.check()
    with pytest.raises(UniEmoError, match=r"data\.target must be emotion or distribution; got 'votes'"):
        module(trees / name, TREES[name][0], target="votes")


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("0.jpg 7", "0.jpg x", r"votes must be numbers from 0.*line 2 of .*ground_truth\.txt"),
        ("0.jpg 7 1", "0.jpg 7 -1", "votes must be numbers"),
        ("0.jpg 7 1", "0.jpg nan 1", "votes must be numbers"),
        (" Awe", " Ave", "must have a column for each of amusement, awe"),
    ],
)
def test_broken_votes(trees, tmp_path, old, new, match):
    tree = shutil.copytree(trees / "twitter-ldl", tmp_path / "tree")
    path = tree / "ground_truth.txt"
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(UniEmoError, match=match) as caught:
        module(tree, "TwitterLDL", layout="twitter-ldl").check()
    assert "\n" not in str(caught.value)


def test_webemo_levels(trees, tmp_path):
    six = module(trees / "webemo", "WEBEmo", classes=6).manifest
    assert six.vocabulary.emotions == ("anger", "fear", "joy", "love")
    two = module(trees / "webemo", "WEBEmo", classes=2)
    assert two.vocabulary.emotions == ("positive", "negative")
    assert set(two.records("test").names()) == {name for name in six.names() if "/test/" in name}
    with pytest.raises(UniEmoError, match=r"data\.classes must be one of 25, 6, 2; got 7"):
        module(trees / "webemo", "WEBEmo", classes=7).check()
    tree = shutil.copytree(trees / "webemo", tmp_path / "tree")
    (tree / "category.txt").write_text("affection love")
    with pytest.raises(UniEmoError, match=r"category\.txt must list"):
        module(tree, "WEBEmo").check()
    shutil.copy(trees / "webemo" / "category.txt", tree)
    (tree / "images" / "test" / "affection" / "220_F_36.jpg").unlink()
    (problem,) = module(tree, "WEBEmo").manifest.info.problems
    assert (problem.image, problem.split) == ("images/220_F_36.jpg", "test")


def test_valence_and_arousal_reach_batches(trees):
    data = module(trees / "oasis", "OASIS", batch_size=4)
    batch = next(iter(data.train_dataloader()))
    numbers = [int(re.search(r"(\d+)\.jpg", name)[1]) for name in batch.names]
    assert batch.affect.dtype == torch.float32
    assert batch.affect.tolist() == [pytest.approx([1 + number / 10, 4.5]) for number in numbers]
    assert batch.affect_sd.tolist() == [pytest.approx([1.2, 1.8])] * 4
    assert batch.to("cpu").affect.shape == (4, 2)
    six = module(trees / "emotion6", "Emotion6").manifest
    assert six.vocabulary.affect == (1, 9)
    assert six.affect(3)[:2].tolist() == [4.5, 5.25]
    assert np.isnan(six.affect(3)[2:]).all()
    assert next(iter(module(trees / "artphoto", "Artphoto").train_dataloader())).affect is None


@pytest.mark.parametrize(
    ("cells", "match"),
    [
        ("8,1.2,99,4.5,1.8,98", r"numbers from 1 to 7.* line 2 of .*OASIS\.csv has 8, 4\.5, 1\.2, 1\.8"),
        ("2,1.2,99,,1.8,98", "line 2 .*: correct it, or leave both empty"),
        ("2,-1,99,4.5,1.8,98", "deviations from 0"),
        ("two,1,99,4.5,1.8,98", "has two, 4.5"),
        ("nan,1,99,4.5,1.8,98", "has nan, 4.5"),
    ],
)
def test_broken_valence_and_arousal(trees, tmp_path, cells, match):
    tree = shutil.copytree(trees / "oasis", tmp_path / "tree")
    path = tree / "OASIS.csv"
    path.write_text(path.read_text().replace("1.0,1.2,99,4.5,1.8,98", cells, 1))
    with pytest.raises(UniEmoError, match=match) as caught:
        module(tree, "OASIS").check()
    assert "\n" not in str(caught.value)


def test_unrated_image_has_none(trees, tmp_path):
    tree = shutil.copytree(trees / "oasis", tmp_path / "tree")
    path = tree / "OASIS.csv"
    path.write_text(path.read_text().replace("1.0,1.2,99,4.5,1.8,98", ",,0,,,0", 1))
    manifest = module(tree, "OASIS").manifest
    assert sum(np.isnan(manifest.affect(index)).all() for index in range(COUNT)) == 1


# Real lists.


def test_oasis_as_distributed():
    manifest = read_manifest(real("oasis"), layouts_of(None))
    assert (manifest.info.layout, len(manifest), len(manifest.info.problems)) == ("oasis", 514, 386)
    assert "images/Acorns 1.jpg" in manifest.names()
    labels = dict(zip(manifest.names(), manifest.emotions(), strict=True))
    assert labels["images/Acorns 1.jpg"] == "object"
    assert manifest.vocabulary.affect == (1, 7)
    row = manifest.names().index("images/Acorns 1.jpg")
    assert manifest.affect(row) == pytest.approx([4.68627451, 2.346534653, 0.954202712, 1.602720459], abs=1e-6)
    assert all(np.isfinite(manifest.affect(index)).all() for index in range(514))
    assert not any("in no list" in note for note in manifest.info.notes)


@pytest.mark.parametrize(("name", "dataset"), [("flickr", "FlickrLDL"), ("twitter", "TwitterLDL")])
def test_ldl_votes_as_distributed(tmp_path, name, dataset):
    lists = real("ldl") / name
    for file in lists.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "images").mkdir()
    tests = [line.split() for line in (lists / "val3.csv").read_text().splitlines()]
    for number, (image, *_) in enumerate(tests):
        (tmp_path / "images" / image).write_bytes(number.to_bytes(4))  # labels only: no picture is opened
    data = module(tmp_path, dataset, fold=3, check=False, on_error="skip")
    manifest = data.manifest
    assert manifest.info.layout == f"{name}-ldl-folds"
    assert len(manifest) + len(manifest.info.problems) == data.published["all"]["all"]
    assert len(manifest) == len(tests)
    assert set(manifest.column("folds").to_pylist()[0]) == {3}
    found = dict(zip(manifest.names(), manifest.emotions(), strict=True))
    for image, *row in tests:
        numbers = list(map(int, row))
        assert found[f"images/{image}"] == MIKELS_8[numbers.index(max(numbers))]
    shares = {file: manifest.distribution(row).tolist() for row, file in enumerate(manifest.names())}
    for image, *row in tests:
        assert shares[f"images/{image}"] == pytest.approx([int(vote) / sum(map(int, row)) for vote in row])
