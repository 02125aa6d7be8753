import shutil

import pytest
from PIL import Image

from tests.real import real
from tests.trees import painted_tree
from uniemo.data import TwitterI, TwitterII
from uniemo.data.layout import layouts_of, read_manifest
from uniemo.errors import UniEmoError

FIRST = ("twitter1-amt", "twitter1-agrees", "twitter1-folds", "twitter1-csv")
SECOND = ("twitter2-topics", "twitter2-csv")


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """Painted trees; tests do not write into them."""
    folder = tmp_path_factory.mktemp("twitter")
    return {name: painted_tree(name, folder / name, 60, size=24) for name in (*FIRST, *SECOND)}


def read(root, dataset=None, **options):
    return read_manifest(root, layouts_of(dataset), **options)


def module(root, kind=TwitterI, **changes):
    return kind(**{"root": str(root), "image_size": 24, "diffusion_size": None, "batch_size": 8, **changes})


def splits(data):
    return {split: data.records(split).names() for split in ("train", "val", "test")}


def labels(data):
    names = data.vocabulary.emotions
    return {
        file.rpartition("/")[2]: names[label]
        for split in ("train", "val", "test")
        for file, label in zip(data.records(split).names(), data.records(split).emotion, strict=True)
    }


def test_every_layout_says_the_same(painted):
    found = [labels(module(painted[name])) for name in FIRST]
    assert found[0] == found[1] == found[2] == found[3]
    assert list(found[0].values()).count("positive") > list(found[0].values()).count("negative") > 0
    assert module(painted[FIRST[0]]).vocabulary.emotions == ("positive", "negative")


@pytest.mark.parametrize("name", FIRST)
def test_agreement_nests(painted, name):
    three, four, five = (set(labels(module(painted[name], agreement=word))) for word in ("three", "four", "five"))
    assert five < four < three
    assert len(three) == 60
    with pytest.raises(UniEmoError, match=r"data\.agreement must be one of three, four, five; got 'six'"):
        module(painted[name], agreement="six").check()


@pytest.mark.parametrize(("name", "kind"), [(FIRST[0], TwitterI), (FIRST[2], TwitterI), (SECOND[0], TwitterII)])
def test_five_folds_test_each_image_once(painted, name, kind):
    parts = [splits(module(painted[name], kind, fold=k)) for k in range(1, 6)]
    tests = [set(part["test"]) for part in parts]
    assert len(set.union(*tests)) == sum(map(len, tests)) == len(labels(module(painted[name], kind)))
    assert max(map(len, tests)) - min(map(len, tests)) <= 1
    for part in parts:
        assert not set(part["train"]) & set(part["val"])
        assert not set(part["test"]) & {*part["train"], *part["val"]}
    assert splits(module(painted[name], kind)) == parts[0]  # fold 1 is meant where none is given
    assert ("seed 0" in module(painted[name], kind).describe()) == (name != FIRST[2])


def test_given_folds_are_used(painted):
    root = painted["twitter1-folds"]
    given = (root / "five_agrees" / "test3" / "test.txt").read_text().splitlines()
    test = module(painted["twitter1-folds"], fold=3).records("test")
    assert sorted(test.names()) == sorted(f"images/{line.rpartition(' ')[0]}" for line in given)
    assert [line.rpartition(" ")[2] for line in sorted(given)] == ["10"[label] for label in test.emotion]  # 1: positive
    with pytest.raises(UniEmoError, match=r"data\.folds must be 5, as the tree .* --fresh --folds 10"):
        module(root, folds=10, fold=7).check()


def test_an_agreement_that_the_tree_lacks(painted, tmp_path):
    tree = shutil.copytree(painted["twitter1-csv"], tmp_path / "tree")
    (tree / "5agree.csv").unlink()
    with pytest.raises(UniEmoError, match=r"has a list for \(three, four\); got five: set --data\.agreement"):
        module(tree).check()
    module(tree, agreement="four").check()


def votes(root, text):
    (root / "Agg_AMT_Candidates").mkdir(exist_ok=True)
    for number in range(5):
        Image.new("RGB", (8, 8), (40 * number, 0, 0)).save(root / "Agg_AMT_Candidates" / f"{number}.jpg")
    (root / "amt_result.csv").write_text(text)
    manifest = read(root, agreement="three")
    pairs = zip(manifest.names(), manifest.emotions(), strict=True)
    return [(name[-5], emotion) for name, emotion in pairs], manifest.info.notes


@pytest.mark.parametrize(
    "text",
    [
        "filename,total,votes\n0.jpg,5,5\n1.jpg,5,0\n2.jpg,5,4\n3.jpg,5,2\n4.jpg,4,2\n",
        "0.jpg,5,5\n1.jpg,5,0\n2.jpg,5,4\n3.jpg,5,2\n4.jpg,4,2\n",
        "votes;filename;total\n5;0.jpg;5\n0;1.jpg;5\n4;2.jpg;5\n2;3.jpg;5\n2;4.jpg;4\n",
        "image,negative,positive\n0.jpg,0,5\n1.jpg,5,0\n2.jpg,1,4\n3.jpg,3,2\n4.jpg,2,2\n",
    ],
)
def test_votes(tmp_path, text):
    found, notes = votes(tmp_path, text)
    assert found == [("0", "positive"), ("1", "negative"), ("2", "positive"), ("3", "negative")]
    assert notes == ("1 image is left out: fewer than three annotators agree on them",)
    assert len(read(tmp_path, agreement="four")) == 3
    assert len(read(tmp_path)) == 2


