"""``uniemo evaluate`` as a user meets it, on the miniature's networks."""

import json

import pytest
import torch
from PIL import Image
from small import paint

from tests.refusals import refused
from tests.tiny_runs import trained
from uniemo.cli import main
from uniemo.metrics.answers import read_answers
from uniemo.metrics.classifier import ClassifierOrigin, EmotionClassifier
from uniemo.metrics.networks import load_clip
from uniemo.taxonomy import MIKELS_8


def strict_json(path):
    def refuse(word):
        raise AssertionError(word)

    return json.loads(path.read_text(), parse_constant=refuse)


@pytest.fixture(scope="module")
def first(emoset_root, generated_root, tmp_path_factory):
    """The documented line with everything on it; once, since classifiers are trained."""
    output = tmp_path_factory.mktemp("output") / "new" / "result.json"
    args = ["--real", str(emoset_root), "--generated", str(generated_root), "--output", str(output)]
    more = ["--train", str(emoset_root), "--sample", "8", "--real_size", "32", "--device", "cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNIEMO_CACHE", str(tmp_path_factory.getbasetemp() / "metrics-cache"))
        assert main(["evaluate", *args, *more]) == 0
    return output


def test_the_documented_line(first):
    result = strict_json(first)
    assert result["network_set"] == "miniature"
    assert (result["real"]["split"], result["real"]["images"], result["generated"]["images"]) == ("test", 16, 32)
    strict, emogen = (result["protocols"][name]["figures"] for name in ("strict", "emogen"))
    assert set(emogen) < set(strict)
    for name in ("FID", "KID", "LPIPS", "Emo-A", "Sem-C", "Sem-D", "Emo-A (second)"):
        score = strict[name]
        assert score["low"] <= score["value"] <= score["high"], name
        assert ("efficientnet" if "second" in name else "miniature-clip") in score["networks"][0], name
    assert set(strict["Emo-A"]["by_emotion"]) == set(MIKELS_8)
    assert strict["Emo-A"]["networks"] != strict["Emo-A (second)"]["networks"]
    assert 0 <= result["classifiers"][1]["test_accuracy"] <= 1
    assert [one["classifier"] for one in result["protocols"]["strict"]["confusion"]] == [
        one["name"] for one in result["classifiers"]
    ]
    assert len(result["memorisation"]["generated_pairs"]) == 8
    for kind in ("confusion", "memorisation"):
        assert Image.open(first.with_name(f"result.{kind}.png")).width > 300


def test_again_from_the_cache_gives_the_same(first, emoset_root, generated_root, tmp_path, capsys):
    output = tmp_path / "again.json"
    args = ["--real", str(emoset_root), "--generated", str(generated_root), "--output", str(output)]
    assert main(["evaluate", *args, "--real_size", "32", "--protocol", "strict"]) == 0
    before, after = strict_json(first), strict_json(output)
    assert after["real"]["statistics_from_cache"]
    assert list(after["protocols"]) == ["strict"]
    assert after["protocols"]["strict"]["figures"] == before["protocols"]["strict"]["figures"]
    assert after["generated"]["content"] == before["generated"]["content"]
    screen = capsys.readouterr().out
    assert "networks: miniature" in screen
    assert "FID ↓" in screen
    assert "contentment" in screen
    assert "wrote" in screen


def test_a_classifier_from_a_file(first, emoset_root, generated_root, tmp_path, capsys):
    networks = strict_json(first)["networks"]
    digest = next(info["hash"] for info in networks.values() if info["role"] == "miniature")
    width = load_clip("miniature:clip").clip.embed_dim
    origin = ClassifierOrigin(MIKELS_8[::-1], "miniature-clip", digest, {"test": {"accuracy": 0.5}})
    made = EmotionClassifier(width, 8, hidden=4, origin=origin)
    made.save(tmp_path / "mine.safetensors")
    args = ["--real", str(emoset_root), "--generated", str(generated_root), "--protocol", "strict"]
    files = [
        "--classifier",
        str(tmp_path / "mine.safetensors"),
        "--second_classifier",
        str(tmp_path / "mine.safetensors"),
    ]
    assert main(["evaluate", *args, *files, "--output", str(tmp_path / "r.json")]) == 0
    result = strict_json(tmp_path / "r.json")
    assert [one["name"] for one in result["classifiers"]] == ["mine", "mine"]
    assert result["classifiers"][0]["own_figures"] == {"test": {"accuracy": 0.5}}
    scores = result["protocols"]["strict"]["figures"]
    assert scores["Emo-A"]["value"] == scores["Emo-A (second)"]["value"]
    made.origin = ClassifierOrigin(MIKELS_8, "another", "0" * 12)
    made.save(tmp_path / "other.safetensors")
    files = ["--classifier", str(tmp_path / "other.safetensors"), "--output", str(tmp_path / "s.json")]
    assert "trained on, another" in refused(capsys, "evaluate", *args, *files)
    assert not (tmp_path / "s.json").exists()


