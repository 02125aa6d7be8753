import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny import VOCABULARY

from uniemo.errors import UniEmoError
from uniemo.models.attributes import AttributeBank, tables_from_file, tables_from_images, tables_from_text


@pytest.fixture
def bank():
    torch.manual_seed(0)
    bank = AttributeBank(torch.randn(3, 4), torch.randn(2, 4), num_emotions=3)
    bank.set_tables(torch.rand(3, 3).softmax(-1), torch.rand(2, 3).softmax(-1))
    return bank


def test_hard_retrieval_is_equation_5(bank):
    projected = torch.randn(6, 4)
    emotion = torch.tensor([0, 1, 2, 2, 1, 0])
    alpha = bank.retrieve("scene", projected, emotion)
    for p, y, found in zip(projected.numpy(), emotion.tolist(), alpha.tolist(), strict=True):
        cosines = [p @ t / np.linalg.norm(p) / np.linalg.norm(t) for t in bank.scene_text.numpy()]
        assert found == pytest.approx(float(bank.scene_table[int(np.argmax(cosines)), y]))


def test_soft_retrieval_weighs_all_and_has_a_gradient(bank):
    projected = torch.randn(2, 4, requires_grad=True)
    emotion = torch.tensor([1, 2])
    alpha = bank.retrieve("object", projected, emotion, "soft", temperature=0.5)
    for row in range(2):
        p = projected[row].detach().numpy()
        scores = np.array([p @ t / np.linalg.norm(p) / 0.5 for t in bank.object_text.numpy()])
        weights = np.exp(scores) / np.exp(scores).sum()
        assert alpha[row].item() == pytest.approx(weights @ bank.object_table[:, emotion[row]].numpy(), rel=1e-5)
    alpha.sum().backward()
    assert projected.grad.abs().sum() > 0


def test_weights_over_emotions_mix_their_coefficients(bank):
    projected = torch.randn(1, 4)
    single = [bank.retrieve("scene", projected, torch.tensor([y])) for y in range(3)]
    mixed = bank.retrieve("scene", projected, torch.tensor([[0.2, 0.0, 0.8]]))
    assert torch.allclose(mixed, 0.2 * single[0] + 0.8 * single[2])


def test_no_attributes_give_one():
    bank = AttributeBank.from_names((), ("eagle",), lambda names: torch.ones(len(names), 4), 3)
    assert torch.equal(bank.retrieve("scene", torch.randn(2, 4), torch.tensor([0, 1])), torch.ones(2))


def test_names_are_read_as_words():
    seen = []

    def encode(names):
        seen.extend(names)
        return torch.eye(len(names), 4) * 7

    bank = AttributeBank.from_names(("dark_forest",), ("Alarm clock", "eagle "), encode, 3)
    assert seen == ["dark forest", "alarm clock", "eagle"]
    assert torch.equal(bank.object_text, torch.eye(3, 4)[1:])  # normalised
    assert torch.allclose(bank.scene_table, torch.full((1, 3), 1 / 3))
    assert list(bank.parameters()) == []


def test_table_from_images_against_loops():
    probabilities = torch.rand(8, 3).softmax(-1)
    scene = torch.tensor([0, 1, -1, 0, 3, 1, -1, 0])
    objects = torch.rand(8, 4) > 0.5
    objects[:, 2] = False
    scene_table, object_table = tables_from_images(probabilities, scene, objects, num_scenes=5)
    for s in range(5):
        rows = [probabilities[i].numpy() for i in range(8) if scene[i] == s]
        assert np.allclose(scene_table[s].numpy(), np.mean(rows, axis=0) if rows else 1 / 3)
    for o in range(4):
        rows = [probabilities[i].numpy() for i in range(8) if objects[i, o]]
        assert np.allclose(object_table[o].numpy(), np.mean(rows, axis=0) if rows else 1 / 3)
    assert torch.allclose(scene_table.sum(1), torch.ones(5))


def test_table_from_text(bank):
    classifier = torch.nn.Linear(4, 3)
    scene, objects = tables_from_text(bank, classifier)
    assert torch.allclose(scene, F.softmax(classifier(bank.scene_text), -1))
    assert objects.shape == (2, 3)
    assert not scene.requires_grad


def test_table_from_file(tmp_path):
    path = tmp_path / "table.json"
    path.write_text(json.dumps({"Dark forest": [0.1, 0.8, 0.1], "balloon": [1, 0, 0], "unknown": [0, 0, 1]}))
    scene, objects = tables_from_file(path, VOCABULARY)
    assert torch.allclose(scene, torch.tensor([[1 / 3] * 3, [0.1, 0.8, 0.1]]))
    assert torch.allclose(objects[0], torch.tensor([1.0, 0, 0]))
    path.write_text(json.dumps({"scene": {"park": [1, 0, 0]}, "object": {"park": [0, 1, 0]}}))
    scene, objects = tables_from_file(path, VOCABULARY)
    assert scene[0, 0] == 1
    assert torch.allclose(objects, torch.full((3, 3), 1 / 3))


@pytest.mark.parametrize("text", ["[1]", "{", '{"park": [1, 0]}', '{"park": "much"}', '{"nothing": [1, 0, 0]}'])
def test_bad_table_files_are_one_line(tmp_path, text):
    path = tmp_path / "table.json"
    path.write_text(text)
    with pytest.raises(UniEmoError, match=r"attributes\.table"):
        tables_from_file(path, VOCABULARY)
    with pytest.raises(UniEmoError, match="cannot be read"):
        tables_from_file(tmp_path / "nowhere.json", VOCABULARY)


def test_bad_tables_are_refused(bank):
    good = torch.full((2, 3), 1 / 3)
    for wrong in (torch.ones(2, 3), torch.full((3, 3), torch.nan), -torch.ones(3, 3)):
        with pytest.raises(UniEmoError, match="scene table"):
            bank.set_tables(wrong, good)


@pytest.mark.parametrize("mode", ["hard", "soft"])
def test_alpha_is_float32_under_autocast(mode):
    """Texts that bfloat16 cannot tell apart: cosines with the feature differ by 2e-4."""
    angles = torch.linspace(0.02, 0, 5)
    bank = AttributeBank(torch.stack([angles.cos(), angles.sin()], dim=1), torch.randn(2, 2), num_emotions=5)
    bank.set_tables(torch.eye(5), torch.rand(2, 5))
    projected, emotion = torch.tensor([[3.0, 0.0]] * 5).bfloat16(), torch.arange(5)
    plain = bank.retrieve("scene", projected.float(), emotion, mode, temperature=0.001)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = bank.retrieve("scene", projected, emotion, mode, temperature=0.001)
    assert plain[4] > plain[0]
    assert mixed.dtype == torch.float32
    assert torch.equal(mixed, plain)
