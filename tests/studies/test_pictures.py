import json
import shutil

import numpy as np
import pytest
from PIL import Image

from uniemo import UniEmoError
from uniemo.studies.pictures import PICTURES, thing, write_picture
from uniemo.studies.study_files import read_study

COLOURS = {"awe": (10, 200, 30), "fear": (200, 10, 90), "awe+fear": (1, 2, 250)}


def generate(folder, mixtures, num, prompt="{}", size=(8, 8)):
    """Write what ``uniemo generate`` writes: one colour for each emotion, darker from seed to seed."""
    rows = []
    for mixture in mixtures:
        (folder / mixture).mkdir(parents=True)
        for seed in range(num):
            file = f"{mixture}/{seed:05d}.png"
            colour = tuple(max(0, value - 20 * seed) for value in COLOURS[mixture])
            Image.new("RGB", size, colour).save(folder / file)
            weights = dict.fromkeys(mixture.split("+"), 1.0)
            rows.append({"file": file, "weights": weights, "seed": seed, "prompt": prompt})
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def names(panel):
    """The rows of a panel by label, each group as the names of its files."""
    return {label: [[file.name for file in group] for group in groups] for label, groups in panel.rows}


def places(path, colour):
    """Return the top left corners of what has a colour in a picture."""
    pixels = np.asarray(Image.open(path).convert("RGB"))
    mask = np.pad((pixels == colour).all(axis=2), ((1, 0), (1, 0)))
    corners = np.nonzero(mask[1:, 1:] & ~mask[:-1, 1:] & ~mask[1:, :-1])
    return sorted(zip(*map(np.ndarray.tolist, corners), strict=True))


def test_methods_stand_below_each_other_with_equal_columns(tmp_path):
    study = read_study("fig5")
    folders = {name: tmp_path / name for name in ("UniEmo", "EmoGen")}
    generate(folders["EmoGen"] / "generate", ["awe", "fear"], 3)
    generate(folders["UniEmo"] / "generate", ["fear"], 1, size=(200, 100))
    (panel,) = PICTURES["fig5"](study, folders)
    assert panel.columns == ("awe", "fear")
    two = ["00000.png", "00001.png"]
    assert names(panel) == {"EmoGen": [two, two], "UniEmo": [[], ["00000.png"]]}
    write_picture(study, folders, tmp_path / "fig5.png")
    (fear, below), (awe,) = (places(tmp_path / "fig5.png", COLOURS[name]) for name in ("fear", "awe"))
    assert (awe[0], fear[1]) == (fear[0], below[1])
    assert awe[1] < fear[1]
    assert fear[0] < below[0]
    assert len(places(tmp_path / "fig5.png", (0xEE, 0xF0, 0xF3))) == 3


def test_attention_shows_two_of_each_emotion(tmp_path):
    folder = tmp_path / "cell" / "test" / "images" / "test_attention"
    folder.mkdir(parents=True)
    entries = [
        {"emotion": emotion, **{kind: f"{number}_{kind}.png" for kind in ("image", "scene", "object")}}
        for number, emotion in enumerate(["awe", "fear", "awe", "awe"])
    ]
    (folder / "index.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    first, second = PICTURES["fig9"](read_study("fig9"), {"UniEmo": tmp_path / "cell"})
    assert (first.columns, second.columns) == (("awe", "fear"), ("awe",))
    assert names(first)["scene queries"] == [["0_scene.png"], ["1_scene.png"]]
    assert names(second) == {
        "image": [["2_image.png"]],
        "scene queries": [["2_scene.png"]],
        "object queries": [["2_object.png"]],
    }


def test_transfer_and_fusion(tmp_path):
    folders = {"transfer": tmp_path / "transfer", "fusion": tmp_path / "fusion"}
    generate(folders["transfer"] / "transfer2", ["awe", "fear"], 1, "a {} room")
    generate(folders["transfer"] / "transfer10", ["awe", "fear"], 1, "a {} lamp")
    generate(folders["fusion"] / "both", ["awe+fear"], 2)
    for folder, steps in (("transfer", ["transfer2", "transfer10"]), ("fusion", ["both"])):
        (folders[folder] / "steps.json").write_text(json.dumps([{"into": step} for step in steps]))
    transfer, fusion = PICTURES["fig10"](read_study("fig10"), folders)
    assert transfer.columns == ("room", "lamp")
    assert names(transfer) == {"awe": [["00000.png"], ["00000.png"]], "fear": [["00000.png"], ["00000.png"]]}
    assert names(fusion) == {"awe + fear": [["00000.png"], ["00001.png"]]}
    write_picture(read_study("fig10"), folders, tmp_path / "fig10.png")
    assert len(places(tmp_path / "fig10.png", COLOURS["fear"])) == 2
    assert len(places(tmp_path / "fig10.png", COLOURS["awe+fear"])) == 1


@pytest.mark.parametrize(
    ("prompt", "name"),
    [("a {} bench", "bench"), ("a {} in a stadium", "stadium"), ("an old {} and a cup of tea", "old and a cup of tea")],
)
def test_things_are_named_by_their_prompts(tmp_path, prompt, name):
    generate(tmp_path, ["awe"], 1, prompt)
    assert thing(tmp_path) == name


def test_unknown_pictures_and_no_images(tmp_path):
    study = read_study("fig5")
    with pytest.raises(UniEmoError, match="finished cells with images"):
        write_picture(study, {}, tmp_path / "x.png")
    with pytest.raises(UniEmoError, match="picture must be one of fig5, fig9, fig10"):
        write_picture(type(study)(**{**vars(study), "picture": "fig11"}), {}, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["../secret.png", "{root}/secret.png"])
def test_images_outside_of_their_cell(tmp_path, place):
    folder, outside = tmp_path / "cell", place.format(root=tmp_path)
    generate(folder / "generate", ["awe"], 1)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    index = folder / "generate" / "index.jsonl"
    index.write_text(json.dumps({"file": outside.replace("../", "../../"), "weights": {"awe": 1.0}}))
    with pytest.raises(UniEmoError, match="must lie in its folder"):
        write_picture(read_study("fig5"), {"UniEmo": folder}, tmp_path / "fig5.png")
    shutil.move(folder / "generate", tmp_path / "elsewhere")
    for content, reason in (
        (json.dumps([{"into": outside.replace("secret.png", "elsewhere")}]), "must lie in its folder"),
        ("[" * 5000, "nested deeper"),
        ('[{"x": 1}]', "lists no steps"),
    ):
        (folder / "steps.json").write_text(content)
        with pytest.raises(UniEmoError, match=reason):
            write_picture(read_study("fig10"), {"transfer": folder}, tmp_path / "fig10.png")
