"""Images of one's own, as class folders or with a table."""

import json
import math

import pytest
from PIL import Image

from tests.data.probe import Probe, trainer
from tests.real import real
from uniemo.data import Folder
from uniemo.errors import UniEmoError

CLASSES = ("happy dogs", "tired")  # as people name them: Happy Dogs, TIRED
COUNT = 24


def picture(path, number):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (24, 24), (10 * number, 40, 250 - 10 * number)).save(path, "PNG")


def module(root, **changes):
    return Folder(**{"root": str(root), "image_size": 24, "diffusion_size": None, "batch_size": 8, **changes})


@pytest.fixture
def classes(tmp_path):
    for number in range(COUNT):
        picture(tmp_path / "photos" / ("Happy Dogs", "TIRED")[number % 2] / f"{number}.png", number)
    (tmp_path / "photos" / "empty").mkdir()
    return tmp_path / "photos"


def rows():
    for number in range(COUNT):
        yield {
            "Picture": f"{number}.png",
            "how it feels": ("Happy Dogs", "TIRED")[number % 2],
            "where": ("beach", "", "street")[number % 3],
            "what": "dog;ball" if number % 2 else "",
            "part": ("training", "dev", "test")[number % 3],
            "valence": f"{-1 + number / 20}" if number else "",
            "arousal": "0.25" if number else "",
        }


COLUMNS = {
    "label_column": "how it feels",
    "scene_column": "where",
    "object_column": "what",
    "split_column": "part",
}


@pytest.fixture(params=["csv", "semicolons", "jsonl", "parquet", "parquet of paths"])
def table(request, tmp_path):
    tmp_path = tmp_path / "mine"
    for number in range(COUNT):
        picture(tmp_path / "pics" / f"{number}.png", number)
    if request.param == "jsonl":
        lines = ({**row, "what": row["what"].split(";") if row["what"] else None} for row in rows())
        (tmp_path / "all.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    elif request.param.startswith("parquet"):
        from datasets import Dataset
        from datasets import Image as ImageFeature

        table = [
            {
                **row,
                "what": row["what"].split(";") if row["what"] else [],
                "Picture": str(tmp_path / "pics" / row["Picture"]),
            }
            for row in rows()
        ]
        if request.param == "parquet":
            data = Dataset.from_list(table).cast_column("Picture", ImageFeature())
        else:
            data = Dataset.from_list([{**row, "Picture": f"pics/{number}.png"} for number, row in enumerate(table)])
        data.to_parquet(tmp_path / "all.parquet")
    else:
        comma = "," if request.param == "csv" else "; "
        lines = [list(next(rows())), *(row.values() for row in rows())]
        quoted = (comma.join(f'"{cell}"' for cell in line) for line in lines)
        (tmp_path / "all.csv").write_text("\r".join(quoted))
    return tmp_path


def test_class_folders_make_the_vocabulary_and_stratified_splits(classes):
    data = module(classes, val_fraction=0.2)
    assert data.vocabulary.emotions == CLASSES
    assert len(data.manifest) == COUNT
    parts = {split: data.records(split) for split in ("train", "val", "test")}
    assert sum(map(len, parts.values())) == COUNT
    assert all(set(part.emotions()) == set(CLASSES) for part in parts.values())
    assert "no class: folder empty, which holds no pictures" in data.describe()


def test_split_folders(tmp_path):
    for number in range(COUNT):
        picture(tmp_path / ("train", "Test")[number % 4 == 0] / ("a", "b")[number // 2 % 2] / f"{number}.png", number)
    data = module(tmp_path)
    assert data.vocabulary.emotions == ("a", "b")
    assert "no split: folder cache" in data.describe()
    assert {name.split("/")[0] for name in data.records("test").names()} == {"Test"}
    assert {name.split("/")[0] for name in data.records("val").names()} == {"train"}


def test_tables(table):
    data = module(table, image_column="Picture", **COLUMNS)
    assert data.vocabulary.emotions == CLASSES
    assert data.vocabulary.scenes == ("beach", "street")
    assert data.vocabulary.objects == ("ball", "dog")
    assert [len(data.records(split)) for split in ("train", "val", "test")] == [8, 8, 8]
    manifest = data.manifest
    by_name = {name.rpartition("/")[2]: index for index, name in enumerate(manifest.names())}
    first, second = (by_name[name] for name in ("0.png", "1.png"))
    assert (manifest.emotions()[first], manifest.scene[first], len(manifest.objects(first))) == ("happy dogs", 0, 0)
    assert (manifest.emotions()[second], manifest.scene[second], len(manifest.objects(second))) == ("tired", -1, 2)


@pytest.mark.parametrize("lines", [False, True])
def test_votes(tmp_path, lines):
    votes = [(number % 4, 3 - number % 4, number % 2) for number in range(COUNT)]
    rows = [{"file": f"{n}.png", "Joy": joy, "calm": calm, "Awe": awe} for n, (joy, calm, awe) in enumerate(votes)]
    for number in range(COUNT):
        picture(tmp_path / "pics" / f"{number}.png", number)
    if lines:
        (tmp_path / "all.jsonl").write_text("\n".join(map(json.dumps, rows)))
    else:
        cells = [rows[0].keys(), *(row.values() for row in rows)]
        (tmp_path / "all.csv").write_text("\n".join(",".join(map(str, row)) for row in cells))
    data = module(tmp_path, vote_columns=["joy", "Calm", "awe"], target="distribution")
    assert data.vocabulary.emotions == ("awe", "calm", "joy")
    for batch in data.evaluation_loader("train"):
        for name, label, row in zip(batch.names, batch.emotion, batch.distribution, strict=True):
            joy, calm, awe = votes[int(name[5:-4])]
            assert row.tolist() == pytest.approx([count / (3 + awe) for count in (awe, calm, joy)])
            assert label == [awe, calm, joy].index(max(awe, calm, joy))
    with pytest.raises(UniEmoError, match=r"data\.vote_columns must be one of 'file', 'Joy'.*; got 'fear'"):
        module(tmp_path, vote_columns=["joy", "fear"]).check()
    with pytest.raises(UniEmoError, match=r"in place of data\.label_column; .*label_column is Joy"):
        module(tmp_path, vote_columns=["joy", "calm"], label_column="Joy").check()


def test_valence_and_arousal_of_tables(table):
    affect = {"valence_column": "valence", "arousal_column": "arousal", "affect_scale": (-1, 1)}
    manifest = module(table, image_column="Picture", **COLUMNS, **affect).manifest
    assert manifest.vocabulary.affect == (-1, 1)
    for row, name in enumerate(manifest.names()):
        number = int(name.rpartition("/")[2].removesuffix(".png"))
        rated = [-1 + number / 20, 0.25] if number else [math.nan] * 2
        assert manifest.affect(row)[:2].tolist() == pytest.approx(rated, nan_ok=True)
    with pytest.raises(UniEmoError, match=r"numbers from 0 to 1.* has -0\.95, 0\.25"):
        _ = module(table, image_column="Picture", **COLUMNS, **{**affect, "affect_scale": (0, 1)}).manifest
    with pytest.raises(UniEmoError, match=r"data\.arousal_column must be .*got .*energy"):
        _ = module(table, image_column="Picture", **COLUMNS, **{**affect, "arousal_column": "energy"}).manifest


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"valence_column": "v", "affect_scale": (1, 9)}, "must be given together.* data.valence_column and data.aff"),
        ({"valence_column": "v", "arousal_column": "a", "affect_scale": (9, 1)}, "its least and its greatest value"),
    ],
)
def test_columns_of_valence_and_arousal_need_each_other_and_a_scale(tmp_path, given, match):
    with pytest.raises(UniEmoError, match=match):
        module(tmp_path, label_column="kind", **given)


