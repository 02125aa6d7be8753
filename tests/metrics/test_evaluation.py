import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from PIL import Image
from small import SmallNetwork, paint
from trees import drawn_index

from uniemo.data.images import read_image
from uniemo.errors import UniEmoError
from uniemo.metrics import image_batches
from uniemo.metrics.comparison import Settings, prepare
from uniemo.metrics.emotion_classifiers import Classifier
from uniemo.metrics.evaluation import measure
from uniemo.metrics.image_sets import read_images
from uniemo.metrics.networks import NetworkSet
from uniemo.metrics.outputs import emotion_output
from uniemo.metrics.protocols import EMOGEN, STRICT
from uniemo.metrics.result_table import plot_confusion, table
from uniemo.taxonomy import MIKELS_8

QUIET = Settings(cache=False)


def head(weight):
    weights = torch.linspace(-1, 1, 12 * 8).reshape(12, 8).roll(weight, 1)
    return lambda features: (features @ weights).softmax(dim=1)


def networks(fid=None, lpips=None):
    net = SmallNetwork(12)
    both = fid or {"strict": net, "emogen": net}
    return NetworkSet("tiny", both, lpips or net, net, {})


def classifiers(net, count=2):
    return [Classifier(emotion_output(net, head(k)), {"name": f"head {k}"}) for k in range(count)]


@pytest.fixture
def sides(tmp_path):
    real, generated = paint(tmp_path / "real", count=6), paint(tmp_path / "generated", count=5, start=2)
    return read_images(real), read_images(generated)


def run(real, generated, settings=QUIET, nets=None):
    nets = nets or networks()
    return measure(prepare(real, generated, MIKELS_8, settings), nets, classifiers(nets.clip), settings)


def seen(network):
    """Return how many images went through each view."""
    return Counter(view for view, _ in network.seen)


def values(evaluation, protocol="strict"):
    return {name: score["value"] for name, score in evaluation["protocols"][protocol]["figures"].items()}


def test_one_pass_and_both_protocols(sides, monkeypatch):
    real, generated = sides
    nets = networks()
    decoded = []
    monkeypatch.setattr(image_batches, "read_image", lambda path: decoded.append(path) or read_image(path))
    found = run(real, generated, nets=nets)
    assert seen(nets.clip) == {"strict": len(real) + len(generated), "emogen": len(real) + len(generated)}
    assert sorted(decoded) == sorted([*real.files(), *generated.files()])
    strict, emogen = values(found), values(found, "emogen")
    assert {"FID", "LPIPS", "Emo-A", "Sem-D", "Emo-A (second)"} <= strict.keys()
    assert "Emo-A (second)" not in emogen
    assert strict["FID"] != emogen["FID"]
    assert found["protocols"]["strict"]["pairs"] == {"awe": 10, "fear": 10}
    assert any("fewer than 1000 pairs exist, all are taken: 10 of each emotion" in note for note in found["notes"])
    assert any("biased" in note for note in found["notes"])


def test_statistics_come_from_the_cache_until_something_changes(sides):
    real, generated = sides
    settings = Settings(protocols=(STRICT,))
    first = run(real, generated, settings)
    nets = networks()
    second = run(real, generated, settings, nets)
    assert (first["real"]["statistics_from_cache"], second["real"]["statistics_from_cache"]) == (False, True)
    assert seen(nets.clip)["strict"] == len(generated)
    assert values(first) == values(second)
    Image.new("RGB", (16, 16), "white").save(real.files()[0])
    third = run(real, generated, settings)
    assert not third["real"]["statistics_from_cache"]
    assert values(third)["FID"] != values(first)["FID"]
    other = SmallNetwork(12, seed=5, name="other")
    assert not run(real, generated, settings, networks({"strict": other}))["real"]["statistics_from_cache"]


def test_identical_sides_are_noticed(sides):
    real, _ = sides
    found = run(real, read_images(real.root))
    assert values(found)["FID"] == pytest.approx(0, abs=1e-6)
    assert "hold the same files" in found["warnings"][0]


def test_copies_are_noticed(sides):
    real, generated = sides
    generated.files()[0].write_bytes(real.files()[0].read_bytes())
    generated.files()[1].write_bytes(generated.files()[2].read_bytes())
    found = prepare(real, generated, MIKELS_8, QUIET)
    assert "1 generated images are byte for byte real ones, first awe/0.png = awe/0.png" in found.warnings[0]
    assert any("copies of others" in note for note in found.notes)


def test_swapped_sides_are_noticed(tmp_path, emoset_root):
    drawn_index(tmp_path, MIKELS_8, per_emotion=2)
    found = prepare(read_images(tmp_path), read_images(emoset_root), MIKELS_8, QUIET)
    assert sum("swapped" in warning for warning in found.warnings) == 2
    assert not prepare(read_images(emoset_root), read_images(tmp_path), MIKELS_8, QUIET).warnings


