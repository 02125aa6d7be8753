import pytest
import torch

from uniemo.data import EmoSet
from uniemo.errors import UniEmoError
from uniemo.metrics.calibration import fit_temperature
from uniemo.metrics.protocols import Reading
from uniemo.metrics.second_classifier import (
    PixelClassifier,
    PixelConfig,
    second_classifier,
    train_pixel_classifier,
)

_QUICK = PixelConfig(size=16, width=4, epochs=2, shift=1)


def _squares(n, seed):
    """Images with a bright square in one of four corners, which is the label."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (n,), generator=generator)
    images = torch.randint(0, 100, (1, n, 3, 16, 16), generator=generator).byte()
    for row, label in enumerate(labels.tolist()):
        top, left = 8 * (label // 2), 8 * (label % 2)
        images[0, row, :, top + 2 : top + 6, left + 2 : left + 6] = 255
    return images, labels


def test_learns_from_pixels():
    train, val = _squares(256, 0), _squares(128, 1)
    # no mirror image of a corner is the same corner: the labels left and right are one class each
    labels = [part[1] // 2 for part in (train, val)]
    config = PixelConfig(size=16, width=8, epochs=8, shift=1)
    classifier, info = train_pixel_classifier(train[0], labels[0], val[0], labels[1], ("up", "down"), config)
    output = classifier(val[0][0].float() / 255)
    assert set(output) == {"logits", "probabilities"}
    accuracy = float((output["probabilities"].argmax(1) == labels[1]).double().mean())
    assert accuracy > 0.95
    assert info.accuracy == pytest.approx(accuracy, abs=0.01)
    assert fit_temperature(output["logits"], labels[1]) == pytest.approx(1, rel=0.01) or accuracy == 1  # calibrated
    assert 1 <= info.best_epoch <= info.epochs == 8
    assert not classifier.train().training
    assert not any(part.training for part in classifier.modules())
    assert not any(parameter.requires_grad for parameter in classifier.parameters())


def test_deterministic_and_leaves_the_random_state_alone():
    train, val = _squares(64, 0), _squares(16, 1)
    names = ("a", "b", "c", "d")
    torch.manual_seed(5)
    first, _ = train_pixel_classifier(*train, *val, names, _QUICK)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(1))
    second, _ = train_pixel_classifier(*train, *val, names, _QUICK)
    assert first.info == second.info
    other, _ = train_pixel_classifier(*train, *val, names, PixelConfig(size=16, width=4, epochs=2, shift=1, seed=2))
    assert other.info.hash != first.info.hash
    with pytest.raises(UniEmoError, match="training and validation images; got 64 and 0"):
        train_pixel_classifier(*train, val[0][:, :0], val[1][:0], names, _QUICK)


def test_classes_go_by_name():
    classifier = PixelClassifier(("a", "b", "c"), size=16, width=4)
    images = torch.rand(2, 3, 20, 30)
    other = classifier.reordered(("c", "a", "b"))
    torch.testing.assert_close(other(images)["logits"], classifier(images)["logits"][:, [2, 0, 1]])
    assert other.emotions == ("c", "a", "b")
    with pytest.raises(UniEmoError, match="it knows a, b, c"):
        classifier.reordered(("a", "b", "d"))
    with pytest.raises(UniEmoError, match=r"\[0, 1\]"):
        classifier(images * 255)


def test_second_classifier_of_data(emoset_root, tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("UNIEMO_CACHE", str(tmp_path))
    data = EmoSet(str(emoset_root), 32, 16, 8)
    with caplog.at_level("INFO"):
        first, info = second_classifier(data, ("image", "target"), _QUICK)
    assert "second emotion classifier" in caplog.text
    assert first.emotions == data.vocabulary.emotions
    reading = Reading(first, "strict", "probabilities")
    probabilities = reading.read(first(torch.rand(3, 3, 40, 40)))
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3))
    assert reading.infos[0].hash == first.info.hash
    monkeypatch.setattr("uniemo.metrics.second_classifier.train_pixel_classifier", None)  # must not be called
    torch.manual_seed(5)
    drawn = torch.rand(1)
    torch.manual_seed(5)
    second, again = second_classifier(EmoSet(str(emoset_root), 32, 16, 8), ("image", "target"), _QUICK)
    assert torch.equal(drawn, torch.rand(1))
    assert (second.info, again) == (first.info, info)
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(first(images)["logits"], second(images)["logits"])
