import pytest
import torch

from uniemo.modules import random as randoms
from uniemo.modules.random import generator, mixed_seed, sample_integers, sample_noise, sample_uniform

OTHERS = ({"seed": 2, "step": 9}, {"seed": 1, "step": 8}, {"seed": 1, "step": 9, "stream": 1})


@pytest.mark.parametrize(
    "sample", [lambda ids, **key: sample_noise(ids, (2, 4), **key), lambda ids, **key: sample_uniform(ids, **key)]
)
def test_numbers_depend_on_seed_step_and_sample_only(sample):
    ids = torch.tensor([3, 2**40, 5])
    numbers = sample(ids, seed=1, step=9)
    assert torch.equal(sample(ids.flip(0), seed=1, step=9), numbers.flip(0))
    assert torch.equal(sample(ids[1:2], seed=1, step=9)[0], numbers[1])
    assert not any(torch.equal(sample(ids, **other), numbers) for other in OTHERS)


def test_noise_leaves_the_global_state_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    sample_noise(torch.arange(4), (2,), 0, 0)
    sample_integers(torch.arange(4), 10, 0, 0)
    assert torch.equal(torch.rand(3), expected)


def test_noise_is_standard_normal_and_timesteps_uniform():
    noise = sample_noise(torch.arange(500), (20,), 0, 0)
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05
    steps = sample_integers(torch.arange(2000), 10, 0, 0)
    counts = torch.bincount(steps, minlength=10)
    assert len(counts) == 10
    assert counts.min() > 140


def test_mixed_seed_depends_on_the_order():
    assert mixed_seed(1, 2) != mixed_seed(2, 1)
    assert 0 <= mixed_seed(0) < 2**63
    assert generator(1, 2).initial_seed() == mixed_seed(1, 2)


def test_uniform_numbers_are_those_of_splitmix64(monkeypatch):
    """The first three numbers of seed 0, as java.util.SplittableRandom(0).nextLong() gives them."""
    monkeypatch.setattr(randoms, "mixed_seed", lambda *numbers: 0)
    expected = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert sample_uniform(torch.arange(3), 0, 0).tolist() == [(number >> 11) / 2**53 for number in expected]
