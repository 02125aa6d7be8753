"""The ways of the stage 1 benchmark, on a tiny CLIP."""

import pytest
import torch

from benchmarks import stage1
from benchmarks.photographs import write_photograph_tree
from benchmarks.timing import Rounds
from tests.tiny_runs import assets


@pytest.fixture
def setting(tmp_path):
    write_photograph_tree(tmp_path / "EmoSet", images=8)
    return stage1.prepare(tmp_path / "EmoSet", batch_size=4, steps=2, clip=str(assets() / "clip"), size=32)


def test_every_token_gives_the_features_of_the_encoder(setting):
    encoder = setting.module.model.encoder.eval()
    images = torch.randn(3, 3, 32, 32)
    features = encoder(images)
    for plain, ours in zip(
        stage1.every_token(encoder, images), (features.cls, features.scene, features.object), strict=True
    ):
        torch.testing.assert_close(plain, ours)


def test_all_ways_see_as_many_samples_and_only_uniemo_moves_the_weights(setting, tmp_path):
    rounds = Rounds(repeats=1, warmup=1, say=False)
    before = setting.module.model.head.fc0.weight.detach().clone()
    stage1.trainer(setting, tmp_path, rounds).fit(setting.module, datamodule=setting.data)
    assert rounds.times.samples == {"uniemo": 8, "released": 8, "released, lean": 8, "floor": 8}
    assert all(len(seconds) == 1 and seconds[0] > 0 for seconds in rounds.times.seconds.values())
    after = setting.module.model.head.fc0.weight.detach().clone()
    assert not torch.equal(before, after)
    released = stage1.Released(setting)
    released.turn(lean=False)
    assert torch.equal(after, setting.module.model.head.fc0.weight)


def test_texts_are_those_of_the_annotations(setting):
    data = setting.data
    pictures = stage1.PlainDataset(data.records("train"), data.vocabulary, 32)
    records = data.records("train")
    for index in range(len(pictures)):
        view, emotion, scene, thing = pictures[index]
        assert view.shape == (3, 32, 32)
        assert emotion == records.emotion[index]
        assert scene == ("" if records.scene[index] < 0 else data.vocabulary.scenes[records.scene[index]])
        assert (thing == "") == (len(records.objects(index)) == 0)
