import json
import shutil

import pytest
import torch
from tiny import tiny_clip
from trees import painted_emoset

from tests.trees import painted_tree
from uniemo.cli import main
from uniemo.cli import train_classifier as command
from uniemo.data import EmoSet
from uniemo.metrics.classifier import EmotionClassifier
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.metrics.feature_cache import cached_features
from uniemo.metrics.network_weights import weights_hash


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    return tiny_clip(tmp_path_factory.mktemp("clip") / "tiny-clip")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return painted_emoset(tmp_path_factory.mktemp("painted") / "emoset")


@pytest.fixture(autouse=True)
def _cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path_factory.mktemp("cache")))


def _args(root, clip, output, *more):
    return [
        "train-classifier",
        f"--data.root={root}",
        f"--clip={clip}",
        f"--output={output}",
        "--device=cpu",
        "--epochs=3",
        *more,
    ]


def test_trains_reports_and_keeps_features(root, clip, tmp_path, capsys, monkeypatch):
    output = tmp_path / "head.safetensors"
    args = _args(root, clip, output, "--hidden=24", "--temperature", f"--features_cache={tmp_path / 'features'}")
    assert main(args) == 0
    shown = capsys.readouterr()
    assert "EmoSet" in shown.out
    for word in ("accuracy", "balanced", "ECE", "Brier", "NLL", "temperature", "amusement", "of 2", str(output)):
        assert word in shown.out
    assert "32/32" not in shown.err  # no terminal, no bar

    notes = json.loads((tmp_path / "head.json").read_text())
    frozen = FrozenClip(str(clip))
    assert notes["clip"]["hash"] == frozen.hash
    assert notes["head"]["hidden"] == 24
    assert notes["head"]["seed"] == notes["data"]["seed"] == 0
    assert notes["data"]["used"] == {"train": 32, "val": 16, "test": 16}
    assert sum(notes["data"]["images"]["test"].values()) == 16
    assert notes["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]

    classifier = EmotionClassifier.load(output)
    classifier.check_clip(frozen)
    data = EmoSet(str(root), 32, None, 8)
    assert classifier.origin.emotions == data.vocabulary.emotions
    features, labels = cached_features(frozen, data.evaluation_loader("test"))
    right = (classifier.probabilities(features).argmax(1) == labels).double().mean()
    assert notes["test"]["accuracy"] == pytest.approx(float(right))
    assert classifier.origin.figures["test"]["ece"] == notes["test"]["ece"]
    assert notes["temperature"] == pytest.approx(float(classifier.temperature))
    assert notes["test"]["by_emotion"].keys() == set(data.vocabulary.emotions)
    assert weights_hash(classifier) == notes["weights_hash"]

    # another head finds the features: the CLIP is not run again
    monkeypatch.setattr(FrozenClip, "features", None)
    second = tmp_path / "second.safetensors"
    more = ("--head=linear", "--seed=1", f"--features_cache={tmp_path / 'features'}")
    assert main(_args(root, clip, second, *more)) == 0
    assert EmotionClassifier.load(second).hidden is None
    assert json.loads(second.with_suffix(".json").read_text())["temperature"] == 1
    assert main(_args(root, clip, second, *more)) == 2
    assert "--overwrite" in capsys.readouterr().err
    before = EmotionClassifier.load(second)
    assert main([*_args(root, clip, second, *more), "--overwrite"]) == 0
    again = EmotionClassifier.load(second)
    assert again.origin == before.origin
    assert all(torch.equal(value, before.state_dict()[name]) for name, value in again.state_dict().items())


def test_generated_size_is_learnt_too(root, clip, tmp_path):
    assert main(_args(root, clip, tmp_path / "a.safetensors", "--data.diffusion_size=16", "--hidden=8")) == 0
    notes = json.loads((tmp_path / "a.json").read_text())
    assert notes["data"]["views"] == {"image": 32, "target": 16}
    assert notes["data"]["used"] == {"train": 32, "val": 16, "test": 16}
    assert notes["test"]["images"] == 16


def test_other_datasets_are_recognised(clip, tmp_path, capsys):
    tree = painted_tree("emotionroi", tmp_path / "roi", images=48, size=32)
    assert main(_args(tree, clip, tmp_path / "a.safetensors", "--hidden=8")) == 0
    classifier = EmotionClassifier.load(tmp_path / "a.safetensors")
    assert set(classifier.origin.emotions) == {"anger", "disgust", "fear", "joy", "sadness", "surprise"}
    assert main(_args(tree, clip, tmp_path / "b.safetensors", "--dataset=FI")) == 2
    assert capsys.readouterr().err.count("\n") >= 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--data.root=/nowhere"], "--data.root must be an existing folder"),
        (["--clip=ViT-Q-99"], "or an open_clip name such as"),
        (["--clip=ViT-B-32"], "open_clip_model.safetensors"),  # not here, and downloads are switched off
        (["--output={tmp}"], "is a folder: give a file name in it"),
        (["--output={tmp}/missing/a.safetensors"], "must lie in an existing folder"),
        (["--output={tmp}/a.pth"], "must end in .safetensors"),
        (["--output={tmp}/there.safetensors"], "there.json exists: choose another name or add --overwrite"),
        (["--features_cache={tmp}/file"], "--features_cache must be a folder"),
        (["--head=linear", "--hidden=8"], "--hidden must be left out with --head linear"),
        (["--dropout=1"], "must be below 1"),
        (["--epochs=0"], "must be at least 1"),
        (["--device=cuda:99"], "--device must be one that works here"),
        (["--sed=3"], "has no option --sed: did you mean"),
        (["--data.root={tmp}/empty"], "is empty"),
        (["--data.root={tmp}/strange"], ""),
    ],
)
def test_bad_input_is_one_line_before_any_work(root, clip, tmp_path, capsys, monkeypatch, change, said):
    (tmp_path / "there.json").touch()
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "strange").mkdir()
    (tmp_path / "strange" / "notes.txt").touch()
    monkeypatch.setattr(FrozenClip, "features", None)  # must not be called
    args = _args(root, clip, tmp_path / "a.safetensors")
    for word in (word.format(tmp=tmp_path) for word in change):
        args = [kept for kept in args if kept.partition("=")[0] != word.partition("=")[0]] + [word]
    before = sorted(tmp_path.iterdir())
    assert main(args) == 2
    error = capsys.readouterr().err
    assert said in error
    if "strange" not in args[-1]:  # an unknown tree is shown beside the expected ones
        assert error.startswith("error: ")
        assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_an_emotion_without_training_images(clip, tmp_path, capsys):
    root = tmp_path / "fi"
    tree = painted_tree("fi-splits", root, images=80, size=32)
    for folder in [path for path in tree.rglob("awe") if "train" in str(path.relative_to(tree))]:
        shutil.rmtree(folder)
    assert main(_args(tree, clip, tmp_path / "a.safetensors")) == 2
    assert "awe" in capsys.readouterr().err


def test_stopped_run_goes_on(root, clip, tmp_path, monkeypatch, capsys):
    args = _args(root, clip, tmp_path / "a.safetensors", "--hidden=8", "--batch_size=16")
    plain, calls = FrozenClip.features, []

    def features(self, images):
        calls.append(len(images))
        if len(calls) == 4:  # train is done, val is, test is not
            raise KeyboardInterrupt
        return plain(self, images)

    monkeypatch.setattr(FrozenClip, "features", features)
    assert main(args) == 130
    assert not (tmp_path / "a.safetensors").exists()
    assert main(args) == 0
    assert calls == [16, 16, 16, 16, 16]  # the last one is the only one that was run again


def test_help(capsys):
    assert main(["train-classifier", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "two fully connected layers" in shown
    for action in command._parser()._actions:
        assert action.help
