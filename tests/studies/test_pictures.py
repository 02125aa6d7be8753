import json

import numpy as np
import pytest
from PIL import Image

from uniemo import UniEmoError
from uniemo.studies.cells import Setting, cells_of
from uniemo.studies.pictures import draw, thing
from uniemo.studies.reading import read_study
from uniemo.studies.sheet import CELL, GAP, GROUP_GAP, Panel, draw_sheet

COLOURS = {"awe": (10, 200, 30), "fear": (200, 10, 90), "awe+fear": (1, 2, 250)}


def generate(folder, mixtures, num, prompt="{}", size=8):
    """Write what ``uniemo generate`` writes: one colour for each emotion, darker from seed to seed."""
    rows = []
    for mixture in mixtures:
        (folder / mixture).mkdir(parents=True)
        for seed in range(num):
            file = f"{mixture}/{seed:05d}.png"
            colour = tuple(max(0, value - 20 * seed) for value in COLOURS[mixture])
            Image.new("RGB", (size, size), colour).save(folder / file)
            weights = dict.fromkeys(mixture.split("+"), 1.0)
            rows.append({"file": file, "weights": weights, "seed": seed, "prompt": prompt})
    (folder / "index.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def blocks(path):
    """Return the colours of all pictures in a sheet, row by row from left to right, and their places."""
    pixels = np.asarray(Image.open(path)).astype(int)
    known = {tuple(pixels[y, x]) for y in range(0, pixels.shape[0], 3) for x in range(0, pixels.shape[1], 3)}
    found = []
    for colour in known - {(255, 255, 255)}:
        sums = np.pad((pixels == colour).all(axis=2).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
        inside = sums[CELL:, CELL:] - sums[:-CELL, CELL:] - sums[CELL:, :-CELL] + sums[:-CELL, :-CELL]
        places = zip(*np.nonzero(inside == CELL * CELL), strict=True)
        found += [(int(y), int(x), tuple(map(int, colour))) for y, x in places]
    return sorted(found)


def test_methods_stand_below_each_other_with_equal_columns(tmp_path):
    study = read_study("fig5")
    folders = {name: tmp_path / name for name in ("UniEmo", "EmoGen")}
    generate(folders["EmoGen"] / "generate", ["awe", "fear"], 3)
    generate(folders["UniEmo"] / "generate", ["fear"], 1)
    draw(study, folders, tmp_path / "fig5.png")
    found = blocks(tmp_path / "fig5.png")
    grey = (0xEE, 0xF0, 0xF3)
    awe, fear = COLOURS["awe"], COLOURS["fear"]
    darker = [tuple(max(0, value - 20) for value in colour) for colour in (awe, fear)]
    assert [colour for _, _, colour in found] == [awe, darker[0], fear, darker[1], grey, grey, fear, grey]
    columns = [x for _, x, _ in found]
    assert columns[:4] == columns[4:]
    assert columns[1] - columns[0] == CELL + GAP
    assert columns[2] - columns[1] == CELL + GROUP_GAP
    assert found[4][0] - found[0][0] == CELL + GAP


def test_attention_shows_two_of_each_emotion(tmp_path):
    folder = tmp_path / "cell" / "test" / "images" / "test_attention"
    folder.mkdir(parents=True)
    entries = []
    for number, emotion in enumerate(["awe", "fear", "awe", "awe"]):
        entry = {"emotion": emotion, "name": f"{number}.jpg"}
        for kind, blue in (("image", 0), ("scene", 100), ("object", 200)):
            entry[kind] = f"{number}_{kind}.png"
            Image.new("RGB", (8, 8), (50 + number, 0, blue)).save(folder / entry[kind])
        entries.append(entry)
    (folder / "index.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    draw(read_study("fig9"), {"UniEmo": tmp_path / "cell"}, tmp_path / "fig9.png")
    first = [(50 + number, 0, blue) for blue in (0, 100, 200) for number in (0, 1)]
    second = [(52, 0, blue) for blue in (0, 100, 200)]
    assert [colour for _, _, colour in blocks(tmp_path / "fig9.png")] == first + second


def test_transfer_and_fusion(tmp_path):
    transfer, fusion = tmp_path / "transfer", tmp_path / "fusion"
    generate(transfer / "transfer2", ["awe", "fear"], 1, "a {} room")
    generate(transfer / "transfer10", ["awe", "fear"], 1, "a {} lamp")
    (transfer / "steps.json").write_text(json.dumps([{"into": "transfer2"}, {"into": "transfer10"}]))
    generate(fusion / "both", ["awe+fear"], 2)
    draw(read_study("fig10"), {"transfer": transfer, "fusion": fusion}, tmp_path / "fig10.png")
    awe, fear, both = (COLOURS[name] for name in ("awe", "fear", "awe+fear"))
    darker = tuple(max(0, value - 20) for value in both)
    assert [colour for _, _, colour in blocks(tmp_path / "fig10.png")] == [awe, awe, fear, fear, both, darker]


@pytest.mark.parametrize(
    ("prompt", "name"),
    [("a {} bench", "bench"), ("a {} in a stadium", "stadium"), ("an old {} and a cup of tea", "old and a cup of tea")],
)
def test_things_are_named_by_their_prompts(tmp_path, prompt, name):
    generate(tmp_path, ["awe"], 1, prompt)
    assert thing(tmp_path) == name


def test_pictures_of_any_size_become_squares(tmp_path):
    wide = Image.new("RGB", (600, 300), "red")
    wide.paste("blue", (0, 0, 100, 300))  # cut off with the sides
    wide.save(tmp_path / "wide.png")
    sheet = draw_sheet([Panel("", ("a",), (("row", ((tmp_path / "wide.png",),)),))])
    sheet.save(tmp_path / "sheet.png")
    assert [colour for _, _, colour in blocks(tmp_path / "sheet.png")] == [(255, 0, 0)]


def test_unknown_pictures_and_nothing_to_draw(tmp_path):
    study = read_study("fig5")
    with pytest.raises(UniEmoError, match="finished cells with images"):
        draw(study, {}, tmp_path / "x.png")
    with pytest.raises(UniEmoError, match="picture must be one of fig5, fig9, fig10"):
        draw(type(study)(**{**vars(study), "picture": "fig11"}), {}, tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["fig5", "fig9", "fig10"])
def test_cells_follow_scale_and_extent(tmp_path, name):
    study = read_study(name)
    settings = [Setting(), Setting(quick=True), Setting("paper", data=tmp_path)]
    hashes = [{cell.hash for cell in cells_of(study, 0, setting)} for setting in settings]
    assert len({len(one) for one in hashes}) == 1
    assert not hashes[0] & hashes[1]
    assert not hashes[0] & hashes[2]


def test_every_thing_of_the_paper_is_asked_for(tmp_path):
    (transfer,) = (
        cell for cell in cells_of(read_study("fig10"), 0, Setting("paper", data=tmp_path)) if cell.name == "transfer"
    )
    prompts = [command.words[command.words.index("--prompt") + 1] for command in transfer.commands]
    assert prompts == [f"a {{}} {name}" for name in ("bench", "book", "cup", "lamp", "room", "sofa", "street")]
