"""Paired tests against SciPy, by hand, and on noise of a known kind."""

import numpy as np
import pytest
from scipy import stats

from uniemo.studies.significance import holm, over_seeds, over_seeds_and_pictures


def test_over_seeds_is_the_paired_t_test():
    ours, theirs = [60.0, 66.0, 63.0, 61.0, 60.5], [50.0, 54.0, 52.0, 57.0, 58.0]
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    error, p = over_seeds(differences)
    assert p == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert error == pytest.approx(stats.sem(differences))
    assert over_seeds(differences[::-1]) == pytest.approx((error, p))  # the order of seeds does not matter
    assert over_seeds([-value for value in differences]) == pytest.approx((error, p))


def test_twice_the_standard_error_of_three_seeds_is_no_finding():
    error, p = over_seeds([1.0, 2.0, 4.5])
    assert 2.5 / error > 2.0
    assert p == pytest.approx(0.14, abs=0.01)


@pytest.mark.parametrize(("value", "p"), [(0.0, 1.0), (2.0, 0.0)])
def test_ties(value, p):
    assert over_seeds([value] * 5) == (0.0, p)
    assert over_seeds_and_pictures(np.full((5, 8), value)) == (0.0, p)


def test_by_hand():
    """Two seeds, three pictures: mean squares of seeds 1/6, of pictures 1/2, of the rest 1/6."""
    differences = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    error, p = over_seeds_and_pictures(differences)
    squares = {"seeds": 3 * np.var([2 / 3, 1 / 3], ddof=1), "pictures": 2 * np.var([0.5, 1.0, 0.0], ddof=1)}
    rest = (np.square(differences - 0.5).sum() - squares["seeds"] - 2 * squares["pictures"]) / 2
    total = squares["seeds"] + squares["pictures"] - rest
    assert (squares["seeds"], squares["pictures"], rest) == pytest.approx((1 / 6, 1 / 2, 1 / 6))
    degrees = total**2 / (squares["seeds"] ** 2 / 1 + squares["pictures"] ** 2 / 2 + rest**2 / 2)
    assert error == pytest.approx(np.sqrt(total / 6))
    assert p == pytest.approx(2 * stats.t.sf(0.5 / error, max(1, degrees)))


def test_order_of_seeds_and_pictures_does_not_matter():
    generator = np.random.default_rng(0)
    differences = generator.integers(-1, 2, (5, 50)).astype(float)
    mixed = differences[generator.permutation(5)][:, generator.permutation(50)]
    assert over_seeds_and_pictures(mixed) == pytest.approx(over_seeds_and_pictures(differences))


@pytest.mark.parametrize(("by_seed", "by_picture"), [(0.0, 0.0), (0.03, 0.0), (0.0, 0.2), (0.02, 0.2)])
def test_no_difference_is_rarely_found(by_seed, by_picture):
    """Rows that differ by nothing but chance, in some with effects that all pictures of a seed or all seeds share."""
    generator = np.random.default_rng(1)

    def differences():
        lean = generator.normal(0, by_seed, (5, 1)) + generator.normal(0, by_picture, (1, 200))
        chance = generator.random((5, 200))
        return (chance < 0.1 + lean / 2).astype(float) - (chance > 0.9 + lean / 2)

    found = np.array([over_seeds_and_pictures(differences())[1] for _ in range(600)])
    assert (found < 0.05).mean() < 0.075  # 0.05 and three standard errors


def test_a_difference_on_many_pictures_is_found_with_five_seeds():
    generator = np.random.default_rng(2)
    ease = generator.normal(0.3, 0.3, 4000)  # of a picture, for both rows
    ours, theirs = (ease + generator.normal(0, 0.15, (5, 4000)) + gain > 0 for gain in (0.05, 0.0))
    differences = ours.astype(float) - theirs
    assert 0.02 < differences.mean() < 0.04
    assert over_seeds_and_pictures(differences)[1] < 1e-4


def test_holm():
    """0.005 × 4, 0.01 × 3, 0.03 × 2, then 0.04, which may not be below the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.6]) == pytest.approx([0.8, 0.8])  # at least as large as the one before, at most 1
    assert holm([0.9, 0.9, 0.9]) == [1.0, 1.0, 1.0]
    assert holm([]) == []
