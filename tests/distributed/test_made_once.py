"""What one process makes for all is not made twice by two that start together."""

import os

import pytest

import uniemo.miniature.synthesis
from tests.distributed.crew import enough_cores, on_ranks
from tests.distributed.test_gradients import data
from tests.tiny_runs import assets
from uniemo.metrics import classifier_training, feature_cache
from uniemo.metrics.clip_networks import FrozenClip
from uniemo.miniature.paths import miniature_tree

pytestmark = pytest.mark.skipif(not enough_cores, reason="two processes need two cores")


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Count calls over processes: each leaves a line in a file."""
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path / "cache"))
    log = tmp_path / "calls"

    def counted(function, name):
        def call(*args, **kwargs):
            with log.open("a") as file:
                file.write(f"{name} {os.getpid()}\n")
            return function(*args, **kwargs)

        return call

    def watch(module, name):
        monkeypatch.setattr(module, name, counted(getattr(module, name), name))

    return watch, lambda: [line.split()[0] for line in log.read_text().splitlines()]


def test_the_miniature_is_painted_once(monkeypatch, calls):
    watch, made = calls
    paint = uniemo.miniature.synthesis.synthesize_emoset

    def few(root):
        return paint(root, train=8, val=2, test=2, size=32)

    monkeypatch.setattr(uniemo.miniature.synthesis, "synthesize_emoset", few)
    watch(uniemo.miniature.synthesis, "synthesize_emoset")
    first, second = on_ranks(lambda rank: miniature_tree())
    assert first == second
    assert (first / "info.json").is_file()
    assert made() == ["synthesize_emoset"]


def test_features_and_classifier_are_made_once(calls):
    watch, made = calls
    watch(classifier_training, "train_emotion_classifier")
    watch(feature_cache, "_compute")
    clip, images = FrozenClip(str(assets() / "clip")), data()

    def found(rank):
        classifier, info = classifier_training.emotion_classifier(clip, images)
        return {name: value.tolist() for name, value in classifier.state_dict().items()}, info

    (first, info), (second, other) = on_ranks(found)
    assert first == second
    assert info == other
    assert sorted(made()) == ["_compute", "_compute", "train_emotion_classifier"]  # of training and validation images