def test_a_folder_trains(classes, tmp_path):
    data = module(classes, val_fraction=0.2)
    trainer(tmp_path / "run").fit(Probe(), data)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_column": "mood"}, r"data\.label_column must be one of 'name', 'size', 'kind'.*got 'mood'"),
        ({"label_column": "size"}, r"labels must be classes; .* has 24 different ones for 24 images"),
        ({"label_column": "kind", "image_column": "kind"}, "does not exist"),
        ({"table": "b.csv"}, r"data\.table must name a table .* got b\.csv, there are a\.csv"),
        ({"label_column": "kind", "split_column": "size"}, r"data\.split_column must hold train.*has \"0\""),
        ({"table": "a.csv"}, r"data\.label_column must name one of name, size, kind"),
    ],
)
def test_mistakes(tmp_path, changes, message):
    for number in range(COUNT):
        picture(tmp_path / "pics" / f"{number}.png", number)
    lines = [f"{number}.png,{number},{'ab'[number % 2]}" for number in range(COUNT)]
    (tmp_path / "a.csv").write_text("\n".join(["name,size,kind", *lines]))
    with pytest.raises(UniEmoError, match=message) as caught:
        module(tmp_path, **changes).check()
    assert "\n" not in str(caught.value)


def test_one_class_is_no_classifier(tmp_path):
    picture(tmp_path / "a" / "1.png", 1)
    (tmp_path / "b").mkdir()
    with pytest.raises(UniEmoError, match=r"at least two classes; .* has a: make a folder for each class"):
        module(tmp_path).check()


def test_oasis_by_category():
    data = module(real("oasis"), image_column="Theme", label_column="Category", on_error="skip", check=False)
    with pytest.warns(UserWarning, match="386 images are skipped"):
        data.check()
    assert (data.vocabulary.emotions, len(data.manifest)) == (("animal", "object", "person", "scenery"), 514)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_numbers_may_be_classes(tmp_path, kind):
    from datasets import Dataset

    for number in range(4):
        picture(tmp_path / "mine" / "pics" / f"{number}.png", number)
    data = Dataset.from_dict({"file": [f"pics/{number}.png" for number in range(4)], "class": [3, 1, 3, 1]})
    getattr(data, f"to_{kind}")(tmp_path / "mine" / f"all.{kind}")
    manifest = module(tmp_path / "mine", image_column="file", label_column="class").manifest
    assert sorted(manifest.emotions()) == ["1", "1", "3", "3"]
    assert manifest.vocabulary.emotions == ("1", "3")
