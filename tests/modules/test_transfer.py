"""Starting from a checkpoint with other names."""

import pytest
import torch

from tests.tiny import VOCABULARY, tiny_clip
from uniemo.errors import UniEmoError
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.models.uniemo import UniEmoModel
from uniemo.modules.transfer import check_names, kept_attributes, transfer
from uniemo.taxonomy import EMOTION_ROI_6, MIKELS_8
from uniemo.vocabulary import Vocabulary

EIGHT = Vocabulary(MIKELS_8, VOCABULARY.scenes, VOCABULARY.objects)


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    clip = str(tiny_clip(tmp_path_factory.mktemp("clip")))

    def build(vocabulary, seed=0):
        torch.manual_seed(seed)
        return UniEmoModel.build(vocabulary, EncoderConfig(clip=clip, query_length=2), HeadConfig(hidden=8)).eval()

    return build


def load(model, before, source):
    found = transfer(before.trained_state_dict(), model.trained_state_dict(), source, model.vocabulary)
    model.load_trained_state_dict(found.state, shared_only=True)
    return found


def test_same_emotions_in_another_order_are_reordered(build):
    before = build(EIGHT)
    before.bank.set_tables(torch.rand(2, 8), torch.rand(3, 8))
    other = Vocabulary(tuple(sorted(MIKELS_8)), EIGHT.scenes, EIGHT.objects)
    model = build(other, seed=1)
    found = load(model, before, EIGHT)
    assert found.note == ""
    assert found.tables
    images = torch.rand(3, 3, 32, 32)
    old, new = before.classify(images), model.classify(images)
    for name in MIKELS_8:
        torch.testing.assert_close(new[:, other.emotion_index(name)], old[:, EIGHT.emotion_index(name)])
        torch.testing.assert_close(
            model.bank.scene_table[:, other.emotion_index(name)], before.bank.scene_table[:, EIGHT.emotion_index(name)]
        )


def test_other_emotions_get_a_new_head_and_keep_the_encoder(build):
    before = build(EIGHT)
    before.bank.set_tables(torch.rand(2, 8), torch.rand(3, 8))
    model = build(Vocabulary(EMOTION_ROI_6, EIGHT.scenes, EIGHT.objects), seed=1)
    own = {name: value.clone() for name, value in model.head.state_dict().items()}
    found = load(model, before, EIGHT)
    assert "emotion head starts anew" in found.note
    assert "\n" not in found.note
    assert all(torch.equal(own[name], value) for name, value in model.head.state_dict().items())
    assert torch.equal(model.encoder.scene_query, before.encoder.scene_query)
    assert torch.equal(model.scene_projection.weight, before.scene_projection.weight)
    joy = before.bank.object_table[:, [0, 2, 3]].sum(dim=1)  # amusement, contentment, excitement
    torch.testing.assert_close(model.bank.object_table[:, EMOTION_ROI_6.index("joy")], joy)


def test_data_without_attributes(build):
    before, model = build(EIGHT), build(Vocabulary(MIKELS_8), seed=1)
    assert model.scene_projection is None
    found = load(model, before, EIGHT)
    assert found.tables  # there is nothing to know
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(model.classify(images), before.classify(images))
    back = build(EIGHT, seed=1)
    assert not load(back, model, model.vocabulary).tables


def test_other_attributes_are_embedded_anew(build):
    before = build(EIGHT)
    model = build(Vocabulary(MIKELS_8, ("beach",), EIGHT.objects), seed=1)
    text = model.bank.scene_text.clone()
    found = load(model, before, EIGHT)
    assert not found.tables
    assert torch.equal(model.bank.scene_text, text)
    assert torch.equal(model.bank.object_text, before.bank.object_text)
    assert torch.equal(model.scene_projection.weight, before.scene_projection.weight)


def test_which_attributes_are_kept():
    kept = kept_attributes(EIGHT, Vocabulary(EMOTION_ROI_6))
    assert kept == Vocabulary(EMOTION_ROI_6, EIGHT.scenes, EIGHT.objects)
    assert kept_attributes(EIGHT, EIGHT) is None
    assert kept_attributes(Vocabulary(MIKELS_8), Vocabulary(EMOTION_ROI_6)) is None
    assert kept_attributes(VOCABULARY, Vocabulary(EMOTION_ROI_6)) is None  # nothing stands for joy


def test_training_goes_on_with_its_own_names():
    check_names(EIGHT, EIGHT)
    check_names(EIGHT, Vocabulary(MIKELS_8))
    for data in (Vocabulary(tuple(sorted(MIKELS_8))), Vocabulary(MIKELS_8, ("beach",)), Vocabulary(EMOTION_ROI_6)):
        with pytest.raises(UniEmoError, match="init_from"):
            check_names(EIGHT, data)
    with pytest.raises(UniEmoError, match="2 scenes"):
        check_names(Vocabulary(MIKELS_8), EIGHT)
