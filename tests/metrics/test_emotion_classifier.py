import json
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from uniemo.data import EmoSet
from uniemo.data.emotions import MIKELS_8
from uniemo.errors import UniEmoError
from uniemo.metrics import ClassifierConfig, EmotionClassifier, collect_features, train_emotion_classifier
from uniemo.metrics.calibration import fit_temperature, negative_log_likelihood
from uniemo.metrics.emotion_classifier import ClassifierOrigin, emotion_classifier, published_head
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


def test_reads_what_no_sum_can_express(task):
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


def test_probabilities_are_calibrated_enough_for_tables(task):
    classifier, _ = train_emotion_classifier(*task[0][:2], *task[1][:2], num_emotions=8)
    probabilities = classifier.probabilities(task[2][0])
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2000))
    assert abs(float(probabilities.amax(1).mean()) - _accuracy(classifier, task[2])) < 0.08


def test_deterministic_and_leaves_the_random_state_alone(task):
    config = ClassifierConfig(max_epochs=3)
    torch.manual_seed(5)
    first, _ = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, config)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
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


def test_collect_features_by_view(emoset_root, networks):
    data = EmoSet(str(emoset_root), 32, 16, 8)
    one, labels = collect_features(networks.clip, data.evaluation_loader("val"))
    assert one.shape == (16, networks.clip.embed_dim)
    np.testing.assert_array_equal(labels, data.records("val").emotion)
    both, twice = collect_features(networks.clip, data.evaluation_loader("val"), ("image", "target"))
    torch.testing.assert_close(both[:16], one)
    assert not torch.allclose(both[16:], one)
    assert torch.equal(twice, labels.repeat(2))
    loader = EmoSet(str(emoset_root), 32, None, 8).evaluation_loader("val")
    with pytest.raises(UniEmoError, match="diffusion_size"):
        collect_features(networks.clip, loader, ("target",))


def test_cache(emoset_root, networks, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path))
    data = EmoSet(str(emoset_root), 32, 16, 8)
    config = ClassifierConfig(max_epochs=2)
    with caplog.at_level("INFO"):
        first, info = emotion_classifier(networks.clip, data, config=config)
    assert "tiny-clip" in caplog.text
    files = sorted((tmp_path / "emotion_classifier").iterdir())
    assert [path.suffix for path in files] == [".json", ".safetensors", ".lock"]
    monkeypatch.setattr("uniemo.metrics.emotion_classifier.train_emotion_classifier", None)  # must not be called
    second, again = emotion_classifier(networks.clip, EmoSet(str(emoset_root), 32, 16, 8), config=config)
    features = torch.randn(4, networks.clip.embed_dim)
    assert torch.equal(first(features), second(features))
    assert info == again
    assert not second.training
    monkeypatch.undo()
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path))
    emotion_classifier(networks.clip, EmoSet(str(emoset_root), 32, 16, 8, limit_train=20), config=config)
    emotion_classifier(networks.clip, data, config=ClassifierConfig(max_epochs=2, seed=1))
    assert len(list((tmp_path / "emotion_classifier").glob("*.safetensors"))) == 3


def _trained(task, **settings):
    classifier, _ = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, ClassifierConfig(max_epochs=4, **settings))
    classifier.origin = ClassifierOrigin(MIKELS_8, "some-clip", "0123456789ab", {"test": {"accuracy": 0.5}})
    return classifier


