"""Which images a rank gets."""

import itertools

import pytest
import torch

from tests.distributed.crew import enough_cores, on_ranks
from tests.distributed.test_gradients import build
from tests.tiny_runs import assets
from uniemo import distributed
from uniemo.data import EmoSet
from uniemo.data.dataset import EpochSampler
from uniemo.models.emotion_space import EmotionSpaceConfig
from uniemo.modules.space import fit_space


def batches(monkeypatch, rank, ranks, images, size, epoch):
    """Return the keys of each batch of a rank."""
    monkeypatch.setattr(distributed, "get_rank", lambda: rank)
    monkeypatch.setattr(distributed, "get_world_size", lambda: ranks)
    sampler = EpochSampler(images, seed=3, batch_size=size)
    sampler.set_epoch(epoch)
    keys = list(sampler)
    assert len(keys) == len(sampler)
    return [keys[start : start + size] for start in range(0, len(keys), size)]


@pytest.mark.parametrize(("ranks", "size"), itertools.product((2, 3), (1, 2, 4)))
@pytest.mark.parametrize("images", [*range(12, 26)])
def test_ranks_together_see_the_batches_of_one_process(monkeypatch, ranks, size, images):
    whole = batches(monkeypatch, 0, 1, images, ranks * size, epoch=1)
    shares = [batches(monkeypatch, rank, ranks, images, size, epoch=1) for rank in range(ranks)]
    assert len({len(share) for share in shares}) == 1  # or the others would wait for ever
    for number, expected in enumerate(whole):
        together = [key for share in shares for key in share[number]]
        assert all(len(share[number]) > 0 for share in shares)
        if len(expected) >= ranks:
            assert sorted(together) == sorted(expected)
        else:  # a rank would have had nothing
            assert set(expected) <= set(together)
            assert len(together) == ranks


@pytest.mark.skipif(not enough_cores, reason="two processes need two cores")
@pytest.mark.parametrize("size", [5, 48])  # ten batches, the last of three images; one batch, and none for the second
def test_every_rank_gets_the_emotion_space_of_one_process(size):
    images = EmoSet(str(assets() / "tree"), image_size=32, diffusion_size=None, eval_batch_size=size)
    model = build("joint").eval().model
    config = model.space_config = EmotionSpaceConfig(bank_size=3, mixture_images=5)
    batches = list(images.evaluation_loader("train"))
    with torch.no_grad():
        parts = [model.fused_features(model.features(batch.images)) for batch in batches]
    features = {kind: torch.cat([part[kind] for part in parts]) for kind in parts[0]}
    model.space.fit(features, torch.cat([batch.emotion for batch in batches]), config, seed=1)
    expected = {name: value.clone() for name, value in model.space.state_dict().items()}

    def fitted(rank=0):
        fit_space(model, images.evaluation_loader("train"), torch.device("cpu"), seed=1)
        return model.space.state_dict()

    for found in (*on_ranks(fitted), fitted()):
        for name, value in expected.items():
            assert torch.equal(found[name], value) or not name.startswith(("bank_", "mixture_")), name
            assert torch.allclose(found[name], value, rtol=1e-6, atol=1e-7), name
    assert torch.bincount(expected["bank_emotion"]).max() == 3
    assert len(expected["mixture_emotion"]) >= 8