def test_missing_emotions(tmp_path):
    real = read_images(paint(tmp_path / "real", ("awe", "fear", "anger")))
    generated = read_images(paint(tmp_path / "generated", ("awe", "fear", "sadness"), start=5))
    found = run(real, generated)
    assert set(found["protocols"]["strict"]["figures"]["FID"]["by_emotion"]) == {"awe", "fear"}
    assert found["generated"]["by_emotion"] == {"awe": 4, "fear": 4}
    text = " | ".join(found["notes"])
    assert "real has no sadness: 4 images of" in text
    assert "generated has no anger: 4 images of" in text
    assert "neither side has amusement, contentment, excitement, disgust:" in text
    with pytest.raises(UniEmoError, match="emotions in common"):
        prepare(real, generated.only(["sadness"]), MIKELS_8, QUIET)


def test_one_image_of_an_emotion(tmp_path):
    two = read_images(paint(tmp_path / "two", count=3))
    (paint(tmp_path / "one", count=1, start=9) / "awe").joinpath("more.png").write_bytes(two.files()[0].read_bytes())
    one = read_images(tmp_path / "one")
    with pytest.raises(UniEmoError, match=r"at least 2 images of each emotion.*1 of fear"):
        prepare(two, one, MIKELS_8, QUIET)
    found = run(one, two)
    assert any("one image of fear: no FID of its own" in note for note in found["notes"])
    assert set(found["protocols"]["strict"]["figures"]["FID"]["by_emotion"]) == {"awe"}


def test_mixed_sizes_alpha_and_other_files(sides):
    real, generated = sides
    Image.new("RGBA", (40, 20), (9, 9, 9, 90)).save(generated.files()[0])
    (generated.root / "awe" / "Thumbs.db").write_bytes(b"x")
    found = run(real, read_images(generated.root))
    text = " | ".join(found["notes"])
    assert "2 sizes, shorter side 16 to 20" in text
    assert "1 images of" in text
    assert "laid over white" in text
    assert "no pictures, passed over: 1 " in text


def test_small_generated_images_are_said(tmp_path):
    real = read_images(paint(tmp_path / "real", size=64))
    generated = read_images(paint(tmp_path / "generated", size=32, start=2))
    assert any("--real_size 32" in note for note in prepare(real, generated, MIKELS_8, QUIET).notes)
    cut = replace(QUIET, real_size=32)
    assert not any("--real_size" in note for note in prepare(real, generated, MIKELS_8, cut).notes)


def test_the_real_set_of_emogen_is_said(tmp_path, emoset_root):
    drawn_index(tmp_path, MIKELS_8, per_emotion=2)
    generated = read_images(tmp_path)
    for split, protocols, said in (
        ("test", (STRICT, EMOGEN), True),
        ("test", (STRICT,), False),
        ("all", (EMOGEN,), False),
    ):
        settings = replace(QUIET, protocols=protocols)
        notes = prepare(read_images(emoset_root, split), generated, MIKELS_8, settings).notes
        assert any("against the test split" in note and "--split all" in note for note in notes) == said


def test_a_file_that_breaks_in_the_middle_is_named(sides):
    real, generated = sides
    content = bytearray(generated.files()[3].read_bytes())
    content[45:50] = b"xxxxx"  # inside the pixels: both ends of the file are whole
    generated.files()[3].write_bytes(content)
    with pytest.raises(UniEmoError, match=r"awe/3\.png"):
        run(real, generated)


def test_result_and_table(sides, tmp_path):
    net, other = SmallNetwork(12), SmallNetwork(12, seed=5, name="other")
    nets = NetworkSet("tiny", {"strict": net, "emogen": other}, net, net, {})
    settings = replace(QUIET, protocols=(replace(STRICT, pairs=3), EMOGEN))
    result = measure(prepare(*sides, MIKELS_8, settings), nets, classifiers(net), settings)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["protocols"]["strict"]["settings"]["pairs"] == 3
    assert result["protocols"]["strict"]["pairs"] == {"awe": 3, "fear": 3}
    fid = {name: part["figures"]["FID"] for name, part in result["protocols"].items()}
    assert fid["strict"]["networks"] != fid["emogen"]["networks"]
    assert fid["strict"]["by_emotion"].keys() == {"awe", "fear"}
    assert fid["strict"]["low"] <= fid["strict"]["value"] <= fid["strict"]["high"]
    counts = result["protocols"]["strict"]["confusion"][1]["counts"]
    assert sum(map(sum, counts)) == len(sides[1])
    assert {"torch", "uniemo", "numpy"} <= result["versions"].keys()
    assert all(info["hash"] in key for key, info in result["networks"].items())

    text = table(result)
    lines = text.splitlines()
    protocol, tags = (
        next(line.split() for line in lines if line.startswith(word)) for word in ("protocol", "networks")
    )
    column = {k: (protocol[k], tags[k]) for k in range(1, 3)}
    assert [column[k][0] for k in (1, 2)] == ["strict", "emogen"]
    assert column[1][1] != column[2][1]  # two networks, two columns, two numbers
    whole = next(line.split() for line in lines if line.startswith("all"))
    assert whole[1:3] == [f"{fid['strict']['value']:.2f}", f"{fid['emogen']['value']:.2f}"]
    assert not any(math.isnan(value) for value in values(result).values())
    assert plot_confusion(result, tmp_path / "confusion.png")
    assert Image.open(tmp_path / "confusion.png").width > 500
