"""The head of valence and arousal, its loss against a plain reference, and what it changes about models."""

import numpy as np
import pytest
import torch
from tiny import VOCABULARY

from uniemo.models.affect_head import AffectHead, affect_loss, to_scale, to_shares
from uniemo.models.encoder import EncoderConfig
from uniemo.models.head import HeadConfig
from uniemo.models.uniemo import UniEmoModel
from uniemo.vocabulary import Vocabulary

RATED = Vocabulary(VOCABULARY.emotions, VOCABULARY.scenes, VOCABULARY.objects, (1.0, 7.0))


def example(count=9):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 2, generator=generator), torch.rand(count, 2, generator=generator)


def concordance(x, y, ddof=0):
    """Lin's coefficient in NumPy; torchmetrics divides by N - 1."""
    return 2 * np.cov(x, y, ddof=ddof)[0, 1] / (x.var(ddof=ddof) + y.var(ddof=ddof) + (x.mean() - y.mean()) ** 2)


def test_loss_against_numpy():
    x, y = example()
    y[3] = torch.nan  # not rated
    kept = [row for row in range(9) if row != 3]
    parts = [[values[kept, axis].double().numpy() for values in (x, y)] for axis in (0, 1)]
    wanted = 1 - np.mean([concordance(*part) for part in parts])
    assert affect_loss(x, y).item() == pytest.approx(wanted, abs=1e-5)


def test_loss_of_identities():
    x, y = example()
    assert affect_loss(x, x).item() == pytest.approx(0, abs=1e-6)
    assert affect_loss(x, 1 - x).item() > 1
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    assert affect_loss(x[order], y[order]).item() == pytest.approx(affect_loss(x, y).item(), abs=1e-6)
    on_scale = affect_loss(to_scale(x, (1, 7)), to_scale(y, (1, 7)))
    assert on_scale.item() == pytest.approx(affect_loss(x, y).item(), abs=1e-5)


@pytest.mark.parametrize("rated", [0, 1])
def test_fewer_than_two_rated_images_have_no_loss(rated):
    x, y = example()
    x.requires_grad_(True)
    y[rated:] = torch.nan
    loss = affect_loss(x, y)
    loss.backward()
    assert loss == 0
    assert torch.equal(x.grad, torch.zeros_like(x))


def test_gradient_is_finite_where_all_ratings_are_the_same():
    x = torch.full((4, 2), 0.5, requires_grad=True)
    affect_loss(x, torch.full((4, 2), 0.5)).backward()
    assert x.grad.isfinite().all()


def test_unrated_images_have_no_gradient():
    x, y = example()
    x.requires_grad_(True)
    y[2, 0] = torch.nan
    affect_loss(x, y).backward()
    assert (x.grad[2] == 0).all()
    assert (x.grad[3] != 0).all()


def test_scales_round_trip():
    assert to_scale(torch.tensor([0.0, 0.5, 1.0]), (1, 7)).tolist() == [1, 4, 7]
    assert torch.equal(to_shares(torch.tensor([-1.0, 0.0, 1.0]), (-1, 1)), torch.tensor([0, 0.5, 1]))


def test_head_stays_within_the_scale():
    head = AffectHead(4, hidden=8).eval()
    shares = head(100 * torch.randn(50, 4, generator=torch.Generator().manual_seed(0)))
    assert shares.shape == (50, 2)
    assert ((shares >= 0) & (shares <= 1)).all()


def test_only_a_vocabulary_with_a_scale_brings_the_head(clip_folder, images):
    encoder, head = EncoderConfig(clip=clip_folder, query_length=4), HeadConfig(hidden=8)
    models = []
    for vocabulary in (VOCABULARY, RATED):
        torch.manual_seed(0)
        models.append(UniEmoModel.build(vocabulary, encoder, head).eval())
    plain, rated = models
    first, second = plain.trained_state_dict(), rated.trained_state_dict()
    assert {name.partition(".")[0] for name in second.keys() - first.keys()} == {"affect_head"}
    assert all(torch.equal(first[name], second[name]) for name in first)  # nothing else starts elsewhere
    logits, affect = rated.outputs(images)
    assert torch.equal(logits, plain(images))
    assert affect.shape == (len(images), 2)
    assert ((affect > 1) & (affect < 7)).all()
    assert plain.outputs(images)[1] is None
