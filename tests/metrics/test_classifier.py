import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from uniemo.errors import UniEmoError
from uniemo.metrics.classifier import ClassifierOrigin, EmotionClassifier, EmotionHead, random_head
from uniemo.taxonomy import MIKELS_8

FEATURES = torch.randn(5, 16, generator=torch.Generator().manual_seed(0))


def _classifier(hidden):
    """A classifier with random weights that says where it is from."""
    origin = ClassifierOrigin(MIKELS_8, "some-clip", "0123456789ab", {"test": {"accuracy": 0.5}})
    classifier = EmotionClassifier(16, 8, hidden, origin=origin).eval().requires_grad_(False)
    for buffer in (classifier.mean, classifier.std, classifier.temperature):
        buffer.uniform_(0.5, 2)
    return classifier


@pytest.mark.parametrize("hidden", [None, 32])
def test_file_holds_everything(tmp_path, hidden):
    classifier = _classifier(hidden)
    classifier.save(tmp_path / "head.safetensors")
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    again = EmotionClassifier.load(tmp_path / "head.safetensors")
    assert torch.equal(expected, torch.rand(1))  # reading leaves the random state alone
    assert again.origin == classifier.origin
    assert torch.equal(again(FEATURES), classifier(FEATURES))
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


def test_classes_go_by_name():
    classifier = _classifier(32)
    plain, turned = EmotionHead(classifier, "a", "b"), EmotionHead(classifier, "a", "b", MIKELS_8[::-1])
    assert torch.equal(turned(FEATURES), plain(FEATURES).flip(1))
    assert turned.info == plain.info  # the order makes no other classifier


def test_refuses_another_clip(clip, tmp_path):
    classifier = _classifier(None)
    with pytest.raises(UniEmoError, match=rf"some-clip \(0123456789ab\); got tiny-clip \({clip.hash}\)"):
        classifier.check_clip(clip)
    with pytest.raises(UniEmoError, match=r"width 16; got \(2, 17\).*some-clip"):
        classifier(torch.zeros(2, 17))
    origin = ClassifierOrigin(MIKELS_8, clip.name, clip.hash)
    EmotionClassifier(16, 8, None, origin=origin).check_clip(clip)
    with pytest.raises(ValueError, match="set origin first"):
        EmotionClassifier(16, 8).save(tmp_path / "x.safetensors")


def _clip(name, source, width=16):
    return SimpleNamespace(name=name, source=source, embed_dim=width, hash="0")


def test_published_head(tmp_path, clip):
    weight, bias = torch.randn(8, 16), torch.randn(8)
    torch.save({"fc.weight": weight, "fc.bias": bias}, tmp_path / "head.pth")
    save_file({"fc.weight": weight, "fc.bias": bias}, tmp_path / "head.safetensors")
    for name in ("head.pth", "head.safetensors"):
        head = EmotionClassifier.load(tmp_path / name)
        assert torch.equal(head(FEATURES), torch.nn.functional.linear(FEATURES, weight, bias))
        assert head.origin.emotions == MIKELS_8
        head.check_clip(clip)  # a folder of that width: nothing says that it is another
    head.check_clip(_clip("ViT-L-14", "ViT-L-14"))
    with pytest.raises(UniEmoError, match="ViT-L-14"):
        head.check_clip(_clip("ViT-L-14-laion2b_s32b_b82k", "ViT-L-14/laion2b_s32b_b82k"))
    with pytest.raises(UniEmoError, match="width 16"):
        head.check_clip(_clip("ViT-L-14", "ViT-L-14", 17))


def test_the_copy_of_the_published_head_that_lies_here():
    folder = Path(__file__).parents[3] / "shared" / "data"
    if not (folder / "emogen_emo_a_classifier.safetensors").is_file():
        pytest.skip("the published head is not here")
    path = folder / "emogen_emo_a_classifier.safetensors"
    head, state = EmotionClassifier.load(path), load_file(path)
    features = torch.randn(5, 768, generator=torch.Generator().manual_seed(0))
    expected = features.double() @ state["fc.weight"].double().T + state["fc.bias"].double()
    torch.testing.assert_close(head(features), expected.float(), rtol=1e-4, atol=1e-4)
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


def test_random_head_repeats():
    first, second = random_head(16, 8), random_head(16, 8)
    assert first.info == second.info
    torch.testing.assert_close(first(FEATURES).sum(dim=1), torch.ones(5))
