import itertools

import numpy as np
import pytest
import torch

from uniemo.errors import UniEmoError
from uniemo.metrics import PairwiseDistance, SemanticDiversity
from uniemo.metrics.pairs import pair_distances, random_pairs


def _data(n=30, size=6, classes=3):
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(n, size, generator=generator).half().float()
    return vectors, torch.randint(classes, (n,), generator=generator), torch.arange(n) * 3 + 5


def _reference(vectors, emotion, label):
    members = [v.double() for v, e in zip(vectors, emotion, strict=True) if e == label]
    return np.mean([float(((a - b) ** 2).sum()) for a, b in itertools.combinations(members, 2)])


@pytest.mark.parametrize("count", [2, 3, 10, 200])
def test_all_pairs_when_fewer_exist(count):
    i, j = random_pairs(count, 10**6, 0)
    assert set(zip(i.tolist(), j.tolist(), strict=True)) == set(itertools.combinations(range(count), 2))


def test_random_pairs_are_distinct_seeded_and_uniform():
    i, j = random_pairs(50, 300, 1)
    assert len(set(zip(i.tolist(), j.tolist(), strict=True))) == 300
    assert (i < j).all()
    np.testing.assert_array_equal(i, random_pairs(50, 300, 1)[0])
    assert not np.array_equal(i, random_pairs(50, 300, 2)[0])
    counts = np.zeros(5)
    for seed in range(2000):
        first, second = random_pairs(5, 1, seed)
        counts[[first[0], second[0]]] += 1
    assert np.abs(counts / 4000 - 0.2).max() < 0.03


def test_all_pairs_agree_with_the_reference():
    vectors, emotion, ids = _data()
    expected = [_reference(vectors, emotion, label) for label in range(3)]
    np.testing.assert_allclose(pair_distances(vectors, emotion, ids, 3), expected, rtol=1e-6)
    metric = PairwiseDistance(3, average="none")
    diversity = SemanticDiversity(3)
    for part in range(0, 30, 7):
        rows = slice(part, part + 7)
        metric.update(vectors[rows], emotion[rows], ids[rows])
        diversity.update(vectors[rows], emotion[rows], ids[rows])
    np.testing.assert_allclose(metric.compute(), expected, rtol=1e-6)
    assert float(diversity.compute()) == pytest.approx(np.mean(expected) / 6, rel=1e-6)


def test_order_and_repeated_samples_do_not_matter():
    vectors, emotion, ids = _data()
    order = torch.randperm(30, generator=torch.Generator().manual_seed(1))
    repeated = torch.cat([order, order[:5]])
    expected = pair_distances(vectors, emotion, ids, 3, pairs=10, seed=4)
    got = pair_distances(vectors[repeated], emotion[repeated], ids[repeated], 3, pairs=10, seed=4)
    torch.testing.assert_close(got, expected)
    assert not torch.equal(expected, pair_distances(vectors, emotion, ids, 3, pairs=10, seed=5))


def test_pairs_stay_inside_one_emotion():
    vectors = torch.tensor([[0.0], [0.0], [100.0], [100.0]])
    assert pair_distances(vectors, torch.tensor([0, 0, 1, 1]), torch.arange(4), 2).tolist() == [0.0, 0.0]


def test_identical_images_have_no_distance():
    metric = PairwiseDistance(1)
    metric.update(torch.ones(4, 3), torch.zeros(4, dtype=torch.long), torch.arange(4))
    assert float(metric.compute()) == 0


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_too_few():
    vectors, emotion, ids = torch.ones(2, 3), torch.tensor([0, 1]), torch.arange(2)
    assert pair_distances(vectors, emotion, ids, 2).isnan().all()
    metric = SemanticDiversity(2)
    with pytest.raises(UniEmoError, match="at least 2 images"):
        metric.compute()
    metric.update(vectors, emotion, ids)
    with pytest.raises(UniEmoError, match="at least 2 images"):
        metric.compute()
    with pytest.raises(UniEmoError, match="pairs"):
        PairwiseDistance(2, pairs=0)


def test_states_gather_over_ranks():
    assert all(reduction.__name__ == "dim_zero_cat" for reduction in PairwiseDistance(2)._reductions.values())
