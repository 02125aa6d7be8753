import itertools

import numpy as np
import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.metrics import EMOGEN, STRICT, Protocol, plan_evaluation
from uniemo.metrics.pair_store import PairStore
from uniemo.metrics.pairs import ring_pairs

EMOTIONS = ("awe", "fear", "anger")


def _names(*counts):
    return {emotion: [f"{emotion}{k}" for k in range(n)] for emotion, n in zip(EMOTIONS, counts, strict=False)}


def _set(i, j):
    return {frozenset(pair) for pair in zip(i.tolist(), j.tolist(), strict=True)}


@pytest.mark.parametrize("count", [2, 3, 4, 10, 45])
def test_all_pairs_when_fewer_exist(count):
    i, j = ring_pairs(count, 10**6)
    assert len(i) == count * (count - 1) // 2
    assert _set(i, j) == set(map(frozenset, itertools.combinations(range(count), 2)))


@pytest.mark.parametrize(("count", "pairs"), [(50, 300), (200, 1000), (6, 15), (6, 14), (1000, 1000), (2000, 1000)])
def test_ring_pairs_are_distinct_and_near(count, pairs):
    i, j = ring_pairs(count, pairs)
    assert len(_set(i, j)) == len(i) == pairs
    assert ((j - i) % count).max() <= -(-pairs // count)
    assert ring_pairs(1, 5)[0].size == 0


def test_each_pair_is_equally_likely():
    counts = np.zeros((5, 5))
    for seed in range(1500):
        plan = plan_evaluation(_names(5), EMOTIONS, [Protocol("strict", pairs=3)], seed)
        for i, j in zip(plan.pairs["strict"].first, plan.pairs["strict"].second, strict=True):
            a, b = sorted((int(plan.names[i][-1]), int(plan.names[j][-1])))
            counts[a, b] += 1
    upper = counts[np.triu_indices(5, 1)] / 4500
    assert np.abs(upper - 0.1).max() < 0.02


def test_plan_depends_on_names_and_seed_only():
    plan = plan_evaluation(_names(6, 4), EMOTIONS, [STRICT, EMOGEN])
    turned = {emotion: part[::-1] for emotion, part in reversed(_names(6, 4).items())}
    again = plan_evaluation(turned, EMOTIONS, [STRICT, EMOGEN])
    assert plan.names == again.names
    for name in ("strict", "emogen"):
        np.testing.assert_array_equal(plan.pairs[name].first, again.pairs[name].first)
        np.testing.assert_array_equal(plan.pairs[name].second, again.pairs[name].second)
    assert plan.names != plan_evaluation(_names(6, 4), EMOTIONS, [STRICT], seed=1).names
    assert plan.counts == {"awe": 6, "fear": 4}


def test_pairs_stay_inside_one_emotion_unless_the_pool_accumulates():
    plan = plan_evaluation(_names(8, 8, 8), EMOTIONS, [Protocol("strict", pairs=30), EMOGEN])
    strict, emogen = plan.pairs["strict"], plan.pairs["emogen"]
    assert (plan.emotion[strict.first] == strict.emotion).all()
    assert (plan.emotion[strict.second] == strict.emotion).all()
    assert (plan.emotion[emogen.first] <= emogen.emotion).all()
    assert (emogen.first != emogen.second).all()
    assert (plan.emotion[emogen.first] < emogen.emotion).any()
    assert np.bincount(emogen.emotion).tolist() == [10, 10, 10]


def test_plan_refusals():
    for names, match in (
        (_names(3, 1), "at least 2 images of each emotion; got fewer of fear"),
        ({"awe": ["a", "b"], "fear": []}, "fewer of fear"),
        ({}, "fewer of all"),
        ({"boredom": ["a", "b"]}, "'boredom'"),
        ({"awe": ["a", "b"], "fear": ["c", "a"]}, "'a' comes more than once"),
    ):
        with pytest.raises(UniEmoError, match=match):
            plan_evaluation(names, EMOTIONS, [STRICT])
    for settings, match in (
        ({"pairs": 0}, "pairs must be at least 1"),
        ({"lpips_range": "both"}, "lpips_range must be one of signed, unit; got 'both'"),
        ({"pool": "accumulated"}, "accumulated pool"),
    ):
        with pytest.raises(ValueError, match=match):
            Protocol("x", **settings)


@pytest.mark.parametrize(("draw", "batch"), [("ring", 4), ("ring", 40), ("independent", 4), ("independent", 1)])
def test_store_gives_every_distance(draw, batch):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(30, 50, generator=generator)
    vectors[7] = vectors[3]  # the same picture twice
    vectors[9] = vectors[4] + 1e-4  # nearly
    protocol = Protocol("p", pairs=60, draw=draw, pool="accumulated" if draw == "independent" else "emotion")
    plan = plan_evaluation(_names(18, 12), EMOTIONS, [protocol]).pairs["p"]
    store = PairStore(plan.first, plan.second)
    found = np.full(len(plan.first), np.nan)
    for rows in torch.arange(30).split(batch):
        pairs, distances = store.add(rows.tolist(), vectors[rows])
        found[pairs] = distances
    both = vectors.double()
    expected = (both[plan.first] - both[plan.second]).square().sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)
    assert not store.kept
    assert store.wanted(range(30)) == []