def test_a_stage_as_classifier(emoset_root, generated_root, tmp_path):
    """A checkpoint says which emotion it sees; what it says of each image is kept."""
    judge = trained("understanding") / "best.ckpt"
    args = ["--real", str(emoset_root), "--generated", str(generated_root), "--classifier", str(judge), "--pairs", "2"]
    assert main(["evaluate", *args, "--protocol", "strict", "--output", str(tmp_path / "r.json")]) == 0
    result = strict_json(tmp_path / "r.json")
    score = result["protocols"]["strict"]["figures"]["Emo-A"]
    assert score["networks"][0].startswith("judge-")
    assert result["classifiers"][0]["source"] == str(judge)
    files, right = read_answers(tmp_path / "r.answers.parquet")
    assert sorted(files) == sorted(str(path.relative_to(generated_root)) for path in generated_root.rglob("*.png"))
    assert sum(right) / len(right) == pytest.approx(score["value"])


def test_single_networks_by_name(emoset_root, generated_root, tmp_path):
    args = ["--real", str(emoset_root), "--generated", str(generated_root), "--classifier", "none", "--pairs", "2"]
    more = ["--lpips", "random-squeeze@64", "--fid", "none", "--protocol", "strict"]
    assert main(["evaluate", *args, *more, "--output", str(tmp_path / "r.json")]) == 0
    scores = strict_json(tmp_path / "r.json")["protocols"]["strict"]["figures"]
    assert set(scores) == {"LPIPS", "Sem-C", "Sem-D"}
    assert scores["LPIPS"]["networks"][0].startswith("random-squeeze")
    assert not (tmp_path / "r.confusion.png").exists()


def failed(capsys, *args):
    return refused(capsys, "evaluate", *args)


def test_mistakes_cost_one_line_before_any_work(emoset_root, generated_root, tmp_path, capsys, monkeypatch):
    both = ("--real", emoset_root, "--generated", generated_root)
    old = tmp_path / "old.json"
    old.write_text("{}")
    assert "--overwrite" in failed(capsys, *both, "--output", old)
    assert "is a folder" in failed(capsys, *both, "--output", tmp_path)
    assert "must lie in a folder" in failed(capsys, *both, "--output", old / "deeper" / "r.json")
    new = ("--output", tmp_path / "r.json")
    assert "--real must name" in failed(capsys, "--generated", generated_root, *new)
    assert "does not exist" in failed(capsys, "--real", tmp_path / "no", "--generated", generated_root, *new)
    assert "--networks must be one of" in failed(capsys, *both, *new, "--networks", "tiny")
    assert "no option --pair: did you mean --pairs" in failed(capsys, *both, *new, "--pair", "3")
    broken = paint(tmp_path / "broken")
    (broken / "awe" / "2.png").write_bytes(b"")
    assert "awe/2.png" in failed(capsys, "--real", emoset_root, "--generated", broken, *new)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["broken", "old.json"]


def test_missing_networks_are_named_with_a_way_out(generated_root, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    photos = paint(tmp_path / "photos", MIKELS_8)
    error = failed(capsys, "--real", photos, "--generated", generated_root, "--output", tmp_path / "r.json")
    assert "inception-2015-12-05.pt" in error
    assert "alexnet" in error
    assert "resnet50_places365.pth.tar" in error
    assert str(tmp_path / "hub") in error
    assert "--networks miniature" in error