@pytest.mark.parametrize("hidden", [None, 32])
def test_file_holds_everything(task, tmp_path, hidden):
    classifier = _trained(task, hidden=hidden, temperature=True)
    assert float(classifier.temperature) != 1
    classifier.save(tmp_path / "head.safetensors")
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    again = EmotionClassifier.load(tmp_path / "head.safetensors")
    assert torch.equal(drawn, torch.rand(1))  # reading leaves the random state alone
    assert again.origin == classifier.origin
    assert torch.equal(again(task[1][0]), classifier(task[1][0]))
    assert again.hidden == hidden
    assert not again.training
    with safe_open(tmp_path / "head.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert json.loads(metadata["emotions"]) == list(MIKELS_8)
    assert metadata["clip_hash"] == "0123456789ab"
    assert metadata["head"] == ("linear" if hidden is None else "mlp")
    assert float(metadata["temperature"]) == float(classifier.temperature)
    assert json.loads(metadata["figures"])["test"]["accuracy"] == 0.5
    (tmp_path / "plain").touch()
    assert (tmp_path / "head.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode  # others may read it


def test_temperature_calibrates_without_changing_answers(task):
    config = {"hidden": 64, "weight_decay": 0.0, "dropout": 0.0, "max_epochs": 30, "patience": 30}
    plain, info = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, ClassifierConfig(**config))
    scaled, same = train_emotion_classifier(*task[0][:2], *task[1][:2], 8, ClassifierConfig(temperature=True, **config))
    assert info == same
    temperature = float(scaled.temperature)
    torch.testing.assert_close(scaled(task[2][0]) * temperature, plain(task[2][0]))
    assert temperature == pytest.approx(fit_temperature(plain(task[1][0]), task[1][1]))
    before, after = (negative_log_likelihood(k(task[1][0]).double().softmax(1), task[1][1]) for k in (plain, scaled))
    assert after <= before


def test_classes_go_by_name(task):
    classifier = _trained(task, hidden=32)
    order = tuple(reversed(MIKELS_8))
    other = classifier.reordered(order)
    assert torch.equal(other(task[1][0]), classifier(task[1][0]).flip(1))
    assert other.origin.emotions == order
    with pytest.raises(UniEmoError, match=r"joy.*it knows amusement"):
        classifier.reordered(("joy", *order[1:]))


def test_refuses_another_clip(task, networks, tmp_path):
    classifier = _trained(task, hidden=None)
    with pytest.raises(UniEmoError, match=rf"some-clip \(0123456789ab\); got tiny-clip \({networks.clip.hash}\)"):
        classifier.check_clip(networks.clip)
    with pytest.raises(UniEmoError, match=r"width 128; got \(2, 16\).*some-clip"):
        classifier(torch.zeros(2, 16))
    origin = ClassifierOrigin(MIKELS_8, networks.clip.name, networks.clip.hash)
    EmotionClassifier(16, 8, None, origin=origin).check_clip(networks.clip)
    with pytest.raises(UniEmoError, match="set origin first"):
        EmotionClassifier(16, 8).save(tmp_path / "x.safetensors")


def test_published_head(tmp_path, networks):
    weight, bias = torch.randn(8, 16), torch.randn(8)
    torch.save({"fc.weight": weight, "fc.bias": bias}, tmp_path / "head.pth")
    save_file({"fc.weight": weight, "fc.bias": bias}, tmp_path / "head.safetensors")
    features = torch.randn(5, 16)
    for name in ("head.pth", "head.safetensors"):
        head = published_head(tmp_path / name)
        assert torch.equal(head(features), torch.nn.functional.linear(features, weight, bias))
        assert head.origin.emotions == MIKELS_8
        assert torch.equal(EmotionClassifier.load(tmp_path / name)(features), head(features))
        head.check_clip(networks.clip)  # a folder of that width: nothing says that it is another
    named = SimpleNamespace(
        name="ViT-L-14-laion2b_s32b_b82k", source="ViT-L-14/laion2b_s32b_b82k", embed_dim=16, hash="0"
    )
    with pytest.raises(UniEmoError, match="ViT-L-14"):
        head.check_clip(named)
    head.check_clip(SimpleNamespace(name="ViT-L-14", source="ViT-L-14", embed_dim=16, hash="0"))
    with pytest.raises(UniEmoError, match="width 16"):
        head.check_clip(SimpleNamespace(name="ViT-L-14", source="ViT-L-14", embed_dim=17, hash="0"))


def test_the_copy_of_the_published_head_that_lies_here():
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not (folder / "emogen_emo_a_classifier.safetensors").is_file():
        pytest.skip("the published head is not here")
    head = published_head(folder / "emogen_emo_a_classifier.safetensors")
    assert head.embed_dim == 768
    order = json.loads((folder / "emogen_attribute_coefficients.json").read_text())["emotions"]
    assert list(head.origin.emotions) == order  # the coefficients are means of this head's softmax


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"fc.weight": torch.zeros(7, 4), "fc.bias": torch.zeros(7)}, r"fc.weight \(8, E\)"),
        ({"fc.weight": torch.zeros(8, 4)}, "train-classifier or EmoGen"),
        ({"layers.0.weight": torch.zeros(8, 4)}, "train-classifier or EmoGen"),
    ],
)
def test_refuses_other_files(tmp_path, content, said):
    save_file(content, tmp_path / "other.safetensors")
    with pytest.raises(UniEmoError, match=said):
        EmotionClassifier.load(tmp_path / "other.safetensors")
    with pytest.raises(UniEmoError, match="no file"):
        EmotionClassifier.load(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(UniEmoError, match="cannot be read"):
        EmotionClassifier.load(tmp_path / "broken.safetensors")
    with pytest.raises(UniEmoError, match=r"fc.weight and fc.bias|fc.weight \(8, E\)"):
        published_head(tmp_path / "other.safetensors")


def test_features_that_are_no_numbers():
    bad = torch.zeros(4, 3)
    bad[2, 1] = float("nan")
    labels = torch.zeros(4, dtype=torch.long)
    with pytest.raises(UniEmoError, match="validation features must be finite; row 2"):
        train_emotion_classifier(torch.zeros(4, 3), labels, bad, labels, 2)
