import time

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from uniemo.data import EmoSet
from uniemo.errors import UniEmoError
from uniemo.metrics.calibration import fit_temperature
from uniemo.metrics.classifier import ClassifierOrigin, EmotionClassifier
from uniemo.metrics.classifier_training import ClassifierConfig, emotion_classifier, train_emotion_classifier
from uniemo.miniature.table import cell_weights, emotion_table


def _task(n, rng, scenes, objects):
    """Features that name a scene and an object with noise; labels by the painter's table, not a sum of the two."""
    table = emotion_table()
    joint = (table * cell_weights()[..., None]).ravel()
    scene, item, emotion = np.unravel_index(rng.choice(len(joint), n, p=joint / joint.sum()), table.shape)
    features = scenes[scene] + objects[item] + 0.7 * rng.normal(size=(n, scenes.shape[1]))
    best = float((table.argmax(-1)[scene, item] == emotion).mean())
    return torch.from_numpy(features).float() * 5 + 3, torch.from_numpy(emotion), best


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(0)
    scenes, objects = rng.normal(size=(8, 128)), rng.normal(size=(16, 128))
    return [_task(n, rng, scenes, objects) for n in (2000, 400, 2000)]


def _accuracy(classifier, part):
    return float((classifier.probabilities(part[0]).argmax(1) == part[1]).double().mean())


def test_learns_what_no_sum_can_express(task):
    start = time.process_time()
    classifier, info = train_emotion_classifier(*task[0][:2], *task[1][:2], num_emotions=8)
    assert time.process_time() - start < 10
    accuracy, best = _accuracy(classifier, task[2]), task[2][2]
    assert accuracy > best - 0.02
    assert info.accuracy == pytest.approx(_accuracy(classifier, task[1]))
    assert info.best_epoch <= info.epochs
    probe, _ = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, ClassifierConfig(hidden=None))
    assert len(list(probe.layers)) == 1
    assert _accuracy(probe, task[2]) < accuracy - 0.1
    assert not classifier.training
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    probabilities = classifier.probabilities(task[2][0])
    assert abs(float(probabilities.amax(1).mean()) - accuracy) < 0.08  # calibrated enough for tables


def test_deterministic_and_leaves_the_random_state_alone(task):
    config = ClassifierConfig(max_epochs=3)
    torch.manual_seed(5)
    first, _ = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, config)
    expected = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(expected, torch.rand(1))
    second, _ = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, config)
    other, _ = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, ClassifierConfig(max_epochs=3, seed=1))
    assert torch.equal(first(task[1][0]), second(task[1][0]))
    assert not torch.equal(first(task[1][0]), other(task[1][0]))


def test_constant_feature_does_no_harm():
    features = torch.cat([torch.randn(20, 3), torch.ones(20, 1)], dim=1)
    labels = torch.arange(20) % 2
    classifier, _ = train_emotion_classifier(features, labels, features, labels, 2, ClassifierConfig(max_epochs=2))
    assert classifier(features).isfinite().all()


def test_needs_both_splits():
    empty, some, labels = torch.zeros(0, 3), torch.zeros(4, 3), torch.zeros(4, dtype=torch.long)
    for first, second in ((empty, some), (some, empty)):
        with pytest.raises(UniEmoError, match="training and validation"):
            train_emotion_classifier(first, labels[: len(first)], second, labels[: len(second)], 2)


def test_cache(emoset_root, clip, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path))
    data = EmoSet(str(emoset_root), 32, 16, 8)
    config = ClassifierConfig(max_epochs=2)
    with caplog.at_level("INFO"):
        first, info = emotion_classifier(clip, data, config=config)
    assert "tiny-clip" in caplog.text
    monkeypatch.setattr("uniemo.metrics.classifier_training.train_emotion_classifier", None)  # must not be called
    second, again = emotion_classifier(clip, EmoSet(str(emoset_root), 32, 16, 8), config=config)
    features = torch.randn(4, clip.embed_dim)
    assert torch.equal(first(features), second(features))
    assert info == again
    assert not second.training
    monkeypatch.undo()
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path))
    emotion_classifier(clip, EmoSet(str(emoset_root), 32, 16, 8, limit_train=20), config=config)
    emotion_classifier(clip, data, config=ClassifierConfig(max_epochs=2, seed=1))
    assert len(list((tmp_path / "emotion_classifier").glob("*.safetensors"))) == 3


def test_temperature_calibrates_without_changing_answers(task):
    config = {"hidden": 64, "weight_decay": 0.0, "dropout": 0.0, "max_epochs": 30, "patience": 30}
    plain, info = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, ClassifierConfig(**config))
    scaled, same = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, ClassifierConfig(temperature=True, **config))
    assert info == same
    temperature = float(scaled.temperature)
    torch.testing.assert_close(scaled(task[2][0]) * temperature, plain(task[2][0]))
    assert temperature == pytest.approx(fit_temperature(plain(task[1][0]), task[1][1]))
    before, after = (float(F.cross_entropy(k(task[1][0]).double(), task[1][1])) for k in (plain, scaled))
    assert after <= before


@pytest.mark.parametrize(
    ("scale", "rate", "message"),
    [
        (1, 1e30, r"in epoch 1 at step 1 it is (nan|inf) \(learning rate 1e\+30\): lower the learning rate"),
        (torch.nan, 2e-3, "in epoch 1 at step 0 it is nan"),
    ],
)
def test_a_loss_that_is_not_finite_ends_training(task, scale, rate, message):
    features, labels, _ = task[0]
    with pytest.raises(UniEmoError, match=message):
        train_emotion_classifier(features * scale, labels, *task[1][:2], 8, ClassifierConfig(learning_rate=rate))


def test_a_validation_loss_that_is_not_finite_ends_training(task):
    features, labels, _ = task[0]
    with pytest.raises(UniEmoError, match="in epoch 1 on validation it is nan"):
        train_emotion_classifier(features, labels, task[1][0] * torch.nan, task[1][1], 8)


def test_weights_that_are_not_finite_are_neither_written_nor_read(task, tmp_path):
    classifier, _ = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, ClassifierConfig(max_epochs=1))
    classifier.origin = ClassifierOrigin(tuple("abcdefgh"), "clip", "0" * 12)
    classifier.save(tmp_path / "x.safetensors")
    before = (tmp_path / "x.safetensors").read_bytes()
    state = classifier.state_dict()
    state["layers.0.weight"][3, 4] = torch.inf
    with pytest.raises(UniEmoError, match=r"to write must hold finite numbers; layers\.0\.weight has NaN or infinity"):
        classifier.save(tmp_path / "x.safetensors")
    assert (tmp_path / "x.safetensors").read_bytes() == before
    torch.save({"fc.weight": torch.full((8, 4), torch.nan), "fc.bias": torch.zeros(8)}, tmp_path / "fc.pth")
    with pytest.raises(UniEmoError, match=r"fc\.pth must hold finite numbers; fc\.weight has NaN"):
        EmotionClassifier.load(tmp_path / "fc.pth")