@pytest.mark.parametrize("text", ["0.jpg,5,six\n", "0.jpg,5,6\n", "0.jpg,5\n"])
def test_votes_that_make_no_sense(tmp_path, text):
    with pytest.raises(UniEmoError, match="line 1"):
        votes(tmp_path, text)


@pytest.mark.parametrize("form", ["0.jpg {}\n", "images/0.jpg\t{}\n", "D:\\twitter\\0.JPG {}\r\n"])
@pytest.mark.parametrize(("word", "emotion"), [("1", "positive"), ("0", "negative"), ("Positive", "positive")])
def test_lines_of_lists(tmp_path, form, word, emotion):
    (tmp_path / "images").mkdir()
    (tmp_path / "ground_truth").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "0.jpg")
    (tmp_path / "ground_truth" / "twitter_five_agrees.txt").write_text("\ufeff" + form.format(word), encoding="utf-8")
    manifest = read(tmp_path)
    assert (manifest.names(), manifest.emotions()) == (["images/0.jpg"], [emotion])


# Twitter II.


def test_topics_and_csv_agree_on_the_classes(painted):
    found = [list(labels(module(painted[name], TwitterII)).values()) for name in SECOND]
    assert all(values.count("positive") == 46 for values in found)  # 470 of 603
    assert all(values.count("negative") == 14 for values in found)


def test_topic_rows(painted, tmp_path):
    root = painted["twitter2-topics"]
    truth = (root / "twitter" / "groundTruthLabel.txt").read_text().splitlines()
    for file, emotion in labels(module(root, TwitterII)).items():
        assert truth[int(file.removesuffix(".jpg"))].split("\t")[-1] == emotion  # the header is row 0
    assert read(root / "twitter", "TwitterII").info.layout == "twitter2-topics"
    tree = shutil.copytree(root, tmp_path / "tree") / "twitter"
    (tree / "groundTruthLabel.txt").write_text("\n".join(f"{i}\t'POSITIVE'" for i in range(1, 61)))  # no header, quotes
    assert set(read(tree.parent).emotions()) == {"positive"}
    shutil.copy(next(tree.glob("*/7.jpg")), tree / "another")
    (tree / "another").rename(tree / "x.jpg")
    (tree / "topic").mkdir()
    (tree / "x.jpg").rename(tree / "topic" / "7.jpg")
    with pytest.raises(UniEmoError, match="both row 7"):
        read(tree.parent)
    (tree / "topic" / "7.jpg").rename(tree / "topic" / "61.jpg")
    assert any("60 rows, none for 61" in note for note in read(tree.parent).info.notes)
    (tree / "groundTruthLabel.txt").write_text("tweet\tmood\n1\tgood\n")
    with pytest.raises(UniEmoError, match="column of positive and negative"):
        read(tree.parent)


def test_the_other_twitter_is_refused(painted):
    with pytest.raises(UniEmoError, match=r"looks like TwitterI \(twitter1-csv\): take --data TwitterI$"):
        module(painted["twitter1-csv"], TwitterII).check()
    with pytest.raises(UniEmoError, match=r"looks like TwitterII \(twitter2-topics\): take --data TwitterII$"):
        module(painted["twitter2-topics"]).check()


# As distributed.


def test_twitter_2_as_distributed():
    data = [module(real("twitter2"), TwitterII, fold=fold) for fold in range(1, 6)]
    manifest = data[0].manifest
    assert (manifest.info.layout, len(manifest), manifest.info.problems) == ("twitter2-partitions", 603, ())
    assert [manifest.emotions().count(emotion) for emotion in ("positive", "negative")] == [470, 133]
    for number, one in enumerate(data, 1):
        assert {name.split("/")[1] for name in one.records("test").names()} == {f"partition{number}"}
        assert f"fold {number} of 5, given by the tree" in one.describe()
    assert "207 of the 810 rows of groundTruthLabel.txt have no image" in data[0].describe()
    assert not any("rows" in image for image in data[0].left_out)
    dealt = module(real("twitter2") / "twitter", TwitterII, layout="twitter2-topics")
    assert "fold 1 of 5, stratified, seed 0" in dealt.describe()
    assert len({name.split("/")[0] for name in dealt.records("test").names()}) == 5


def test_partitions_with_gaps_are_topics(tmp_path):
    for name in ("partition1", "partition3"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / name / f"{name[-1]}.jpg")
    (tmp_path / "groundTruthLabel.txt").write_text(
        "Image\tSentiment\n1.jpg\tpositive\n2.jpg\tnegative\n3.jpg\tnegative"
    )
    assert read(tmp_path).info.layout == "twitter2-topics"


@pytest.mark.parametrize("agreement", ["three", "four", "five"])
def test_twitter_1_real_folds(tmp_path, agreement):
    (tmp_path / "images").mkdir()
    lists = real("twitter1") / "ground_truth"
    (tmp_path / "ground_truth").symlink_to(lists)
    listed = {
        line.split()[0]
        for file in lists.glob(f"{agreement}_agrees/test*/*.txt")
        for line in file.read_text().splitlines()
        if line.strip()
    }
    for number, name in enumerate(sorted(listed)):
        Image.new("RGB", (2, 2), (number % 256, number // 256, 0)).save(tmp_path / "images" / name, "PNG")
    data = module(tmp_path, agreement=agreement, fold=2, check=False)
    assert (len(data.manifest), data.manifest.info.folds) == (
        len(listed),
        5,
    )  # five equal folds: a few names fewer than published
    test = (lists / f"{agreement}_agrees" / "test2" / "test.txt").read_text().splitlines()
    assert sorted(data.records("test").names()) == sorted(
        {f"images/{line.split()[0]}" for line in test if line.strip()}
    )
